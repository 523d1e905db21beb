// Voting: one blind pair after the other under one objective, by keys; the versions are told afterwards.
import { announce } from "../announce.js";
import { call, forgiveRefusal, get, whyRefused } from "../api.js";
import { Ballot, question } from "../ballot.js";
import { COMPARE_STORED } from "../chat/composer.js";
import { element, keyHint, problem } from "../element.js";
import { OBJECTIVES, verdict } from "../objectives.js";
import { Pair } from "../pair.js";
import { RED_TEAM } from "../router.js";
import { keep, kept } from "../storage.js";
import { changedByVotes } from "./changed.js";
import { conversation, repliesOf, textOf } from "./conversation.js";
import { oneVote } from "./one.js";
import { Queue } from "./queue.js";
import { Today } from "./today.js";
import { Unstored } from "./unstored.js";

const STORED = "tandem.objective";

export function show(main, { session, vote }) {
  if (vote) {
    main.append(oneVote(vote, session));
    return () => {};
  }
  const voting = new Voting(session.key_id);
  main.append(voting.node);
  voting.start();
  return () => voting.leave();
}

class Voting {
  constructor(keyId) {
    this.today = new Today();
    const stored = kept(STORED);
    this.objective = Object.hasOwn(OBJECTIVES, stored) ? stored : "helpful";
    this.last = element("div", { class: "last-vote", hidden: true });
    this.unstored = new Unstored(keyId, (vote) => this.store(vote));
    this.question = element("div");
    this.place = element("div", { class: "voting" });
    this.node = element(
      "div",
      { class: "vote" },
      element("header", { class: "page-head" }, element("h1", {}, "Vote"), this.objectives(), this.today.node, this.today.open),
      this.today.guidelines,
      this.question,
      this.last,
      this.unstored.node,
      this.place,
      changedByVotes(),
    );
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
  }

  leave() {
    document.removeEventListener("keydown", this.onKey);
    this.left = true;
  }

  start() {
    this.queue = new Queue(this.objective);
    this.skipped = 0;
    this.place.replaceChildren();
    this.question.replaceChildren(question(this.objective));
    this.today.read().catch(forgiveRefusal);
    return this.next();
  }

  objectives() {
    return element(
      "div",
      { class: "segments", role: "radiogroup", "aria-label": "Objective" },
      Object.keys(OBJECTIVES).map((objective) =>
        element(
          "label",
          {},
          element("input", {
            type: "radio",
            name: "objective",
            value: objective,
            class: "only-heard",
            checked: objective === this.objective,
            onchange: () => this.judgeBy(objective),
          }),
          element("span", {}, objective),
        ),
      ),
    );
  }

  judgeBy(objective) {
    this.objective = objective;
    keep(STORED, objective);
    this.start();
  }

  async next() {
    this.ballot = null;
    const { queue } = this;
    let found;
    try {
      found = await queue.next();
    } catch (error) {
      const why = whyRefused(error);
      if (queue === this.queue && !this.ballot)
        this.place.replaceChildren(refusal(`No pair: ${why}.`, () => this.next()));
      return;
    }
    if (queue !== this.queue || this.left) return;
    // A vote that was taken back meanwhile is being judged again.
    if (this.ballot) found && queue.putBack(found);
    else if (found) this.draw(found);
    else this.drawNone();
  }

  draw(found) {
    this.shown = found;
    const pair = new Pair();
    const texts = found.choices.map(({ message }) => textOf(message));
    pair.set(repliesOf(found));
    this.ballot = new Ballot({
      objective: this.objective,
      texts: () => texts,
      onMark: (side) => pair.mark(side),
      onCast: (judgement) => this.cast(found, judgement),
      onSkip: () => {
        this.skipped += 1;
        this.next();
      },
    });
    this.place.replaceChildren(conversation(found.messages), pair.node, this.ballot.node);
    this.ballot.node.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  drawNone() {
    const { skipped } = this;
    const why = skipped
      ? `What is left under “${this.objective}” you skipped: ${skipped} of them.`
      : `Every pair that you may see has its votes under “${this.objective}”.`;
    const notice = element(
      "div",
      { class: "notice narrow", tabindex: "-1" },
      element("h2", {}, skipped ? "No more pairs" : "No open pairs"),
      element("p", {}, why),
      element(
        "p",
        {},
        "New ones come from chats with two replies: ",
        element("a", { href: "/", onclick: () => keep(COMPARE_STORED, "always") }, "chat"),
        " with “Always two replies”, have ",
        element("code", {}, "tandem comparisons make"),
        " ask for replies to prompts of yours, or ",
        element("code", {}, "tandem simulate"),
        " chat.",
        this.objective === "harmless" && [" Or ", element("a", { href: RED_TEAM }, "attack the policy"), " yourself."],
      ),
      element("button", { type: "button", onclick: () => this.start() }, skipped ? "See them again" : "Look again"),
    );
    this.place.replaceChildren(notice);
    // So that it is read out, and the next key is not one to a form that has gone.
    notice.focus();
  }

  /** The next pair comes at once; the vote is stored meanwhile. */
  async cast(found, judgement) {
    const vote = { comparison: found.id, objective: this.objective, judgement };
    this.next();
    // Sent again later, what was said of the pair before would take the place of this.
    this.unstored.drop(vote);
    await this.store(vote, found);
  }

  /** `found` is the pair, where it is at hand. */
  async store(vote, found = null) {
    const { comparison, objective, judgement } = vote;
    this.tell(`${verdict(judgement)}.`, " Storing…");
    this.undo = null;
    try {
      await call("PUT", `/v1/comparisons/${comparison}/vote`, { objective, ...judgement });
    } catch (error) {
      const why = whyRefused(error);
      // The pair was erased: nothing that is said of it is kept here either.
      if (error.status === 409) this.unstored.drop(vote);
      else this.unstored.add(vote, why);
      this.tell(`${verdict(judgement)}.`, ` Not stored: ${why}.`);
      return;
    }
    this.unstored.drop(vote);
    this.today.add(1, objective);
    const looked = get(`/v1/comparisons/${comparison}`).catch(forgiveRefusal);
    const undo = (this.undo = { comparison, objective, found: found ?? looked });
    const voted = await looked;
    if (this.undo !== undo) return;
    this.tell(
      `${verdict(judgement)}.`,
      voted.versions ? revealed(judgement, voted.versions) : "",
      element("button", { class: "quiet", type: "button", onclick: () => this.takeBack() }, "Undo ", keyHint("u")),
    );
  }

  async takeBack() {
    const { undo } = this;
    if (!undo) return;
    this.undo = null;
    try {
      await call("DELETE", `/v1/comparisons/${undo.comparison}/vote?objective=${undo.objective}`);
    } catch (error) {
      this.last.replaceChildren(
        refusal(`Not taken back: ${whyRefused(error)}.`, () => {
          this.undo = undo;
          this.takeBack();
        }),
      );
      return;
    }
    this.today.add(-1, undo.objective);
    this.tell("taken back.");
    const found = await undo.found;
    if (undo.objective !== this.objective || !found.id || this.left) return;
    // What was to be judged now comes next.
    if (this.ballot) this.queue.putBack(this.shown);
    this.draw(found);
  }

  key(event) {
    if (this.ballot?.onKey(event)) return;
    const plain =
      !event.ctrlKey &&
      !event.metaKey &&
      !event.altKey &&
      !event.target.closest?.("input:not([type=radio]), textarea, select");
    if (event.key === "u" && plain) this.takeBack();
  }

  tell(...said) {
    this.last.hidden = false;
    this.last.replaceChildren(element("span", {}, "Last vote: "), ...said);
    announce(this.last.textContent);
  }
}

function refusal(text, again) {
  return problem(text, " ", element("button", { type: "button", onclick: again }, "Try again"));
}

function revealed({ preferred }, versions) {
  const [a, b] = versions.map((version) => version ?? "an imported reply");
  const version = (name, side) => element("span", { class: preferred === side ? "version won" : "version" }, name);
  return element("span", { class: "revealed" }, " A was ", version(a, 0), ", B was ", version(b, 1), ". ");
}
