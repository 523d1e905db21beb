// The alignment tax: what a version can still do, task by task, against the one before.
import { figure, whole, when } from "./figures.js";
import { help, section } from "./section.js";
import { estimated, numeric, sortableTable } from "./sortable.js";

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
        numeric("Questions", ([, one]) => one.questions, whole),
        share(tax.before, (one) => one.before),
        share(tax.after, (one) => one.after),
        estimated("Drop", ([, one]) => one.drop, drop, "Before less after, paired by question, with its 95 % interval"),
      ],
    }),
  );
}

function share(name, of) {
  const said = ({ value, stderr }) => `${figure(value)} ± ${figure(stderr)}`;
  return estimated(name, ([, one]) => of(one), said, "Share of right answers, with its standard error");
}

function drop({ value, interval: [low, high] }) {
  return `${figure(value)} (${figure(low)} to ${figure(high)})`;
}
