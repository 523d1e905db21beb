// How one turn of a conversation looks.
import { element } from "../element.js";
import { render } from "../markdown.js";
import { verdict } from "../objectives.js";

export function userTurn(turn) {
  return element(
    "article",
    { class: "turn user", "aria-label": "You" },
    element("div", { class: "prose plain" }, turn.content),
  );
}

/** A reply that is there; `actions` are the buttons below it. */
export function assistantTurn(turn, actions = []) {
  const body = element("div", { class: "prose" });
  body.append(render(turn.content));
  return element(
    "article",
    { class: "turn assistant", "aria-label": "Tandem" },
    body,
    element(
      "footer",
      {},
      turn.version && element("span", { class: "version", title: "The policy version that wrote this" }, turn.version),
      turn.vote && element("span", {}, said(turn)),
      turn.stopped && element("span", {}, "stopped"),
      actions,
    ),
    turn.other &&
      element("details", { class: "other" }, element("summary", {}, "The other reply"), otherBody(turn.other)),
  );
}

/** A reply that is being written: `add(text)` as it comes. */
export function writingTurn() {
  const body = element("div", { class: "prose" });
  const node = element(
    "article",
    { class: "turn assistant writing", "aria-label": "Tandem", "aria-busy": "true" },
    body,
  );
  let text = "";
  let waiting = false;
  return {
    node,
    get text() {
      return text;
    },
    add(piece) {
      text += piece;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        body.replaceChildren(render(text));
      });
    },
  };
}

export function copyButton(text) {
  const button = element("button", { class: "quiet", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  });
  return button;
}

function said(turn) {
  const [chosen, other] = [turn.version, turn.other?.version];
  return `${verdict(turn.vote)}${chosen && other ? ` · chosen ${chosen}, other ${other}` : ""}`;
}

function otherBody(other) {
  const body = element("div", { class: "prose" });
  body.append(render(other.content));
  return body;
}
