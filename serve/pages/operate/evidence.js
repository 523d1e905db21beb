// The evidence of a version, in the order in which a decision asks for it.
import { element, none, problem } from "../element.js";
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
export function evidence({ judges: _beside, ...found }, live = []) {
  const plots = [];
  const drawn = (content) => {
    const one = plot(content);
    plots.push(one);
    return one.node;
  };
  const sections = [
    ["evaluation", (evaluation) => evaluationSection(evaluation, live, drawn)],
    ["evaluation", conductSection],
    ["tax", (tax) => taxSection(tax)],
    ["tax_harness", (tax) => taxSection(tax, ", lm-eval")],
    ["evaluation", ({ samples: kept }) => kept?.length && section("Before and after", samples(kept))],
    ["ppo", (steps) => steps.length !== 0 && trainingSection(steps, found.guard, found.rehearsal, drawn)],
    ["dpo", (steps) => steps.length !== 0 && directSection(steps, found.rehearsal, drawn)],
    ["frontier", (frontier) => frontierSection(frontier, drawn)],
    ["preference", (preference) => preferenceSection(preference, found.watch, drawn)],
    ["strange_prompts", strangePromptsSection],
  ];
  const known = new Set([...sections.map(([name]) => name), "watch", "guard", "rehearsal"]);
  const others = Object.keys(found).filter((name) => !known.has(name));
  const misshapen = new Set();
  /** Evidence may come from another release, or by hand: what has not the form that is drawn here is shown as it is, once. */
  const orAsItIs = (name, value, draw) => {
    try {
      return draw(value);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      if (misshapen.has(name)) return null;
      misshapen.add(name);
      const said = `This is not of the form that this page draws: ${error.message}.`;
      return section(name, problem(said), asItIs(value));
    }
  };
  const nodes = [
    ...sections.map(([name, draw]) => found[name] && orAsItIs(name, found[name], draw)),
    ...others.map((name) => section(name, asItIs(found[name]))),
  ].filter(Boolean);
  if (nodes.length === 0)
    nodes.push(section("Evidence", none("None: this is where the loop started.")));
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

function asItIs(value) {
  return element("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
}
