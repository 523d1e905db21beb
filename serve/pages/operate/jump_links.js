// Links to the sections of a long page, which stay in sight while it is scrolled.
import { element } from "../element.js";

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
