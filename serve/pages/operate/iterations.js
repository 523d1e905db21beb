// The iterations so far.
import { element, none } from "../element.js";
import { lasting, when } from "./figures.js";
import { help, stateMark, versionLink } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

export function iterationsTable({ data: iterations, has_more: more }) {
  if (iterations.length === 0) return none("None yet.");
  const table = sortableTable({
    caption: "Iterations",
    rows: iterations,
    columns: [
      { name: "When", value: (one) => one.created, cell: (one) => when(one.created) },
      {
        name: "State",
        value: (one) => one.state,
        cell: (one) => stateMark(one.state),
      },
      {
        name: "Made",
        value: (one) => one.candidate,
        cell: (one) => (one.candidate ? versionLink(one.candidate) : "–"),
      },
      numeric("Took", took, lasting),
      { name: "Started by", value: startedBy },
      { name: "Reason or error", text: true, value: (one) => one.error ?? one.reason ?? "" },
    ],
  });
  return element("div", { class: "stack" }, table, more && help(`The newest ${iterations.length} are shown.`));
}

/** Whether it has yet to end. */
export const isRunning = ({ state }) => ["queued", "running"].includes(state);

export function startedBy({ trigger }) {
  return (
    { count: "the number of votes", interval: "the clock", time: "the clock", operator: "an operator" }[trigger] ??
    trigger
  );
}

function took({ started, finished }) {
  return started && finished ? finished - started : null;
}
