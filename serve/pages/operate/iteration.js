// The iteration that runs, followed live by its events; and the buttons that start one and cancel it.
import { announce } from "../announce.js";
import { call, whyRefused } from "../api.js";
import { element } from "../element.js";
import { once } from "../focus.js";
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
/** One row for whichever trainer the settings name. */
const rowOf = (stage) => (stage === "dpo" ? "ppo" : stage);
const ENDS = ["succeeded", "failed", "cancelled"];
/** What the card notes of an event that is no end, by its kind. */
const NOTES = {
  queued: () => {},
  started: () => {},
  resumed: (card) => (card.resumed += 1),
  stage: (card, { stage }) => card.enter(rowOf(stage)),
  dataset: ({ facts }, { counts, examples }) =>
    (facts.freeze = `${counts?.train ?? examples} to learn from, ${counts?.heldout ?? 0} to measure on`),
  preference_step: (card, { step, steps, loss }) => {
    card.enter("preference", step / steps);
    card.facts.preference = `loss ${figure(loss)}`;
  },
  preference: ({ facts }, report) => (facts.preference = `accuracy ${shareOf(report, "accuracy")} on held-out votes`),
  watch_step: ({ facts }, { step, steps }) => (facts.preference = `watch model, step ${step} of ${steps}`),
  watch: ({ facts }, report) => (facts.preference = watched(report)),
  rehearsal: ({ facts }, { prompts }) => (facts.ppo = `${prompts} prompts to rehearse`),
  ppo_step: (card, step) => card.hearStep(step),
  reference_step: (card, { step, steps }) => {
    card.enter("ppo", step / steps);
    card.facts.ppo = `the reference model, ${step} of ${steps} comparisons`;
  },
  dpo_step: (card, { step, steps, loss }) => {
    card.enter("ppo", step / steps);
    card.facts.ppo = `DPO step ${step} of ${steps}, loss ${figure(loss)}`;
  },
  guard: ({ facts }, { peak_watch_reward: peak, steps, published_step: published }) => {
    if (isNumber(peak)) facts.ppo = `${steps} steps; the weights after step ${published} go on, where the watch score peaked`;
  },
  evaluation: ({ facts }, { win_rate: rate }) => (facts.evaluate = `win rate ${share(rate?.value)} by the preference model`),
};

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
    this.problem.hidden = true;
    try {
      const started = await once(this.startButton, () => call("POST", "/v1/iterations", {}));
      const focused = document.activeElement === this.startButton;
      this.follow(started);
      if (focused) this.head.focus();
      announce("An iteration was started.");
      this.onChange();
    } catch (error) {
      this.say(`Not started: ${whyRefused(error)}.`);
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
          return `Not cancelled: ${whyRefused(error)}.`;
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
    const listen = (kind, act) => this.source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
    for (const kind of Object.keys(NOTES)) listen(kind, (data) => this.hear(kind, data));
    for (const kind of ENDS) listen(kind, (data) => this.end(kind, data));
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
    this.head = element("h2", { tabindex: "-1" }, "Iteration");
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
    NOTES[kind](this, data);
    this.draw();
  }

  enter(stage, progress = 0) {
    Object.assign(this, { stage, share: progress });
  }

  hearStep(step) {
    if (step.step <= (this.steps.at(-1)?.step ?? 0)) this.steps = this.steps.filter((one) => one.step < step.step);
    this.steps.push(step);
    this.enter("ppo", step.step / step.steps);
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
