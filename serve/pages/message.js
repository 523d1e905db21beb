// Messages, as the API gives them.

/** What a message says: its text, or its parts of text one after the other. */
export function textOf({ content }) {
  return typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? part.refusal ?? "").join("");
}
