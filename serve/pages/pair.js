// Two replies side by side, blind: A and B. They may be complete or still be written, in step.
import { element } from "./element.js";
import { render } from "./markdown.js";
import { paced } from "./pacing.js";

export class Pair {
  /** `drawing(draw)` has what is being written drawn. */
  constructor(drawing = (draw) => draw()) {
    this.texts = ["", ""];
    this.bodies = [0, 1].map(() => element("div", { class: "prose" }));
    this.versions = [0, 1].map(() => element("span", { class: "version", hidden: true }));
    this.sides = [0, 1].map((side) =>
      element(
        "article",
        { class: "side", "aria-label": `Reply ${"AB"[side]}` },
        element("header", {}, element("span", { class: "letter" }, "AB"[side]), this.versions[side]),
        this.bodies[side],
      ),
    );
    this.node = element("div", { class: "pair" }, this.sides);
    this.drawSoon = paced(() => drawing(() => this.draw()));
  }

  /** Add what was just written; both sides are drawn together. */
  add(side, text) {
    this.texts[side] += text;
    this.drawSoon();
  }

  set(texts) {
    this.texts = [...texts];
    this.draw();
  }

  draw() {
    for (const side of [0, 1]) this.bodies[side].replaceChildren(render(this.texts[side]));
  }

  /** Show which side is meant; null for neither. */
  mark(preferred) {
    for (const side of [0, 1]) this.sides[side].classList.toggle("chosen", preferred === side);
  }

  /** Only after the vote. */
  reveal(versions) {
    for (const side of [0, 1]) {
      this.versions[side].textContent = versions[side] ?? "of no version";
      this.versions[side].hidden = false;
    }
  }
}
