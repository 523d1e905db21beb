// The judges: the preference model that trained a version, and the watch model, by held-out votes.
import { element } from "../element.js";
import { calibration } from "./evidence_plots.js";
import { figure, isNumber, shareOf, toDigits, whole } from "./figures.js";
import { headline, help, section } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

/** As how many votes of one weight those tell that a model was trained on, where that is fewer than there were. */
function worth({ learnt_from: of }) {
  return of && Math.round(of.worth) < of.votes ? `, worth ${whole(of.worth)}` : "";
}

export function preferenceSection(report, watch, drawn) {
  const objectives = Object.entries(report.objectives ?? {});
  return section(
    "Preference model",
    headline([
      ["Accuracy", shareOf(report, "accuracy"), `on ${whole(report.comparisons)} held-out votes`],
      ...objectives
        .filter(([, one]) => isNumber(one.calibration_error))
        .map(([name, one]) => [`Calibration error, ${name}`, figure(one.calibration_error, 3), "at most .03 is good"]),
      watch?.trained && ["Watch model’s accuracy", shareOf(watch, "accuracy"), `trained on ${whole(watch.votes)} other votes${worth(watch)}`],
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
  const shared = (name, of, title = null) => ({
    name,
    title,
    numeric: true,
    value: ([, one]) => one[of],
    cell: ([, one]) => shareOf(one, of),
  });
  return sortableTable({
    caption: "Preference model by objective",
    rows: objectives,
    falling: false,
    columns: [
      { name: "Objective", value: ([name]) => name },
      numeric("Votes", ([, one]) => one.comparisons, whole),
      shared("Accuracy", "accuracy"),
      shared("Where sure", "accuracy_sure", "On votes with a strong preference"),
      numeric("Calibration error", ([, one]) => one.calibration_error, toDigits(3)),
      numeric(
        "Length correlation",
        ([, one]) => one.length_correlation,
        figure,
        "Of score and reply length: how far it just likes long replies",
      ),
    ],
  });
}
