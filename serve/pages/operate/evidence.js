// The evidence of a version: evaluation, preference model, PPO; each known figure with what it means.
import { element } from "../element.js";
import { calibration, rewardByDistance, scoresByStep } from "./evidence_plots.js";
import { figure, isNumber, share, shareEstimate, whole } from "./figures.js";
import { plot } from "./plots.js";
import { sortableTable } from "./sortable.js";
import { taxSection } from "./tax.js";

/** `{nodes, plots}`: sections to show, and plots to give back later. */
export function evidence({ evaluation, preference, ppo, tax, tax_harness: harness, ...others }) {
  const plots = [];
  const drawn = (content) => {
    const one = plot(content);
    plots.push(one);
    return one.node;
  };
  const nodes = [];
  if (evaluation) nodes.push(evaluationSection(evaluation));
  if (tax) nodes.push(taxSection(tax));
  if (harness) nodes.push(taxSection(harness, ", lm-eval"));
  if (ppo?.length) nodes.push(ppoSection(ppo, drawn));
  if (preference) nodes.push(preferenceSection(preference, drawn));
  for (const [name, value] of Object.entries(others)) nodes.push(otherSection(name, value));
  if (nodes.length === 0)
    nodes.push(section("Evidence", element("p", { class: "none" }, "None: this is where the loop started.")));
  return { nodes, plots };
}

function evaluationSection(evaluation) {
  const objectives = Object.entries(evaluation.objectives ?? {});
  return section(
    "Evaluation against the starting policy",
    element(
      "p",
      { class: "help" },
      `On ${whole(evaluation.prompts)} held-out prompts, judged by the preference model that trained it: how far it got by its own measure. People’s votes are under Ratings.`,
    ),
    headline([
      ["Win rate", shareEstimate(evaluation.win_rate), "a tie counts half"],
      ["When not longer", shareEstimate(evaluation.win_rate_shorter), "win rate where its reply is not the longer one"],
      ["KL", `${figure(evaluation.kl_nats)} nats`, "a reply, from the starting policy"],
      [
        "Length",
        `× ${figure(evaluation.length_ratio)}`,
        `${figure(evaluation.length_tokens, 1)} tokens against ${figure(evaluation.reference_length_tokens, 1)}`,
      ],
      ["Finished", share(evaluation.finished_share), "replies that ended by themselves"],
    ]),
    objectives.length > 0 &&
      sortableTable({
        caption: "By objective",
        rows: objectives,
        falling: false,
        columns: [
          { name: "Objective", value: ([name]) => name },
          {
            name: "Win rate",
            numeric: true,
            value: ([, one]) => one.win_rate?.value,
            cell: ([, one]) => shareEstimate(one.win_rate),
          },
          {
            name: "Score",
            numeric: true,
            value: ([, one]) => one.score?.value,
            cell: ([, one]) => figure(one.score?.value),
          },
          {
            name: "Score before",
            numeric: true,
            value: ([, one]) => one.reference_score?.value,
            cell: ([, one]) => figure(one.reference_score?.value),
          },
        ],
      }),
    samples(evaluation.samples),
  );
}

/** Before and after, side by side, where the evaluation kept replies: `{messages, reference, candidate}`. */
function samples(kept) {
  if (!kept?.length) return null;
  return element(
    "div",
    { class: "samples" },
    element("h3", {}, "Before and after"),
    kept.map((one) =>
      element(
        "article",
        { class: "sample" },
        element("p", { class: "asked" }, one.messages?.at(-1)?.content ?? one.prompt ?? ""),
        element(
          "div",
          { class: "pair" },
          element(
            "div",
            { class: "side" },
            element("header", {}, "before"),
            element("div", { class: "prose plain" }, one.reference ?? ""),
          ),
          element(
            "div",
            { class: "side" },
            element("header", {}, "after"),
            element("div", { class: "prose plain" }, one.candidate ?? ""),
          ),
        ),
      ),
    ),
  );
}

function ppoSection(steps, drawn) {
  const numeric = (name, title, value, digits = 2) => ({
    name,
    title,
    numeric: true,
    value,
    cell: (step) => figure(value(step), digits),
  });
  return section(
    "Training with PPO",
    element(
      "div",
      { class: "figures" },
      drawn(rewardByDistance(steps)),
      Object.keys(steps[0].scores ?? {}).length > 0 && drawn(scoresByStep(steps)),
    ),
    element(
      "details",
      {},
      element("summary", {}, `All ${steps.length} steps`),
      sortableTable({
        caption: "PPO steps",
        rows: steps,
        falling: false,
        columns: [
          { name: "Step", numeric: true, value: (step) => step.step },
          numeric("Reward", "Weighted normalised score", (step) => step.reward),
          numeric("KL", "Nats per reply from the starting policy", (step) => step.kl_nats),
          numeric("Length", "Tokens per reply", (step) => step.length_tokens, 1),
          numeric("Entropy", "Nats per token", (step) => step.entropy_nats),
          numeric("Clipped", "Share of tokens whose ratio was clipped", (step) => step.clipped_share, 3),
          numeric("Explained", "Variance of returns that the critic foresaw", (step) => step.explained_variance),
          numeric(
            "Mismatch",
            "Nats between the sampler's and the trainer's log-probabilities",
            (step) => step.mismatch_nats,
            4,
          ),
        ],
      }),
    ),
  );
}

function preferenceSection(report, drawn) {
  const objectives = Object.entries(report.objectives ?? {});
  return section(
    "Preference model",
    headline([
      ["Accuracy", share(report.accuracy, 1), `on ${whole(report.comparisons)} held-out votes`],
      ...objectives
        .filter(([, one]) => isNumber(one.calibration_error))
        .map(([name, one]) => [`Calibration error, ${name}`, figure(one.calibration_error, 3), "at most .03 is good"]),
    ]),
    objectives.length > 0 &&
      sortableTable({
        caption: "Preference model by objective",
        rows: objectives,
        falling: false,
        columns: [
          { name: "Objective", value: ([name]) => name },
          {
            name: "Votes",
            numeric: true,
            value: ([, one]) => one.comparisons,
            cell: ([, one]) => whole(one.comparisons),
          },
          {
            name: "Accuracy",
            numeric: true,
            value: ([, one]) => one.accuracy,
            cell: ([, one]) => share(one.accuracy, 1),
          },
          {
            name: "Where sure",
            title: "On votes with a strong preference",
            numeric: true,
            value: ([, one]) => one.accuracy_sure,
            cell: ([, one]) => share(one.accuracy_sure, 1),
          },
          {
            name: "Calibration error",
            numeric: true,
            value: ([, one]) => one.calibration_error,
            cell: ([, one]) => figure(one.calibration_error, 3),
          },
          {
            name: "Length correlation",
            title: "Of score and reply length: how far it just likes long replies",
            numeric: true,
            value: ([, one]) => one.length_correlation,
            cell: ([, one]) => figure(one.length_correlation),
          },
        ],
      }),
    report.bins?.length > 0 && element("div", { class: "figures" }, drawn(calibration(report.bins))),
  );
}

/** Evidence that this page does not know yet is still shown. */
function otherSection(name, value) {
  return section(name, element("pre", { tabindex: "0" }, JSON.stringify(value, null, 2)));
}

function headline(figures) {
  return element(
    "dl",
    { class: "headline" },
    figures.map(([name, value, said]) =>
      element(
        "div",
        {},
        element("dt", {}, name),
        element("dd", {}, element("strong", {}, value), element("span", {}, said)),
      ),
    ),
  );
}

function section(title, ...content) {
  return element("section", { "aria-label": title }, element("h2", {}, title), content);
}
