// The parts that sections of evidence are made of.
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

/** The end of an id, which tells it from others; the whole of it as its title. */
export function shortId(id) {
  return element("code", { title: id }, `…${id.slice(-8)}`);
}
