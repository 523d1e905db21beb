// The alignment tax: what a version can still do, task by task, against the one before.
import { figure, whole, when } from "./figures.js";
import { help, section } from "./section.js";
import { sortableTable } from "./sortable.js";

/** A section for `tax` as `tandem evaluate` keeps it; `by` says with what it was measured. */
export function taxSection(tax, by = "") {
  const tasks = Object.entries(tax.tasks);
  return section(
    `Alignment tax${by}`,
    help(
      `The same questions asked of ${tax.before} and ${tax.after}, ${when(tax.measured_at)}. On the mean of ${tasks.length} ` +
        `tasks the drop is ${drop(tax.drop)}.`,
    ),
    sortableTable({
      caption: `Alignment tax${by}`,
      rows: tasks,
      by: 4,
      columns: [
        { name: "Task", value: ([name]) => name },
        { name: "Questions", numeric: true, value: ([, one]) => one.questions, cell: ([, one]) => whole(one.questions) },
        share(tax.before, (one) => one.before),
        share(tax.after, (one) => one.after),
        {
          name: "Drop",
          title: "Before less after, paired by question, with its 95 % interval",
          numeric: true,
          value: ([, one]) => one.drop.value,
          cell: ([, one]) => drop(one.drop),
        },
      ],
    }),
  );
}

function share(name, of) {
  return {
    name,
    title: "Share of right answers, with its standard error",
    numeric: true,
    value: ([, one]) => of(one).value,
    cell: ([, one]) => `${figure(of(one).value)} ± ${figure(of(one).stderr)}`,
  };
}

function drop({ value, interval: [low, high] }) {
  return `${figure(value)} (${figure(low)} to ${figure(high)})`;
}
