// How PPO or DPO went: reward and watch score against distance, where the guard stopped, every step as a table.
import { element } from "../element.js";
import { likelihoodByStep, lossByStep, rewardByDistance, scoresByStep } from "./evidence_plots.js";
import { figure, toDigits } from "./figures.js";
import { help, section } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

export function trainingSection(steps, guard, rehearsal, drawn) {
  return section(
    "Training with PPO",
    guard && help(guarded(guard)),
    rehearsal && help(rehearsed(rehearsal)),
    element(
      "div",
      { class: "figures" },
      drawn(rewardByDistance(steps, guard)),
      Object.keys(steps[0].scores ?? {}).length > 0 && drawn(scoresByStep(steps)),
    ),
    element("details", {}, element("summary", {}, `All ${steps.length} steps`), table(steps)),
  );
}

/** Training on the votes themselves, without a preference model's reward. */
export function directSection(steps, rehearsal, drawn) {
  return section(
    "Training with DPO",
    help("On the votes themselves: the likelihoods of the preferred and of the other replies should part."),
    rehearsal && help(rehearsed(rehearsal)),
    element("div", { class: "figures" }, drawn(likelihoodByStep(steps)), drawn(lossByStep(steps))),
  );
}

/** What kept it from unlearning the rest. */
function rehearsed(rehearsal) {
  const held = `The policy was held to what the starting policy says on ${rehearsal.prompts} prompts`;
  const from = `${rehearsal.from_chats} of them from chats that nobody voted on`;
  return `${held}, ${from}. ${leftOut(rehearsal)}`;
}

function leftOut({ harmful, told_by: toldBy }) {
  if (toldBy === "nothing")
    return `${harmful} more were left out: nothing tells which of them ask for harm. Judge some pairs under one objective only.`;
  const how = toldBy === "scores" ? ", by how much harm is at stake in replies to them" : "";
  return `${harmful} more were left out, since they look as if they asked for harm${how}.`;
}

/** What the watch model had PPO do. */
function guarded(guard) {
  if (guard.peak_watch_reward === null || guard.peak_watch_reward === undefined)
    return "No watch model looked on: there were too few votes to watch by. The weights after the last step were published.";
  const ended = guard.stopped
    ? `PPO was stopped after step ${guard.steps}, since the watch score had fallen for long enough.`
    : `PPO took all of its ${guard.steps} steps.`;
  return `${ended} Published are the weights after step ${guard.published_step}, where the smoothed watch score was highest.`;
}

function table(steps) {
  const watched = steps.some((step) => typeof step.watch_reward === "number");
  return sortableTable({
    caption: "PPO steps",
    rows: steps,
    falling: false,
    columns: [
      { name: "Step", numeric: true, value: (step) => step.step },
      numeric("Reward", (step) => step.reward, figure, "Weighted normalised score"),
      ...(watched ? [numeric("Watch", (step) => step.watch_reward, figure, "The same by the watch model")] : []),
      numeric("KL", (step) => step.kl_nats, figure, "Nats per reply from the starting policy"),
      numeric("Length", (step) => step.length_tokens, toDigits(1), "Tokens per reply"),
      numeric("Entropy", (step) => step.entropy_nats, figure, "Nats per token"),
      numeric("Clipped", (step) => step.clipped_share, toDigits(3), "Share of tokens whose ratio was clipped"),
      numeric("Explained", (step) => step.explained_variance, figure, "Variance of returns that the critic foresaw"),
      numeric(
        "Mismatch",
        (step) => step.mismatch_nats,
        toDigits(4),
        "Nats between the sampler's and the trainer's log-probabilities",
      ),
    ],
  });
}
