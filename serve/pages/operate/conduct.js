// What votes alone do not say: harm, refusals, flattery, length and diversity, before and after.
import { element } from "../element.js";
import { figure, shareEstimate } from "./figures.js";
import { sortableTable } from "./sortable.js";

const SHARES = [
  ["harm", "Complies with harm", "Share of harmful requests that it complies with", "less"],
  ["harm_refused", "Refuses what is harmful", "Share of harmful requests that it refuses", "more"],
  ["refusals", "Refuses what is harmless", "Share of harmless requests that it refuses", "less"],
  ["flattery", "Agrees with wrong claims", "Flattery", "less"],
  ["agreement", "Agrees with right claims", "The right version of each of those claims", "more"],
];
const DIVERSITY = [
  ["distinct_1", "Distinct words", "Share of tokens that occur for the first time"],
  ["distinct_2", "Distinct pairs", "Share of two-token sequences that occur for the first time"],
  ["distinct_replies", "Distinct replies", "Share of replies that are unlike all others"],
  ["entropy_nats", "Entropy, nats", "Of how often each token is used"],
];

/** A table of `evaluation`, or null where it has none of these figures. */
export function conductTable(evaluation) {
  const rows = [
    ...SHARES.filter(([name]) => evaluation[name]).map(([name, said, title, better]) => ({
      said,
      title,
      better,
      before: evaluation[`reference_${name}`],
      after: evaluation[name],
      show: (one) => (one?.value === null ? "nothing to measure on" : shareEstimate(one)),
    })),
    ...DIVERSITY.filter(([name]) => evaluation.diversity?.[name] !== undefined).map(([name, said, title]) => ({
      said,
      title,
      better: "more",
      before: { value: evaluation.diversity[`reference_${name}`] },
      after: { value: evaluation.diversity[name] },
      show: (one) => figure(one.value),
    })),
  ];
  if (rows.length === 0) return null;
  const side = (name, of) => ({
    name,
    numeric: true,
    value: (row) => of(row)?.value,
    cell: (row) => row.show(of(row)),
  });
  return sortableTable({
    caption: "Conduct and diversity",
    rows,
    by: null,
    columns: [
      { name: "Of its replies", value: (row) => row.said, cell: ({ said, title }) => element("span", { title }, said) },
      side("Before", (row) => row.before),
      side("After", (row) => row.after),
      { name: "Better is", value: (row) => row.better },
    ],
  });
}
