// The ballot under a pair: side and strength, tie, both bad, skip, a reason, a rewritten reply; all of it by keys too.
import { announce } from "./announce.js";
import { element, field, keyHint } from "./element.js";
import { OBJECTIVES, STRENGTHS, verdict } from "./objectives.js";

const DEGREES = [
  ...[4, 3, 2, 1].map((strength) => ({ preferred: 0, strength })),
  ...[1, 2, 3, 4].map((strength) => ({ preferred: 1, strength })),
];
const LONGEST_S = 86_400;
let ballots = 0;

/** What is asked under an objective, as the raters read it. */
export function question(objective) {
  return asked(OBJECTIVES[objective].question, OBJECTIVES[objective].instruction);
}

/** What stands in the place of a question where there is nothing to choose. */
export function sameReplies() {
  const better = "There is nothing to choose. What can be learnt from is a better reply, if you write one.";
  return asked("Both replies came out the same", better);
}

function asked(heading, text) {
  return element("div", { class: "question" }, element("h2", {}, heading), element("p", {}, text));
}

export class Ballot {
  /**
   * `onCast(judgement)` gets what PUT .../vote takes, without the objective; `onMark(side)` follows the choice. Without
   * `onSkip` there is no way round a vote.
   */
  constructor({ objective, texts, onCast, onSkip, onMark, skipLabel = "Skip" }) {
    Object.assign(this, { objective, texts, onCast, onSkip, onMark });
    this.chosen = null;
    this.over = false;
    this.skipped = false;
    this.since = performance.now();
    const name = `degree-${++ballots}`;
    this.radios = DEGREES.map((degree, at) =>
      element("input", {
        type: "radio",
        name,
        value: at,
        class: "only-heard",
        "aria-label": verdict(degree),
        onchange: () => this.choose(at),
      }),
    );
    this.said = element("p", { class: "verdict", role: "status" });
    this.submit = element("button", { class: "primary", type: "submit", disabled: true }, "Vote ", keyHint("Enter"));
    this.reason = element("input", { id: `${name}-reason`, maxlength: 2000, autocomplete: "off" });
    this.ideal = element("textarea", { id: `${name}-ideal`, rows: 5 });
    this.idealPart = field(this.ideal, "A reply better than both");
    this.idealPart.hidden = true;
    this.node = element(
      "form",
      { class: "ballot", tabindex: "-1", "aria-label": "Your vote", onsubmit: (event) => this.onSubmit(event) },
      element(
        "div",
        { class: "scale", role: "radiogroup", "aria-label": OBJECTIVES[objective].question },
        element("span", { class: "end", "aria-hidden": "true" }, keyHint("←"), " A"),
        DEGREES.map((degree, at) =>
          element(
            "label",
            { class: `degree side-${degree.preferred} strength-${degree.strength}`, title: verdict(degree) },
            this.radios[at],
            element("span", { "aria-hidden": "true" }, String(degree.strength)),
          ),
        ),
        element("span", { class: "end", "aria-hidden": "true" }, "B ", keyHint("→")),
      ),
      this.said,
      element(
        "div",
        { class: "choices" },
        this.submit,
        element("button", { type: "button", onclick: () => this.cast({ preferred: "tie" }) }, "Tie ", keyHint("t")),
        element(
          "button",
          { type: "button", onclick: () => this.cast({ preferred: "both_bad" }) },
          "Both bad ",
          keyHint("b"),
        ),
        onSkip &&
          element(
            "button",
            { type: "button", class: "quiet", onclick: () => this.skip() },
            `${skipLabel} `,
            keyHint("s"),
          ),
        element("button", { type: "button", class: "quiet", onclick: () => this.rewrite() }, "Rewrite ", keyHint("e")),
      ),
      field(this.reason, ["Reason, if you like ", keyHint("r")]),
      this.idealPart,
    );
    this.draw();
  }

  /** Keys work wherever the focus is, except where something is being written. True when the key was the ballot's. */
  onKey(event) {
    if (this.over || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.target.closest?.("input:not([type=radio]), textarea, select")) {
      if (event.key !== "Escape" || !this.node.contains(event.target)) return false;
      this.node.focus();
      return true;
    }
    // Code and tables that are wider than their side are scrolled so.
    if (event.key.startsWith("Arrow") && event.target.closest?.("pre, table")) return false;
    const act = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      1: () => this.strengthen(1),
      2: () => this.strengthen(2),
      3: () => this.strengthen(3),
      4: () => this.strengthen(4),
      t: () => this.cast({ preferred: "tie" }),
      b: () => this.cast({ preferred: "both_bad" }),
      s: () => this.skip(),
      r: () => this.reason.focus(),
      e: () => this.rewrite(),
      Enter: event.target.closest?.("button, a, summary") ? null : () => this.castChosen(),
    }[event.key];
    if (!act) return false;
    event.preventDefault();
    act();
    return true;
  }

  step(by) {
    const from = this.chosen ?? (by < 0 ? 4 : 3);
    this.choose(Math.min(DEGREES.length - 1, Math.max(0, from + by)));
  }

  strengthen(strength) {
    if (this.chosen === null) {
      this.say("Pick a side first: ← for A, → for B");
      return;
    }
    const { preferred } = DEGREES[this.chosen];
    this.choose(DEGREES.findIndex((degree) => degree.preferred === preferred && degree.strength === strength));
  }

  choose(at) {
    this.chosen = at;
    this.radios[at].checked = true;
    this.submit.disabled = false;
    this.draw();
    this.onMark?.(DEGREES[at].preferred);
  }

  draw() {
    this.said.classList.toggle("decided", this.chosen !== null);
    this.said.textContent =
      this.chosen === null
        ? `How much better? 1 ${STRENGTHS[1]} … 4 ${STRENGTHS[4]}`
        : `${verdict(DEGREES[this.chosen])}.`;
  }

  say(text) {
    this.said.textContent = text;
    announce(text);
  }

  rewrite() {
    if (this.idealPart.hidden) {
      this.idealPart.hidden = false;
      this.ideal.value ||= this.texts()[this.chosen === null ? 0 : DEGREES[this.chosen].preferred];
    }
    this.ideal.focus();
  }

  onSubmit(event) {
    event.preventDefault();
    this.castChosen();
  }

  castChosen() {
    if (this.chosen === null) this.say("Pick a side first: ← for A, → for B");
    else this.cast(DEGREES[this.chosen]);
  }

  cast(judgement) {
    if (this.over) return;
    this.over = true;
    const ideal = this.idealPart.hidden ? "" : this.ideal.value.trim();
    const reason = this.reason.value.trim();
    this.onCast({
      ...judgement,
      // A is choice 0 and stands on the left, or first where there is no room for two.
      left: 0,
      elapsed_s: Math.min(LONGEST_S, Math.round((performance.now() - this.since) / 10) / 100),
      ...(reason && { reason }),
      // A reply that was not changed is not a better one.
      ...(ideal && !this.texts().some((text) => text.trim() === ideal) && { ideal }),
    });
  }

  skip() {
    if (!this.onSkip) return;
    // Of a vote that is being stored: should it fail.
    this.skipped = true;
    if (this.over) return;
    this.over = true;
    this.onSkip();
  }
}
