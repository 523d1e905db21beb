// The parts that the operator's pages are made of.
import { element } from "../element.js";

export function section(title, ...content) {
  return element("section", { "aria-label": title }, element("h2", {}, title), content);
}

export function help(...content) {
  return element("p", { class: "help" }, content);
}

/** The few figures that a section turns on: `[name, value, what it says]`. */
export function headline(figures) {
  return element(
    "dl",
    { class: "headline" },
    figures.map(([name, value, said]) =>
      element(
        "div",
        {},
        element("dt", {}, name),
        element("dd", {}, element("strong", {}, value), element("span", {}, said)),
      ),
    ),
  );
}

/** What is known of a thing in a few words: `[name, value]`; false ones are left out. */
export function facts(known) {
  return element(
    "dl",
    { class: "facts" },
    known.filter(Boolean).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

/** A version, and the way to its page. */
export function versionLink(version) {
  return element("a", { href: `/operate/${version}` }, version);
}

/** A state in its colour; `told` is what it is called where that is another word. */
export function stateMark(state, { told = state, title = null } = {}) {
  return element("span", { class: `state ${state}`, title }, told);
}

/** The end of an id, which tells it from others; the whole of it as its title. */
export function shortId(id) {
  return element("code", { title: id }, `…${id.slice(-8)}`);
}

/** Has the text around it run the other way, or is not seen at all. */
const UNSEEN = /[\p{Cc}\p{Cf}]/gu;

/** A name as it is shown: none looks like another. */
export const shownName = (name) => name.replace(UNSEEN, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);

/** Who decided something: a key, or a part of Tandem by its name. */
export function actor(name) {
  return name.startsWith("key_") ? element("code", { title: name }, `key …${name.slice(-8)}`) : name;
}

/** The sections, each with an id, after a list of links to them; each is called what its `aria-label` says. */
export function withJumpLinks(sections) {
  const links = sections.map((section) => {
    const name = section.getAttribute("aria-label");
    section.id = name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    // So that the focus, which follows the link, can come here.
    section.tabIndex = -1;
    return element("a", { href: `#${section.id}` }, name);
  });
  return [element("nav", { class: "jump-links", "aria-label": "On this page" }, links), ...sections];
}
