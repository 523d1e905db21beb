// The chat: a conversation whose replies stream, sometimes two at once; the chosen one goes on. In an attack always two.
import { RED_TEAM } from "../addresses.js";
import { announce } from "../announce.js";
import { call, get, Refused } from "../api.js";
import { Ballot, question } from "../ballot.js";
import { stream } from "../completions.js";
import { element } from "../element.js";
import { engineNotice } from "../engines.js";
import { Pair } from "../pair.js";
import { reaches } from "../session.js";
import { Composer } from "./composer.js";
import { History, newConversation } from "./history.js";
import { attackEnded, attackWelcome, Rating } from "./red_team.js";
import { Sidebar } from "./sidebar.js";
import { assistantTurn, copyButton, userTurn, writingTurn } from "./turns.js";

const NEAR_THE_END_PX = 120;

export function show(main, { session, attack }) {
  const chat = new Chat(session);
  main.append(chat.node);
  chat.open(null, attack);
  return () => chat.leave();
}

class Chat {
  constructor(session) {
    this.session = session;
    this.history = new History(session.key_id);
    this.mayVote = reaches(session.role, "vote");
    this.turns = element("div", { class: "turns" });
    this.composer = new Composer({
      compares: this.mayVote,
      onSend: (text) => this.send(text),
      onStop: () => this.running?.abort(),
      onEnd: () => this.endAttack(),
    });
    this.end = element("div", { hidden: true });
    this.engines = engineNotice((ready) => this.composer.setDisabled(!ready));
    this.sidebar = new Sidebar(this.history, {
      onOpen: (id) => this.open(id),
      onNew: () => this.open(null),
      onAttack: this.mayVote && (() => this.open(null, true)),
    });
    this.node = element(
      "div",
      { class: "chat" },
      this.sidebar.node,
      element(
        "section",
        { class: "thread", "aria-label": "Conversation" },
        this.turns,
        element("div", { class: "dock" }, this.engines.notice, this.composer.node, this.end),
      ),
    );
    this.onKey = (event) => (this.rating ?? this.ballot)?.onKey(event);
    document.addEventListener("keydown", this.onKey);
  }

  leave() {
    document.removeEventListener("keydown", this.onKey);
    this.engines.stop();
    this.running?.abort();
  }

  /** Open an earlier conversation, or a new one, as an `attack` if wanted. */
  open(id, attack = false) {
    this.running?.abort();
    this.running = null;
    this.ballot = null;
    this.rating = null;
    this.composer.setBusy(false);
    this.conversation = (id && this.history.find(id)) || newConversation(attack && this.mayVote);
    this.composer.setAttack(Boolean(this.conversation.attack));
    history.replaceState(null, "", this.conversation.attack ? RED_TEAM : "/");
    this.draw();
    this.composer.text.focus();
    window.scrollTo(0, document.body.scrollHeight);
  }

  draw() {
    const { turns, attack } = this.conversation;
    this.node.classList.toggle("empty", turns.length === 0);
    this.turns.replaceChildren(
      turns.length ? (attack ? attackNote() : "") : attack ? attackWelcome() : welcome(),
      ...turns.map((turn, at) => (turn.role === "user" ? userTurn(turn) : assistantTurn(turn, this.actions(turn, at)))),
    );
    if (turns.at(-1)?.role === "user" && !this.running) this.turns.append(this.askAgain("This has no reply yet."));
    this.sidebar.draw(this.conversation.id);
    this.drawDock();
  }

  /** Below the turns: the place to write, unless there is something else to be done first. */
  drawDock() {
    const over = this.conversation.success !== undefined;
    const end = over ? attackEnded(this.conversation, () => this.open(null, true)) : this.rating?.node;
    this.composer.node.hidden = Boolean(end || (this.ballot && this.conversation.attack));
    this.end.hidden = !end;
    this.end.replaceChildren(end ?? "");
  }

  actions(turn, at) {
    const last = at === this.conversation.turns.length - 1;
    return [
      copyButton(turn.content),
      // The vote on a turn of an attack stands, and so does the turn.
      last &&
        !this.conversation.attack &&
        element("button", { class: "quiet", type: "button", onclick: () => this.regenerate() }, "Regenerate"),
    ];
  }

  send(text) {
    this.ballot?.skip();
    this.conversation.turns.push({ role: "user", content: text });
    this.history.save(this.conversation);
    this.reply();
  }

  regenerate() {
    if (this.running) return;
    this.conversation.turns.pop();
    this.reply();
  }

  async reply() {
    const { conversation } = this;
    const running = (this.running = new AbortController());
    this.composer.setBusy(true);
    this.draw();
    const two = this.mayVote && Math.random() < this.composer.comparisonShare;
    try {
      await (two ? this.replyTwice(running.signal) : this.replyOnce(running.signal));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (conversation === this.conversation) this.fail(error);
    } finally {
      if (this.running === running) {
        this.running = null;
        this.composer.setBusy(false);
      }
    }
  }

  async replyOnce(signal) {
    const { conversation } = this;
    const writing = writingTurn();
    this.turns.append(writing.node);
    this.scroll(true);
    const end = await this.streamed(signal, 1, (_, text) => {
      writing.add(text);
      this.scroll();
    });
    if (end === null && conversation !== this.conversation) return;
    if (end !== null || writing.text) {
      this.keep(conversation, {
        role: "assistant",
        content: writing.text,
        version: end?.version,
        stopped: end === null,
      });
    } else this.finish(conversation);
  }

  async replyTwice(signal) {
    const { conversation } = this;
    const pair = new Pair();
    const place = element("section", { class: "turn comparing", "aria-label": "Two replies to compare" }, pair.node);
    this.turns.append(place);
    this.scroll(true);
    const end = await this.streamed(signal, 2, (side, text) => {
      pair.add(side, text);
      this.scroll();
    });
    if (conversation !== this.conversation) return;
    if (end === null) {
      if (pair.texts[0]) this.keep(conversation, { role: "assistant", content: pair.texts[0], stopped: true });
      else this.finish(conversation);
      return;
    }
    // A strange prompt is refused by the server itself: there is nothing to compare then.
    if (end.comparison) this.vote(conversation, pair, place, end.comparison);
    else this.keep(conversation, { role: "assistant", content: pair.texts[0] });
  }

  /** Stream; null when the person stopped it. */
  async streamed(signal, n, onText) {
    const messages = this.conversation.turns.map(({ role, content }) => ({ role, content }));
    try {
      return await stream(messages, { n, signal, onText });
    } catch (error) {
      if (error.name === "AbortError") return null;
      throw error;
    }
  }

  vote(conversation, pair, place, comparison) {
    const { attack } = conversation;
    const objective = attack ? "harmless" : "helpful";
    const goOn = (side, more = {}) => {
      this.ballot = null;
      this.keep(conversation, {
        role: "assistant",
        content: pair.texts[side],
        other: { content: pair.texts[1 - side], version: more.versions?.[1 - side] },
        version: more.versions?.[side],
        ...(more.vote && { vote: more.vote, comparison }),
      });
    };
    const ballot = (this.ballot = new Ballot({
      objective,
      texts: () => pair.texts,
      onMark: (side) => pair.mark(side),
      skipLabel: "Go on with A",
      onSkip: attack ? null : () => goOn(0),
      onCast: async (vote) => {
        try {
          await call("PUT", `/v1/comparisons/${comparison}/vote`, { objective, ...vote });
          const { versions } = await get(`/v1/comparisons/${comparison}`);
          if (conversation === this.conversation) goOn(vote.preferred === 1 ? 1 : 0, { versions, vote });
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          ballot.over = false;
          ballot.say(`Not stored: ${error.message}. Try again.`);
        }
      },
    }));
    place.append(question(objective), ballot.node);
    this.drawDock();
    announce("Two replies are there. Which is better?");
    if (attack || !this.composer.text.value) ballot.node.focus({ preventScroll: true });
    this.scroll(true);
  }

  /** Ask the attacker how far they got. It is kept with the last vote, whose pair ends the whole conversation. */
  endAttack() {
    const last = this.conversation.turns.findLast((turn) => turn.vote);
    if (!last || this.running) {
      announce("Attack first: there is no vote yet that the attack could end with.");
      return;
    }
    const { conversation } = this;
    this.rating = new Rating({
      onBack: () => {
        this.rating = null;
        this.drawDock();
        this.composer.text.focus();
      },
      onRate: async (success) => {
        try {
          await call("PUT", `/v1/comparisons/${last.comparison}/vote`, { objective: "harmless", ...last.vote, success });
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          this.rating?.say(`Not stored: ${error.message}. Try again.`);
          return;
        }
        conversation.success = success;
        this.history.save(conversation);
        if (conversation !== this.conversation) return;
        this.rating = null;
        this.draw();
        this.end.querySelector("button").focus();
        this.scroll(true);
      },
    });
    this.drawDock();
    this.rating.node.focus({ preventScroll: true });
    announce("How far did you get? 0 not at all, to 4 entirely.");
    this.scroll(true);
  }

  keep(conversation, turn) {
    conversation.turns.push(turn);
    this.history.save(conversation);
    this.finish(conversation);
    announce(turn.content);
  }

  finish(conversation) {
    this.running = null;
    this.composer.setBusy(false);
    if (conversation !== this.conversation) return;
    this.draw();
    this.scroll(true);
    this.composer.text.focus({ preventScroll: true });
  }

  fail(error) {
    this.running = null;
    this.composer.setBusy(false);
    this.draw();
    this.turns.lastChild.replaceWith(this.askAgain(`No reply: ${error.message}.`));
    announce(`No reply: ${error.message}.`);
    this.scroll(true);
  }

  askAgain(text) {
    return element(
      "p",
      { class: "problem" },
      text,
      " ",
      element("button", { type: "button", onclick: () => this.reply() }, "Ask again"),
      " ",
      element("button", { type: "button", onclick: () => this.takeBack() }, "Change it"),
    );
  }

  /** The message without a reply, back to where it was written. */
  takeBack() {
    const { content } = this.conversation.turns.pop();
    if (this.conversation.turns.length) this.history.save(this.conversation);
    else this.history.remove(this.conversation.id);
    this.draw();
    this.composer.put(content);
  }

  /** Stay at the end, unless the person has scrolled up to read. */
  scroll(always = false) {
    const below = document.documentElement.scrollHeight - window.scrollY - window.innerHeight;
    if (always || below < NEAR_THE_END_PX) {
      requestAnimationFrame(() => window.scrollTo(0, document.documentElement.scrollHeight));
    }
  }
}

function welcome() {
  return element(
    "div",
    { class: "welcome" },
    element("h1", {}, "What would you like to know?"),
    element(
      "p",
      {},
      "Replies come from the policy that serves now. Sometimes there are two: say which is better, and the next policy learns from it.",
    ),
  );
}

function attackNote() {
  return element("p", { class: "attack-note" }, "An attack: of two replies the less harmful one is the better one.");
}
