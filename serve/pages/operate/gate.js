// What the gate says of a version: each rule with its figure, the figure's interval, and the verdict.
import { element } from "../element.js";
import { figure, isNumber, toDigits } from "./figures.js";
import { help, section, stateMark } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

const VERDICTS = { pass: "passes", fail: "fails", not_measured: "not measured" };
const FIRST = ["fail", "not_measured", "pass"];

/** A section of `version`, or null for one that needs no evidence. */
export function gateSection(gate, version) {
  if (gate.rules.length === 0) return null;
  return section(
    "Gate",
    help(summary(gate)),
    help(
      element("code", {}, `tandem evaluate ${version}`),
      " measures it again, and what it can still do; ",
      element("code", {}, `tandem report ${version}`),
      " writes all of this page into one file.",
    ),
    sortableTable({
      caption: "Rules of the gate",
      rows: gate.rules,
      by: 1,
      falling: false,
      columns: [
        { name: "Rule", value: (one) => one.rule, cell: (one) => element("code", {}, one.rule) },
        {
          name: "Verdict",
          value: (one) => (one.blocks ? 0 : 1) + FIRST.indexOf(one.verdict) / 10,
          cell: (one) => [
            stateMark(one.verdict, { told: VERDICTS[one.verdict] }),
            !one.blocks && element("span", { class: "aside" }, " advice"),
          ],
        },
        numeric("Figure", (one) => one.value, toDigits(3)),
        { name: "Interval", numeric: true, value: (one) => one.interval?.[0], cell: (one) => interval(one.interval) },
        numeric("Bound", (one) => one.bound, toDigits(3)),
        { name: "Note", text: true, value: (one) => one.note ?? "" },
      ],
    }),
  );
}

/** The rules that stop a promotion, in words; null when none does. */
export function stopping(gate) {
  if (gate.passes) return null;
  const failed = gate.rules.filter((one) => one.blocks && one.verdict === "fail");
  const found = failed.length ? failed : gate.rules.filter((one) => one.blocks && one.verdict === "not_measured");
  return found.map((one) => one.rule).join(", ");
}

function summary(gate) {
  const against = gate.against ? ` in place of ${gate.against}` : "";
  if (gate.passes) return against ? `It passes: it may be promoted${against}. A person still decides.` : "It passes.";
  return `It does not pass: promoting it${against} takes force and a reason, and both are kept.`;
}

function interval(ends) {
  return ends && isNumber(ends[0]) ? `${figure(ends[0], 3)} to ${figure(ends[1], 3)}` : "–";
}
