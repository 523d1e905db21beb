// How many votes this rater has cast today, and how far they agree with others.
import { get } from "../api.js";
import { element } from "../element.js";

export class Today {
  constructor() {
    this.node = element("p", { class: "today" });
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
