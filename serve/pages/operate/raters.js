// Those who vote: how reliable they seem and why, and setting one apart.
import { announce } from "../announce.js";
import { call, get, listAll, whyRefused } from "../api.js";
import { element, none } from "../element.js";
import { redraw } from "../focus.js";
import { askReason } from "./reason_dialog.js";
import { figure, share, toDigits, whole } from "./figures.js";
import { section, shownName, stateMark } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

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
      this.content.replaceChildren(none("Nobody has voted yet."));
      return;
    }
    redraw(this.content, agreementSaid(agreements), this.table(raters));
  }

  table(raters) {
    const of = (name) => (rater) => rater.figures?.[name];
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
        numeric("Votes", (rater) => rater.votes, whole),
        numeric(
          "Reliability",
          (rater) => rater.reliability,
          share,
          "Estimated chance that a vote on an average pair is right",
        ),
        numeric("With others", of("agreement_with_others"), share, "Agrees with others"),
        numeric("With itself", of("agreement_with_repeats"), share, "Says the same of a pair that comes twice"),
        numeric("With known", of("agreement_with_known_answers"), share, "Agrees with known answers"),
        numeric("Left", of("share_left"), share, "Share of votes for the left side; half is fair"),
        numeric("Seconds", of("median_elapsed_s"), toDigits(1), "Median time on a pair"),
        { name: "Decide", value: (rater) => rater.state, cell: (rater) => this.button(rater) },
      ],
    });
  }

  button(rater) {
    const name = rater.name || `…${rater.id.slice(-8)}`;
    const askToSetApart = () =>
      askReason({
        title: `Set ${name} apart`,
        said: "Their votes, and those to come, count nowhere until they are released.",
        action: "Set apart",
        doing: "Setting apart…",
        act: ({ reason }) => this.change(rater, "quarantine", { reason }),
      });
    const [label, onclick] =
      rater.state === "quarantined" ? ["Release", () => this.change(rater, "release")] : ["Set apart…", askToSetApart];
    const whose = element("span", { class: "only-heard" }, ` ${name}`);
    return element("button", { type: "button", class: "quiet", id: `decide-${rater.id}`, onclick }, label, whose);
  }

  /** What went wrong, or null. */
  async change(rater, how, body) {
    try {
      const { votes } = await call("POST", `/v1/raters/${rater.id}/${how}`, body);
      announce(how === "release" ? `${votes} votes count again.` : `${votes} votes are set apart.`);
      await this.read();
      return null;
    } catch (error) {
      const said = `It did not happen: ${whyRefused(error)}.`;
      announce(said);
      return said;
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
