// The evidence of a version, in the order in which a decision asks for it.
import { element } from "../element.js";
import { conductTable } from "./conduct.js";
import { figure, share, shareEstimate, whole } from "./figures.js";
import { frontierSection } from "./frontier.js";
import { plot } from "./plots.js";
import { preferenceSection } from "./preference.js";
import { samples } from "./samples.js";
import { headline, help, section } from "./section.js";
import { strangePromptsSection } from "./strange_prompts.js";
import { taxSection } from "./tax.js";
import { directSection, trainingSection } from "./training.js";
import { winRates } from "./win_rates.js";

const START = "v0";

/** `{nodes, plots}`: sections to show, and plots to give back later. `live` is what the gate says of live votes. */
export function evidence(
  {
    evaluation,
    preference,
    watch,
    ppo,
    guard,
    dpo,
    rehearsal,
    frontier,
    tax,
    tax_harness: harness,
    strange_prompts: strange,
    judges: _beside,
    ...others
  },
  live = [],
) {
  const plots = [];
  const drawn = (content) => {
    const one = plot(content);
    plots.push(one);
    return one.node;
  };
  const nodes = [
    evaluation && evaluationSection(evaluation, live, drawn),
    evaluation && conductSection(evaluation),
    tax && taxSection(tax),
    harness && taxSection(harness, ", lm-eval"),
    evaluation?.samples?.length && section("Before and after", samples(evaluation.samples)),
    ppo?.length && trainingSection(ppo, guard, rehearsal, drawn),
    dpo?.length && directSection(dpo, rehearsal, drawn),
    frontier && frontierSection(frontier, drawn),
    preference && preferenceSection(preference, watch, drawn),
    strange && strangePromptsSection(strange),
    ...Object.entries(others).map(([name, value]) => otherSection(name, value)),
  ].filter(Boolean);
  if (nodes.length === 0)
    nodes.push(section("Evidence", element("p", { class: "none" }, "None: this is where the loop started.")));
  return { nodes, plots };
}

function evaluationSection(evaluation, live, drawn) {
  const { serving } = evaluation;
  return section(
    "Evaluation",
    help(
      `Replies to ${whole(evaluation.prompts)} held-out prompts, beside those of ${START}${serving ? ` and of ${serving.version}` : ""}. ` +
        "The preference model trained it, so its word says how far it got by its own measure; the watch model and people say how far it got. " +
        "Intervals of a model’s word are over prompts, as if it were right; how often it is, its accuracy further down tells.",
    ),
    headline(
      [
        [`Win rate against ${START}`, shareEstimate(evaluation.win_rate), "by the preference model; a tie counts half"],
        serving && [`Win rate against ${serving.version}`, shareEstimate(serving.win_rate), "which served then"],
        evaluation.watch && ["By the watch model", shareEstimate(evaluation.watch.win_rate), `against ${START}`],
        ["KL", `${figure(evaluation.kl_nats)} nats`, "a reply, from the starting policy"],
        [
          "Length",
          `× ${figure(evaluation.length_ratio)}`,
          `${figure(evaluation.length_tokens, 1)} tokens against ${figure(evaluation.reference_length_tokens, 1)}`,
        ],
        ["Finished", share(evaluation.finished_share), "replies that ended by themselves"],
      ].filter(Boolean),
    ),
    winRates(evaluation, live, START, drawn),
  );
}

function conductSection(evaluation) {
  const table = conductTable(evaluation);
  return (
    table &&
    section(
      "Conduct and diversity",
      help("Found by phrases and by the harmless score, read by nobody: compare before and after, and no more."),
      table,
    )
  );
}

/** Evidence that this page does not know yet is still shown. */
function otherSection(name, value) {
  return section(name, element("pre", { tabindex: "0" }, JSON.stringify(value, null, 2)));
}
