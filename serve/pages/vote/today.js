// How many votes this rater has cast today, how far they agree with others, how many pairs are open to them, and what they
// are to go by.
import { get } from "../api.js";
import { element } from "../element.js";
import { render } from "../markdown.js";
import { OBJECTIVES } from "../objectives.js";
import { whole } from "../operate/figures.js";
import { keep, kept } from "../storage.js";

/** The guidelines that were folded last: others are shown again. */
const FOLDED = "tandem.guidelines";

export class Today {
  constructor() {
    this.node = element("p", { class: "today" });
    this.open = element("p", { class: "open-pairs" });
    this.guidelines = element("div");
    this.count = null;
    this.agreement = null;
    this.left = {};
  }

  /** Ask the record. Raises Refused. */
  async read() {
    const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
    const own = await get(`/v1/raters/me?since=${midnight}`);
    this.count = own.votes_since;
    this.agreement = own.agreement_with_others;
    this.left = own.open;
    this.draw();
    this.drawGuidelines(own.guidelines);
  }

  drawGuidelines(text) {
    if (!text.trim()) return;
    const body = element("div", { class: "prose" });
    body.append(render(text));
    const remember = (event) => keep(FOLDED, event.target.open ? "" : text);
    this.guidelines.replaceChildren(
      element(
        "details",
        { class: "guidelines", open: kept(FOLDED) !== text, ontoggle: remember },
        element("summary", {}, "Guidelines"),
        body,
      ),
    );
  }

  /** A vote was cast (1) or taken back (-1). */
  add(by, objective) {
    if (this.count === null) return;
    this.count = Math.max(0, this.count + by);
    this.left[objective] = Math.max(0, this.left[objective] - by);
    this.draw();
  }

  draw() {
    const open = Object.keys(OBJECTIVES).map((objective) => `${whole(this.left[objective])} ${objective}`);
    this.open.textContent = `open: ${open.join(", ")}`;
    const agreement = this.agreement === null ? "" : ` · ${Math.round(100 * this.agreement)} % as others do`;
    this.node.textContent = `${this.count === 1 ? "1 vote" : `${this.count} votes`} today${agreement}`;
    this.node.title =
      agreement && "On pairs that others have voted on too. People often differ: two in three is usual.";
  }
}
