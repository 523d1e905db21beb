// Open pairs, fetched ahead so that the next one is there at once.
import { get } from "../api.js";

const AT_ONCE = 8;
const FETCH_BELOW = 4;

export class Queue {
  constructor(objective) {
    this.objective = objective;
    this.pairs = [];
    this.seen = new Set();
    this.after = null;
    this.exhausted = false;
    this.fetching = null;
  }

  /** The next pair, or null when there is none. Raises Refused. */
  async next() {
    if (this.pairs.length === 0) await this.fetch();
    const pair = this.pairs.shift() ?? null;
    if (this.pairs.length < FETCH_BELOW && !this.exhausted)
      this.fetch().catch(() => {
        /* asked again with the next pair */
      });
    return pair;
  }

  putBack(pair) {
    this.pairs.unshift(pair);
  }

  fetch() {
    this.fetching ??= this.fetchPage().finally(() => {
      this.fetching = null;
    });
    return this.fetching;
  }

  async fetchPage() {
    const after = this.after ? `&after=${encodeURIComponent(this.after)}` : "";
    const page = await get(`/v1/comparisons?status=open&objective=${this.objective}&limit=${AT_ONCE}${after}`);
    for (const pair of page.data) {
      if (!this.seen.has(pair.id)) this.pairs.push(pair);
      this.seen.add(pair.id);
    }
    this.after = page.last_id ?? this.after;
    this.exhausted = !page.has_more;
  }
}
