// How often a version wins: against the start and what serves, by each judge, for each objective, raw and at equal length.
import { element } from "../element.js";
import { winRatesWithIntervals } from "./evidence_plots.js";
import { figure, isNumber, shareEstimate, whole } from "./figures.js";
import { sortableTable } from "./sortable.js";

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
  const rate = (name, title, of) => ({
    name,
    title,
    numeric: true,
    value: (row) => of(row)?.value,
    cell: (row) => shareEstimate(of(row)),
  });
  const score = (name, of) => ({
    name,
    title: "Mean score, in deviations from the mean of held-out replies",
    numeric: true,
    value: (row) => of(row)?.value,
    cell: (row) => figure(of(row)?.value),
  });
  return sortableTable({
    caption: "Win rates",
    rows,
    by: 0,
    falling: false,
    columns: [
      { name: "Against", value: (row) => row.rival },
      { name: "Judge", value: (row) => row.judge },
      { name: "Objective", value: (row) => row.objective },
      rate("Win rate", "A tie counts half; with its 95 % interval", (row) => row.raw),
      rate("At equal length", "What is left of it where both replies are equally long, by regression", (row) => row.equal),
      rate("Not longer", "Where its reply is not the longer one", (row) => row.shorter),
      score("Score", (row) => row.score),
      score("Theirs", (row) => row.theirs),
      {
        name: "Count",
        title: "Prompts or votes",
        numeric: true,
        value: (row) => row.count,
        cell: (row) => whole(row.count),
      },
    ],
  });
}
