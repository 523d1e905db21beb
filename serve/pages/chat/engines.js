// Waits for an engine: right after a start there is nothing yet that could write a reply.
import { element } from "../element.js";
import { get } from "../api.js";

const LOOK_INTERVAL_MS = 2000;

/** A notice that goes away when a policy is served; `onChange(ready)` follows it. Answers the notice and a stop function. */
export function engineNotice(onChange) {
  const text = element("span", {}, "Looking for an engine…");
  const notice = element(
    "div",
    { class: "notice waiting", role: "status", hidden: true },
    element("span", { class: "pulse" }),
    text,
  );
  let timer = null;
  let stopped = false;

  async function look() {
    let models = [];
    try {
      models = (await get("/v1/models")).data;
      text.textContent = "No engine serves yet. One is being started; this takes about half a minute.";
    } catch (error) {
      text.textContent = `No engine serves: ${error.message}.`;
    }
    if (stopped) return;
    notice.hidden = models.length > 0;
    onChange(models.length > 0);
    if (models.length === 0) timer = setTimeout(look, LOOK_INTERVAL_MS);
  }
  look();
  return {
    notice,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
