// The iteration that runs, followed live by its events; and the buttons that start one and cancel it.
import { announce } from "../announce.js";
import { call, Refused } from "../api.js";
import { element } from "../element.js";
import { askReason } from "./reason_dialog.js";
import { figure, isNumber, share, shareOf, when } from "./figures.js";
import { rewardByDistance } from "./evidence_plots.js";
import { plot } from "./plots.js";
import { versionLink } from "./section.js";

export const STAGES = [
  ["freeze", "Freeze the votes"],
  ["preference", "Preference model"],
  ["ppo", "PPO or DPO"],
  ["evaluate", "Evaluate"],
  ["publish", "Publish"],
];
const KINDS = [
  "queued",
  "started",
  "resumed",
  "stage",
  "dataset",
  "preference_step",
  "preference",
  "watch_step",
  "watch",
  "ppo_step",
  "reference_step",
  "dpo_step",
  "guard",
  "evaluation",
  "succeeded",
  "failed",
  "cancelled",
];
/** One row for whichever trainer the settings name. */
const rowOf = (stage) => (stage === "dpo" ? "ppo" : stage);
const ENDS = ["succeeded", "failed", "cancelled"];

export class IterationCard {
  /** `onChange()` is called when an iteration began or ended. */
  constructor(onChange) {
    this.onChange = onChange;
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.startButton = element(
      "button",
      { type: "button", class: "primary", onclick: () => this.start() },
      "Start an iteration",
    );
    this.card = element("div", { hidden: true });
    this.node = element("div", {}, this.problem, this.card);
    this.id = null;
  }

  leave() {
    this.source?.close();
    this.plot?.leave();
  }

  async start() {
    this.startButton.disabled = true;
    this.problem.hidden = true;
    try {
      this.follow(await call("POST", "/v1/iterations", {}));
      announce("An iteration was started.");
      this.onChange();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.say(`Not started: ${error.message}.`);
      this.startButton.disabled = false;
    }
  }

  askToCancel() {
    const id = this.id;
    askReason({
      title: "Cancel the iteration",
      said: "It ends without a candidate, and what it trained so far is lost. Its votes are learnt from by the next one.",
      action: "Cancel the iteration",
      doing: "Cancelling…",
      leave: "Let it run",
      act: async ({ reason }) => {
        try {
          await call("POST", `/v1/iterations/${id}/cancel`, { reason });
          return null;
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          return `Not cancelled: ${error.message}.`;
        }
      },
    });
  }

  /** Follow `iteration`; null when none runs. Again with the same one changes nothing. */
  follow(iteration) {
    this.startButton.disabled = iteration !== null;
    if (!iteration || iteration.id === this.id) return;
    this.leave();
    Object.assign(this, {
      id: iteration.id,
      created: iteration.created,
      resumed: 0,
      stage: rowOf(iteration.stage),
      share: iteration.progress,
      steps: [],
      facts: {},
      plot: null,
    });
    this.problem.hidden = true;
    this.frame();
    this.source = new EventSource(`/v1/iterations/${iteration.id}/events`);
    for (const kind of KINDS) this.source.addEventListener(kind, (event) => this.hear(kind, JSON.parse(event.data)));
    this.source.onerror = () => this.source.readyState === EventSource.CLOSED && this.lose();
  }

  /** A browser that was refused does not ask again: whoever looks next follows what runs then. */
  lose() {
    this.leave();
    this.id = null;
    this.card.hidden = true;
  }

  frame() {
    this.card.hidden = false;
    this.rows = STAGES.map(([stage, name]) => {
      const bar = element("progress", { max: 1, value: 0, "aria-label": name });
      const said = element("span", { class: "said" });
      return { stage, bar, said, node: element("li", {}, element("span", { class: "name" }, name), bar, said) };
    });
    this.head = element("h2", {}, "Iteration");
    this.plotPlace = element("div");
    this.cancelButton = element(
      "button",
      { type: "button", class: "quiet", onclick: () => this.askToCancel() },
      "Cancel it…",
    );
    this.card.replaceChildren(
      element(
        "section",
        { class: "card live", "aria-label": "The running iteration" },
        element("header", { class: "page-head" }, this.head, element("span", { class: "grow" }), this.cancelButton),
        element(
          "ol",
          { class: "stages" },
          this.rows.map((row) => row.node),
        ),
        this.plotPlace,
      ),
    );
    this.draw();
  }

  hear(kind, data) {
    if (kind === "resumed") this.resumed += 1;
    if (kind === "stage") {
      this.stage = rowOf(data.stage);
      this.share = 0;
    }
    if (kind === "dataset")
      this.facts.freeze = `${data.counts?.train ?? data.examples} to learn from, ${data.counts?.heldout ?? 0} to measure on`;
    if (kind === "preference_step") {
      this.stage = "preference";
      this.share = data.step / data.steps;
      this.facts.preference = `loss ${figure(data.loss)}`;
    }
    if (kind === "preference") this.facts.preference = `accuracy ${shareOf(data, "accuracy")} on held-out votes`;
    if (kind === "watch_step") this.facts.preference = `watch model, step ${data.step} of ${data.steps}`;
    if (kind === "watch") this.facts.preference = watched(data);
    if (kind === "ppo_step") this.hearStep(data);
    if (kind === "reference_step") {
      Object.assign(this, { stage: "ppo", share: data.step / data.steps });
      this.facts.ppo = `the reference model, ${data.step} of ${data.steps} comparisons`;
    }
    if (kind === "dpo_step") {
      Object.assign(this, { stage: "ppo", share: data.step / data.steps });
      this.facts.ppo = `DPO step ${data.step} of ${data.steps}, loss ${figure(data.loss)}`;
    }
    if (kind === "guard" && isNumber(data.peak_watch_reward))
      this.facts.ppo = `${data.steps} steps; the weights after step ${data.published_step} go on, where the watch score peaked`;
    if (kind === "evaluation") this.facts.evaluate = `win rate ${share(data.win_rate?.value)} by the preference model`;
    if (ENDS.includes(kind)) this.end(kind, data);
    else this.draw();
  }

  hearStep(step) {
    if (step.step <= (this.steps.at(-1)?.step ?? 0)) this.steps = this.steps.filter((one) => one.step < step.step);
    this.steps.push(step);
    Object.assign(this, { stage: "ppo", share: step.step / step.steps });
    this.facts.ppo = `PPO step ${step.step} of ${step.steps}, reward ${figure(step.reward)}, √KL ${figure(step.sqrt_kl)}`;
    if (this.steps.length < 2) return;
    if (this.plot) {
      this.plot.change(rewardByDistance(this.steps));
      return;
    }
    this.plot = plot(rewardByDistance(this.steps));
    this.plotPlace.replaceChildren(this.plot.node);
  }

  draw() {
    const at = STAGES.findIndex(([stage]) => stage === this.stage);
    const again = this.resumed ? `, taken up again after its process ended (${this.resumed})` : "";
    this.head.textContent = at < 0 ? `An iteration waits for the learner since ${when(this.created)}` : `An iteration runs${again}`;
    this.rows.forEach(({ stage, bar, said, node }, index) => {
      node.className = index < at ? "done" : index === at ? "now" : "";
      bar.value = index < at ? 1 : index === at ? this.share : 0;
      said.textContent = this.facts[stage] ?? "";
    });
  }

  end(kind, data) {
    this.source.close();
    this.cancelButton.remove();
    const done = kind === "succeeded";
    this.rows.forEach(({ bar, node }) => {
      if (done) {
        bar.value = 1;
        node.className = "done";
      }
    });
    this.head.replaceChildren(
      ...(done
        ? [
            "The iteration made ",
            versionLink(data.candidate),
            ". Look at its evidence.",
          ]
        : [`The iteration ${ended(kind)}`]),
    );
    if (kind === "failed") this.say(`The iteration failed: ${data.error}`);
    const why = data.error ?? data.reason;
    announce(done ? `The iteration made ${data.candidate}.` : `The iteration ${ended(kind)}${why ? `: ${why}` : "."}`);
    this.startButton.disabled = false;
    this.onChange();
  }

  say(text) {
    this.problem.hidden = false;
    this.problem.textContent = text;
  }
}

/** How one that made nothing ended. */
export function ended(state) {
  return state === "cancelled" ? "was cancelled" : "failed";
}

function watched(report) {
  return report.trained
    ? `both models are trained; the watch model’s accuracy is ${shareOf(report, "accuracy")}`
    : `no watch model: ${report.reason}`;
}
