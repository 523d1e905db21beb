// The judges: the preference model that trained a version, and the watch model, by held-out votes.
import { element } from "../element.js";
import { calibration } from "./evidence_plots.js";
import { figure, isNumber, share, whole } from "./figures.js";
import { headline, help, section } from "./section.js";
import { sortableTable } from "./sortable.js";

export function preferenceSection(report, watch, drawn) {
  const objectives = Object.entries(report.objectives ?? {});
  return section(
    "Preference model",
    headline([
      ["Accuracy", share(report.accuracy, 1), `on ${whole(report.comparisons)} held-out votes`],
      ...objectives
        .filter(([, one]) => isNumber(one.calibration_error))
        .map(([name, one]) => [`Calibration error, ${name}`, figure(one.calibration_error, 3), "at most .03 is good"]),
      watch?.trained && ["Watch model’s accuracy", share(watch.accuracy, 1), `trained on ${whole(watch.votes)} other votes`],
    ].filter(Boolean)),
    watch && !watch.trained && help(`There is no watch model: ${watch.reason}.`),
    objectives.length > 0 && table(objectives),
    element(
      "div",
      { class: "figures" },
      [
        [report, ""],
        [watch, " of the watch model"],
      ]
        .filter(([one]) => one?.bins?.length > 0)
        .map(([one, of]) => drawn(calibration(one.bins, of))),
    ),
  );
}

function table(objectives) {
  const column = (name, title, of, said) => ({
    name,
    title,
    numeric: true,
    value: ([, one]) => of(one),
    cell: ([, one]) => said(of(one)),
  });
  return sortableTable({
    caption: "Preference model by objective",
    rows: objectives,
    falling: false,
    columns: [
      { name: "Objective", value: ([name]) => name },
      column("Votes", null, (one) => one.comparisons, whole),
      column("Accuracy", null, (one) => one.accuracy, (value) => share(value, 1)),
      column("Where sure", "On votes with a strong preference", (one) => one.accuracy_sure, (value) => share(value, 1)),
      column("Calibration error", null, (one) => one.calibration_error, (value) => figure(value, 3)),
      column(
        "Length correlation",
        "Of score and reply length: how far it just likes long replies",
        (one) => one.length_correlation,
        figure,
      ),
    ],
  });
}
