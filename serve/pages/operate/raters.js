// Those who vote: how reliable they seem and why, and setting one apart.
import { announce } from "../announce.js";
import { call, get, listAll, Refused } from "../api.js";
import { element } from "../element.js";
import { askReason } from "./reason_dialog.js";
import { figure, share, whole } from "./figures.js";
import { section, shownName, stateMark } from "./section.js";
import { sortableTable } from "./sortable.js";

export class RatersSection {
  /** `onRead(raters)` is told who there is. */
  constructor(onRead) {
    this.onRead = onRead;
    this.content = element("div", { class: "stack" });
    this.node = section("Raters", this.content);
  }

  /** Raises Refused. */
  async read() {
    const [raters, { data: agreements }] = await Promise.all([listAll("/v1/raters"), get("/v1/raters/agreement")]);
    for (const rater of raters) rater.name = shownName(rater.name);
    this.onRead(raters);
    if (raters.length === 0) {
      this.content.replaceChildren(element("p", { class: "none" }, "Nobody has voted yet."));
      return;
    }
    this.content.replaceChildren(agreementSaid(agreements), this.table(raters));
  }

  table(raters) {
    const of = (name) => (rater) => rater.figures?.[name];
    const shared = (name, title, value) => ({
      name,
      title,
      numeric: true,
      value,
      cell: (rater) => share(value(rater)),
    });
    return sortableTable({
      caption: "Raters",
      rows: raters,
      by: 2,
      columns: [
        {
          name: "Rater",
          text: true,
          value: (rater) => rater.name || rater.id,
          cell: (rater) => element("span", { title: rater.id }, rater.name || `…${rater.id.slice(-8)}`),
        },
        {
          name: "State",
          value: (rater) => rater.state,
          cell: (rater) => stateMark(rater.state, { title: rater.reason }),
        },
        { name: "Votes", numeric: true, value: (rater) => rater.votes, cell: (rater) => whole(rater.votes) },
        shared("Reliability", "Estimated chance that a vote on an average pair is right", (rater) => rater.reliability),
        shared("With others", "Agrees with others", of("agreement_with_others")),
        shared("With itself", "Says the same of a pair that comes twice", of("agreement_with_repeats")),
        shared("With known", "Agrees with known answers", of("agreement_with_known_answers")),
        shared("Left", "Share of votes for the left side; half is fair", of("share_left")),
        {
          name: "Seconds",
          title: "Median time on a pair",
          numeric: true,
          value: of("median_elapsed_s"),
          cell: (rater) => figure(of("median_elapsed_s")(rater), 1),
        },
        { name: "Decide", value: (rater) => rater.state, cell: (rater) => this.button(rater) },
      ],
    });
  }

  button(rater) {
    const name = rater.name || `…${rater.id.slice(-8)}`;
    if (rater.state === "quarantined") {
      return element(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => this.change(rater, "release"),
        },
        "Release",
        element("span", { class: "only-heard" }, ` ${name}`),
      );
    }
    return element(
      "button",
      {
        type: "button",
        class: "quiet",
        onclick: () =>
          askReason({
            title: `Set ${name} apart`,
            said: "Their votes, and those to come, count nowhere until they are released.",
            action: "Set apart",
            doing: "Setting apart…",
            act: ({ reason }) => this.change(rater, "quarantine", { reason }),
          }),
      },
      "Set apart…",
      element("span", { class: "only-heard" }, ` ${name}`),
    );
  }

  /** What went wrong, or null. */
  async change(rater, how, body) {
    try {
      const { votes } = await call("POST", `/v1/raters/${rater.id}/${how}`, body);
      announce(how === "release" ? `${votes} votes count again.` : `${votes} votes are set apart.`);
      await this.read();
      return null;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      announce(`It did not happen: ${error.message}.`);
      return `It did not happen: ${error.message}.`;
    }
  }
}

/** Krippendorff's alpha of each objective. */
function agreementSaid(agreements) {
  const said = agreements.map(
    ({ objective, agreement, pairs }) => `${objective} ${figure(agreement, 2)} (${whole(pairs)} pairs)`,
  );
  return element(
    "p",
    { title: "Krippendorff's alpha of the pairs that several raters decided: 1, all agree; 0, as often as by chance" },
    `Agreement beyond chance: ${said.join(", ")}`,
  );
}
