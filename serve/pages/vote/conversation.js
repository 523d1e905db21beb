// What was said before the two replies: the last message in full, what came before it folded where it is long.
import { element, none } from "../element.js";
import { asItIs, render } from "../markdown.js";

const NAMES = { user: "Person", assistant: "Assistant", system: "System", developer: "System", tool: "Tool" };
// So much of what came before stands open.
const OPEN_MESSAGES = 2;
const OPEN_CHARACTERS = 600;

/** An erased one has no messages. */
export function conversation(messages) {
  if (messages.length === 0) return none("What was said here was erased, or is no longer kept.");
  const earlier = messages.slice(0, -1);
  const isShort = earlier.length <= OPEN_MESSAGES && earlier.map(shownOf).join("").length <= OPEN_CHARACTERS;
  return element(
    "section",
    { class: "prompt", "aria-label": "The conversation" },
    earlier.length > 0 &&
      element(
        "details",
        { open: isShort },
        element("summary", {}, earlier.length === 1 ? "One earlier message" : `${earlier.length} earlier messages`),
        earlier.map(said),
      ),
    said(messages.at(-1)),
  );
}

/** One message: who says it, and what. */
export function said(message) {
  const { role } = message;
  const body = element("div", { class: "prose" });
  const text = shownOf(message) || "(nothing)";
  body.append(role === "assistant" ? render(text) : asItIs(text));
  return element("div", { class: `said ${role}` }, element("header", {}, NAMES[role] ?? role), body);
}

/** What a message of the API says: its text, or its parts one after the other. */
export function textOf({ content }) {
  return typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? part.refusal ?? `[${part.type}]`).join("");
}

/** What there is to judge: both replies of a pair, as Markdown. */
export function repliesOf({ choices }) {
  return choices.map(({ message }) => shownOf(message) || "(an empty reply)");
}

/** The text of a message with the tools that it calls below it. */
function shownOf(message) {
  const calls = [message.tool_calls ?? []].flat().map((call) => `~~~~~~\n${called(call)}\n~~~~~~`);
  return [textOf(message), ...calls].filter(Boolean).join("\n\n");
}

/** What was imported may call in any form. */
function called(call) {
  const { name, arguments: given } = call?.function ?? {};
  return typeof given === "string" ? `${name}(${given})` : JSON.stringify(call);
}
