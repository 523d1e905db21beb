// Replies before and after, side by side: a few at once, the rest folded.
import { element } from "../element.js";
import { textOf } from "../vote/conversation.js";

const AT_ONCE = 3;

/** A node, or null where the evaluation kept none: `{messages, reference, candidate}`. */
export function samples(kept) {
  if (!kept?.length) return null;
  const more = kept.slice(AT_ONCE);
  return element(
    "div",
    { class: "samples" },
    kept.slice(0, AT_ONCE).map(sample),
    more.length > 0 &&
      element(
        "details",
        {},
        element("summary", {}, `${more.length} more`),
        element("div", { class: "samples" }, more.map(sample)),
      ),
  );
}

function sample({ messages, reference, candidate }) {
  return element(
    "article",
    { class: "sample" },
    element("p", { class: "asked" }, messages?.length ? textOf(messages.at(-1)) : ""),
    element("div", { class: "pair" }, side("before", reference), side("after", candidate)),
  );
}

function side(name, text) {
  return element(
    "div",
    { class: "side" },
    element("header", {}, name),
    element("div", { class: "prose plain" }, text || "(an empty reply)"),
  );
}
