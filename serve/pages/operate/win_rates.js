// How often a version wins: against the start and what serves, by each judge, for each objective, raw and at equal length.
import { element } from "../element.js";
import { winRatesWithIntervals } from "./evidence_plots.js";
import { figure, isNumber, shareEstimate, whole } from "./figures.js";
import { estimated, numeric, sortableTable } from "./sortable.js";

const ALL = "all";
const LIVE = "live votes";

/** Plots and a table of everything that compares the version with another one. */
export function winRates(evaluation, live, start, drawn) {
  const rows = [
    ...judged(evaluation, start),
    ...(evaluation.serving ? judged(evaluation.serving, evaluation.serving.version) : []),
    ...live.flatMap(liveRows),
  ];
  const rivals = [...new Set(rows.map((row) => row.rival))];
  return [
    element(
      "div",
      { class: "figures" },
      rivals.map((rival) =>
        drawn(
          winRatesWithIntervals(
            rival,
            rows.filter((row) => row.rival === rival && isNumber(row.raw?.value)),
          ),
        ),
      ),
    ),
    table(rows),
  ];
}

function judged(found, rival) {
  return [...byObjective(found, rival, "preference model"), ...(found.watch ? byObjective(found.watch, rival, "watch model") : [])];
}

function byObjective(found, rival, judge) {
  return [[ALL, found], ...Object.entries(found.objectives ?? {})].map(([objective, one]) => ({
    rival,
    judge,
    objective,
    raw: one.win_rate,
    equal: one.win_rate_length_controlled,
    shorter: one.win_rate_shorter,
    score: one.score,
    theirs: one.reference_score,
    count: one.win_rate?.count,
  }));
}

function liveRows({ against, votes, win_rate: all, objectives }) {
  return [[ALL, all, votes], ...Object.entries(objectives).map(([name, one]) => [name, one, null])]
    .filter(([, one]) => one)
    .map(([objective, raw, count]) => ({ rival: against, judge: LIVE, objective, raw, count }));
}

function table(rows) {
  const score = (name, of) =>
    estimated(name, of, (one) => figure(one?.value), "Mean score, in deviations from the mean of held-out replies");
  return sortableTable({
    caption: "Win rates",
    rows,
    by: 0,
    falling: false,
    columns: [
      { name: "Against", value: (row) => row.rival },
      { name: "Judge", value: (row) => row.judge },
      { name: "Objective", value: (row) => row.objective },
      estimated("Win rate", (row) => row.raw, shareEstimate, "A tie counts half; with its 95 % interval"),
      estimated(
        "At equal length",
        (row) => row.equal,
        shareEstimate,
        "What is left of it where both replies are equally long, by regression",
      ),
      estimated("Not longer", (row) => row.shorter, shareEstimate, "Where its reply is not the longer one"),
      score("Score", (row) => row.score),
      score("Theirs", (row) => row.theirs),
      numeric("Count", (row) => row.count, whole, "Prompts or votes"),
    ],
  });
}
