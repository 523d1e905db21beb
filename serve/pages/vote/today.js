// How many votes this rater has cast today, how far they agree with others, and what they are to go by.
import { get } from "../api.js";
import { element } from "../element.js";
import { render } from "../markdown.js";

/** The guidelines that were folded last: others are shown again. */
const FOLDED = "tandem.guidelines";

export class Today {
  constructor() {
    this.node = element("p", { class: "today" });
    this.guidelines = element("div");
    this.count = null;
    this.agreement = null;
  }

  /** Ask the record. Raises Refused. */
  async read() {
    const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
    const own = await get(`/v1/raters/me?since=${midnight}`);
    this.count = own.votes_since;
    this.agreement = own.agreement_with_others;
    this.draw();
    this.drawGuidelines(own.guidelines);
  }

  drawGuidelines(text) {
    if (!text.trim()) return;
    const body = element("div", { class: "prose" });
    body.append(render(text));
    const remember = (event) => localStorage.setItem(FOLDED, event.target.open ? "" : text);
    this.guidelines.replaceChildren(
      element(
        "details",
        { class: "guidelines", open: localStorage.getItem(FOLDED) !== text, ontoggle: remember },
        element("summary", {}, "Guidelines"),
        body,
      ),
    );
  }

  /** A vote was cast (1) or taken back (-1). */
  add(by) {
    if (this.count === null) return;
    this.count = Math.max(0, this.count + by);
    this.draw();
  }

  draw() {
    const agreement = this.agreement === null ? "" : ` · ${Math.round(100 * this.agreement)} % as others do`;
    this.node.textContent = `${this.count === 1 ? "1 vote" : `${this.count} votes`} today${agreement}`;
    this.node.title =
      agreement && "On pairs that others have voted on too. People often differ: two in three is usual.";
  }
}
