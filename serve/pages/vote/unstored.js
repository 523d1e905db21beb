// Votes that the server did not take: said until they are stored or dropped, and kept in the browser, apart for each key.
import { element, problem } from "../element.js";
import { forget, keep, keptNames, keptValue } from "../storage.js";

export class Unstored {
  /** `store(vote)` tries again to store `{comparison, objective, judgement}`, and says what came of it by `add` or `drop`. */
  constructor(keyId, store) {
    this.prefix = `tandem.unstored.${keyId}.`;
    this.store = store;
    this.node = element("div");
    this.votes = new Map();
    // A browser keeps no order.
    const kept = keptNames(this.prefix).map(keptValue).filter((vote) => vote?.judgement);
    for (const vote of kept.sort((one, other) => one.at - other.at)) this.votes.set(this.name(vote), vote);
    this.draw();
  }

  /** The newest word on a pair takes the place of the one before. */
  add(vote, why) {
    vote.at ??= Date.now();
    this.votes.set(this.name(vote), vote);
    keep(this.name(vote), JSON.stringify(vote));
    this.why = why;
    this.draw();
  }

  drop(vote) {
    if (!this.votes.delete(this.name(vote))) return;
    forget(this.name(vote));
    this.draw();
  }

  name({ comparison, objective }) {
    return `${this.prefix}${comparison}.${objective}`;
  }

  draw() {
    const { size } = this.votes;
    const which = size === 1 ? "One vote was" : `${size} votes were`;
    const each = async (act) => {
      this.busy = true;
      try {
        for (const vote of [...this.votes.values()]) await act(vote);
      } finally {
        this.busy = false;
        this.draw();
      }
    };
    const button = (label, act) => [
      " ",
      element("button", { type: "button", disabled: this.busy, onclick: () => each(act) }, label),
    ];
    this.node.replaceChildren(
      size
        ? problem(
            `${which} not stored${this.why ? `: ${this.why}` : ""}.`,
            button("Try again", this.store),
            button(size === 1 ? "Drop it" : "Drop them", (vote) => this.drop(vote)),
          )
        : "",
    );
  }
}
