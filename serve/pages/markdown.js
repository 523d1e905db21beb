// Text of a policy or a person as elements: markdown-it without HTML, then DOMPurify, then a fragment, never a string.
import DOMPurify from "./vendor/dompurify.js";
import MarkdownIt from "./vendor/markdown-it.js";

// No images: nothing on this page is ever fetched because a reply said so.
const markdown = new MarkdownIt("default", { html: false, linkify: true, breaks: true }).disable("image");

for (const cell of ["th_open", "td_open"]) {
  markdown.renderer.rules[cell] = (tokens, index, options, _, renderer) => {
    const alignment = /text-align:(\w+)/.exec(tokens[index].attrGet("style") ?? "")?.[1];
    // Styles in attributes are against the page's policy; a class says the same.
    tokens[index].attrs = alignment ? [["class", `align-${alignment}`]] : [];
    return renderer.renderToken(tokens, index, options);
  };
}

const ALLOWED = {
  ALLOWED_TAGS: [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
  ],
  ALLOWED_ATTR: ["href", "class", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Longer texts are shown as they are: their elements would keep the page from answering for seconds. */
const LONGEST_MARKDOWN = 100_000;
const LONGEST_PIECE = 10_000;

/** A document fragment of `text`. Headings become paragraphs: the outline of the page is its own. */
export function render(text) {
  if (text.length > LONGEST_MARKDOWN) return asItIs(text);
  const fragment = DOMPurify.sanitize(markdown.render(text), ALLOWED);
  for (const heading of fragment.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const paragraph = document.createElement("p");
    paragraph.className = "said-heading";
    paragraph.append(...heading.childNodes);
    heading.replaceWith(paragraph);
  }
  // They scroll where they are wider than the page, by keys too.
  for (const wide of fragment.querySelectorAll("pre, table")) wide.setAttribute("tabindex", "0");
  // Bullets, bars and columns stand where what is written begins.
  for (const block of fragment.querySelectorAll("ul, ol, blockquote, table")) block.setAttribute("dir", "auto");
  return fragment;
}

/** A document fragment of `text` without any markup, in pieces: the browser lays out those that are seen. */
export function asItIs(text) {
  const fragment = document.createDocumentFragment();
  for (let at = 0; at < text.length || at === 0; ) {
    const piece = document.createElement("p");
    piece.className = "as-it-is";
    piece.textContent = pieceOf(text, at);
    fragment.append(piece);
    at += piece.textContent.length || 1;
  }
  return fragment;
}

/** Up to the end of a line, else of a word, where one ends in time. */
function pieceOf(text, at) {
  const piece = text.slice(at, at + LONGEST_PIECE);
  if (at + piece.length === text.length) return piece;
  const end = piece.lastIndexOf("\n") + 1 || piece.lastIndexOf(" ") + 1;
  // Two halves of one character stay together.
  return end ? piece.slice(0, end) : piece.replace(/[\uD800-\uDBFF]$/, "");
}
