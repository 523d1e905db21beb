// Every attempt to change what serves, by whom and why.
import { none } from "../element.js";
import { when } from "./figures.js";
import { actor, stateMark } from "./section.js";
import { sortableTable } from "./sortable.js";

export function promotionsTable(promotions) {
  if (promotions.length === 0) return none("Nobody has promoted it yet.");
  return sortableTable({
    caption: "Decisions",
    rows: promotions,
    columns: [
      { name: "When", value: (one) => one.created, cell: (one) => when(one.created) },
      {
        name: "What",
        value: (one) =>
          `${one.kind} ${one.version}${one.previous ? `, in place of ${one.previous}` : ""}${one.force ? ", forced" : ""}`,
      },
      {
        name: "Outcome",
        value: (one) => one.outcome,
        cell: (one) => stateMark(one.outcome),
      },
      {
        name: "By",
        value: (one) => one.actor,
        cell: (one) => actor(one.actor),
      },
      { name: "Reason", text: true, value: (one) => [one.reason, one.detail].filter(Boolean).join("; ") },
    ],
  });
}
