// How one turn of a conversation looks, and what stands in the place of one that is not there.
import { announce } from "../announce.js";
import { element } from "../element.js";
import { asItIs, render } from "../markdown.js";
import { verdict } from "../objectives.js";
import { paced } from "../pacing.js";

const COPIED_SHOWN_MS = 1500;
const MOST_ROWS = 12;

/** What stands where nothing has been said yet. */
export function welcome() {
  return element(
    "div",
    { class: "welcome" },
    element("h1", {}, "What would you like to know?"),
    element(
      "p",
      {},
      "Replies come from the policy that serves now. Sometimes there are two: say which is better, and the next policy learns from it.",
    ),
  );
}

/** What stands in the place of a reply that did not come, with what can be done about it. */
export function unanswered(text, { onAsk, onChange }) {
  return element(
    "p",
    { class: "problem" },
    text,
    " ",
    element("button", { type: "button", onclick: onAsk }, "Ask again"),
    " ",
    element("button", { type: "button", onclick: onChange }, "Change it"),
  );
}

/** A message; `actions` are the buttons below it. */
export function userTurn(turn, actions = []) {
  return element(
    "article",
    { class: "turn user", "aria-label": "You" },
    element("div", { class: "prose" }, asItIs(turn.content)),
    actions.length > 0 && element("footer", {}, actions),
  );
}

/** A message that is being changed. `onSend(text)`; `onLeave()` leaves it as it was. */
export function editedTurn(turn, { onSend, onLeave }) {
  const text = element("textarea", {
    "aria-label": "Your message, changed",
    rows: Math.min(MOST_ROWS, turn.content.split("\n").length + 1),
    onkeydown: (event) => {
      if (event.key === "Escape") onLeave();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    },
  });
  text.value = turn.content;
  const form = element(
    "form",
    {
      class: "turn editing",
      "aria-label": "Change your message",
      onsubmit: (event) => {
        event.preventDefault();
        if (text.value.trim()) onSend(text.value.trim());
      },
    },
    text,
    element(
      "div",
      { class: "choices" },
      element("span", { class: "help" }, "What follows is replaced."),
      element("button", { type: "submit", class: "primary" }, "Send again"),
      element("button", { type: "button", class: "quiet", onclick: onLeave }, "Cancel"),
    ),
  );
  return form;
}

/** A reply that is there; `actions` are the buttons below it. */
export function assistantTurn(turn, actions = []) {
  return element(
    "article",
    { class: "turn assistant", "aria-label": "Tandem" },
    said(turn.content),
    wrong(turn) && element("p", { class: "problem" }, wrong(turn)),
    element(
      "footer",
      {},
      turn.version && element("span", { class: "version", title: "The policy version that wrote this" }, turn.version),
      turn.vote && element("span", {}, judged(turn)),
      turn.stopped && element("span", {}, "stopped"),
      turn.cut && element("span", {}, "cut off at the longest reply"),
      actions,
    ),
    turn.other &&
      element("details", { class: "other" }, element("summary", {}, "The other reply"), said(turn.other.content)),
  );
}

/** What is said of a reply that broke off, or whose vote cannot be stored. */
export function wrong({ broken, unstored }) {
  if (broken) return `It broke off here: ${broken}.`;
  return unstored && `The vote was not stored: ${unstored}.`;
}

/** A reply that is being written: `add(_, text)` as it comes, which `drawing(draw)` has drawn. */
export function writingTurn(drawing) {
  const body = element("div", { class: "prose" });
  const node = element(
    "article",
    { class: "turn assistant writing", "aria-label": "Tandem", "aria-busy": "true" },
    body,
  );
  let text = "";
  const drawSoon = paced(() => drawing(() => body.replaceChildren(render(text))));
  return {
    node,
    get text() {
      return text;
    },
    add(_, piece) {
      text += piece;
      drawSoon();
    },
  };
}

/** `what` is copied, for who does not see where the button stands. */
export function copyButton(text, what = "the reply") {
  const button = element("button", { class: "quiet", type: "button", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : "Not copied";
    announce(button.textContent);
    setTimeout(() => {
      button.textContent = "Copy";
    }, COPIED_SHOWN_MS);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // It is not there where the page came over plain HTTP from another machine; the older way is.
    const place = element("textarea", { class: "only-heard", "aria-hidden": "true" });
    place.value = text;
    document.body.append(place);
    place.select();
    const done = document.execCommand("copy");
    place.remove();
    return done;
  }
}

function judged(turn) {
  const [chosen, other] = [turn.version, turn.other?.version];
  return `${verdict(turn.vote)}${chosen && other ? ` · chosen ${chosen}, other ${other}` : ""}`;
}

/** What a policy said, each block of code with a button that copies it. */
function said(content) {
  const body = element("div", { class: "prose" });
  body.append(render(content));
  for (const code of body.querySelectorAll("pre")) {
    const block = element("div", { class: "code" });
    code.replaceWith(block);
    block.append(copyButton(code.textContent, "the code"), code);
  }
  return body;
}
