// Ratings from live votes: a plot for each objective, and the figures as a table, those controlled for length beside them.
import { forgiveRefusal, get } from "../api.js";
import { element, none } from "../element.js";
import { OBJECTIVES } from "../objectives.js";
import { ratingsWithIntervals } from "./evidence_plots.js";
import { isNumber, signed, whole } from "./figures.js";
import { plot } from "./plots.js";
import { versionLink } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

export class RatingsSection {
  constructor() {
    this.content = element("div", { class: "stack" });
    this.plots = [];
    this.ratings = [];
    this.controlled = [];
    this.node = element("section", { "aria-label": "Ratings" }, element("h2", {}, "Ratings from votes"), this.content);
  }

  leave() {
    for (const one of this.plots) one.leave();
  }

  /** Every vote is read for these: once, not with every look. The others are shown without them. */
  async readControlled() {
    try {
      this.controlled = (await get("/v1/ratings/length-controlled")).data;
    } catch (error) {
      forgiveRefusal(error);
      return;
    }
    if (this.ratings.length) this.draw(this.ratings);
  }

  draw(ratings) {
    this.ratings = ratings;
    this.leave();
    if (ratings.length === 0) {
      this.content.replaceChildren(none("None yet. They come from votes on pairs whose two replies are of different versions."));
      return;
    }
    const drawn = Object.keys(OBJECTIVES)
      .map((objective) => [objective, ratings.filter((one) => one.objective === objective)])
      .filter(([, rated]) => rated.filter((one) => isNumber(one.rating)).length > 1);
    this.plots = drawn.map(([objective, rated]) => plot(ratingsWithIntervals(objective, rated)));
    this.content.replaceChildren(
      element(
        "div",
        { class: "figures" },
        this.plots.map((one) => one.node),
      ),
      table(ratings.map((one) => ({ ...one, asLong: this.asLong(one) }))),
      ...this.controlled.filter((one) => one.interval).map(worthSaid),
    );
  }

  /** The same version's rating where both replies are as long. */
  asLong({ version, objective }) {
    const found = this.controlled.find((one) => one.objective === objective);
    return found?.ratings.find((one) => one.version === version) ?? {};
  }
}

function worthSaid({ objective, twice_as_long: worth, interval: [low, high] }) {
  return element(
    "p",
    {},
    `Under ${objective} it is worth ${signed(worth)} Elo (${signed(low)} to ${signed(high)}) to be twice as long.`,
  );
}

function intervalSaid({ interval }) {
  if (!interval) return "not linked by votes";
  return interval[0] === interval[1] ? "the reference" : `${signed(interval[0])} to ${signed(interval[1])}`;
}

function table(ratings) {
  return sortableTable({
    caption: "Ratings",
    rows: ratings,
    by: 2,
    columns: [
      { name: "Version", value: (one) => one.version, cell: (one) => versionLink(one.version) },
      { name: "Objective", value: (one) => one.objective },
      numeric("Elo", (one) => one.rating, signed),
      { name: "95 % interval", numeric: true, value: (one) => one.interval?.[0], cell: (one) => intervalSaid(one) },
      numeric("As long", (one) => one.asLong.rating, signed, "Elo where both replies are as long"),
      {
        name: "Its interval",
        numeric: true,
        value: (one) => one.asLong.interval?.[0],
        cell: (one) => (one.asLong.interval ? intervalSaid(one.asLong) : "–"),
      },
      numeric("Votes", (one) => one.votes, whole),
      numeric("Wins", (one) => one.wins, whole),
      numeric("Ties", (one) => one.ties, whole),
    ],
  });
}
