// The chat: a conversation whose replies stream, sometimes two at once; the chosen one goes on. In an attack always two.
import { announce } from "../announce.js";
import { Refused } from "../api.js";
import { question, sameReplies } from "../ballot.js";
import { element } from "../element.js";
import { Pair } from "../pair.js";
import { RED_TEAM } from "../router.js";
import { reaches } from "../session.js";
import { choice } from "./choice.js";
import { stream } from "./completions.js";
import { Composer } from "./composer.js";
import { engineNotice } from "./engines.js";
import { heading } from "./heading.js";
import { History, newConversation } from "./history.js";
import { attackEnded, attackNote, attackRating, attackWelcome } from "./red_team.js";
import { atTheEnd, following, scrollToTheEnd } from "./scrolling.js";
import { askSettings, DefaultSettings, requestOf } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { assistantTurn, copyButton, editedTurn, unanswered, userTurn, welcome, writingTurn, wrong } from "./turns.js";

export function show(main, { session, attack }) {
  const chat = new Chat(session);
  main.append(chat.node);
  chat.open(history.state?.chat, attack);
  return () => chat.leave();
}

class Chat {
  constructor(session) {
    this.session = session;
    this.history = new History(session.key_id);
    this.defaults = new DefaultSettings(session.key_id);
    this.mayVote = reaches(session.role, "vote");
    this.turns = element("div", { class: "turns" });
    this.composer = new Composer({
      compares: this.mayVote,
      onSend: (text) => this.send(text),
      onStop: () => this.running?.abort(),
      onEnd: () => this.endAttack(),
      onSettings: () => this.askSettings(),
    });
    this.end = element("div", { hidden: true });
    this.heading = element("div");
    this.notKept = element("div", { role: "alert" });
    this.engines = engineNotice((ready) => this.composer.setDisabled(!ready));
    this.sidebar = new Sidebar(this.history, {
      onOpen: (id) => this.goTo(id),
      onNew: () => this.goTo(null),
      onAttack: this.mayVote && (() => this.goTo(null, true)),
    });
    this.node = element(
      "div",
      { class: "chat" },
      this.sidebar.node,
      element(
        "section",
        { class: "thread", "aria-label": "Conversation" },
        this.heading,
        this.turns,
        element("div", { class: "dock" }, this.engines.notice, this.notKept, this.composer.node, this.end),
      ),
    );
    // What is pressed in a dialog is no vote.
    this.onKey = (event) => document.querySelector("dialog[open]") || (this.rating ?? this.ballot)?.onKey(event);
    document.addEventListener("keydown", this.onKey);
    this.onStorage = ({ key }) => key === this.history.name && this.followOtherTabs();
    window.addEventListener("storage", this.onStorage);
    // A link within the page has no state.
    this.onPopState = ({ state }) =>
      state && state.chat !== this.conversation.id && this.open(state.chat, location.pathname === RED_TEAM);
    window.addEventListener("popstate", this.onPopState);
  }

  leave() {
    this.left = true;
    this.ballot?.skip();
    document.removeEventListener("keydown", this.onKey);
    window.removeEventListener("storage", this.onStorage);
    window.removeEventListener("popstate", this.onPopState);
    this.engines.stop();
    this.running?.abort();
  }

  /** Open another conversation; Back leads to the one that is open now. */
  goTo(id, attack = false) {
    const { id: here, turns } = this.conversation;
    if (id === here) return;
    if (id || turns.length) history.pushState(null, "");
    this.open(id, attack);
  }

  /** Open an earlier conversation, or a new one, as an `attack` if wanted. */
  open(id, attack = false) {
    // As who writes on without a vote does.
    this.ballot?.skip();
    this.running?.abort();
    this.running = null;
    this.ballot = null;
    this.rating = null;
    this.composer.setBusy(false);
    this.conversation = (id && this.history.find(id)) || this.newConversation(attack && this.mayVote);
    this.composer.setAttack(Boolean(this.conversation.attack));
    this.remember();
    this.draw();
    this.composer.text.focus();
    window.scrollTo(0, document.body.scrollHeight);
  }

  /** Whoever loads the page anew, or comes back to it, finds this conversation. */
  remember() {
    const { id, attack } = this.conversation;
    history.replaceState({ chat: id }, "", attack ? RED_TEAM : "/");
  }

  newConversation(attack) {
    return newConversation(attack ? { attack } : { settings: this.defaults.read() });
  }

  /** Another tab has changed what is kept. What is being written or judged here goes on as it is. */
  followOtherTabs() {
    const there = this.history.find(this.conversation.id);
    const busy = this.running || this.ballot || this.rating || this.editing;
    if (there && there.updated !== this.conversation.updated && !busy) {
      this.conversation = there;
      this.draw();
    } else this.sidebar.draw(this.conversation.id);
  }

  save(conversation = this.conversation) {
    this.drawKept(this.history.save(conversation));
    // It is one of its own by now where another tab went on with it too.
    if (conversation === this.conversation && !this.left) this.remember();
  }

  drawKept(kept) {
    const said = "This browser’s storage is full: what is said here is not kept. Delete earlier chats.";
    this.notKept.replaceChildren(kept ? "" : element("p", { class: "problem" }, said));
  }

  draw() {
    const { turns, attack, settings } = this.conversation;
    this.editing = false;
    this.node.classList.toggle("empty", turns.length === 0);
    this.turns.replaceChildren(
      turns.length ? (attack ? attackNote() : "") : attack ? attackWelcome() : welcome(),
      ...turns.map((turn, at) =>
        turn.role === "user" ? userTurn(turn, this.messageActions(at)) : assistantTurn(turn, this.replyActions(turn, at)),
      ),
    );
    if (this.unanswered && !this.running) this.turns.append(this.askAgain("This has no reply yet."));
    this.composer.setSettings(Object.keys(settings).length > 0);
    this.drawTitles();
    this.drawDock();
  }

  drawTitles() {
    const { conversation } = this;
    this.heading.replaceChildren(conversation.turns.length ? heading(conversation, (title) => this.rename(title)) : "");
    this.sidebar.draw(conversation.id);
  }

  /** Whether the last message has no reply. */
  get unanswered() {
    return this.conversation.turns.at(-1)?.role === "user";
  }

  /** Below the turns: the place to write, unless there is something else to be done first. */
  drawDock() {
    const over = this.conversation.success !== undefined;
    const end = over ? attackEnded(this.conversation, () => this.goTo(null, true)) : this.rating?.node;
    this.composer.node.hidden = Boolean(end || (this.ballot && this.conversation.attack));
    this.end.hidden = !end;
    this.end.replaceChildren(end ?? "");
  }

  replyActions(turn, at) {
    const last = at === this.conversation.turns.length - 1;
    return [
      copyButton(turn.content),
      // The vote on a turn of an attack stands, and so does the turn.
      last &&
        !this.conversation.attack &&
        element("button", { class: "quiet", type: "button", onclick: () => this.regenerate() }, "Regenerate"),
    ];
  }

  messageActions(at) {
    const { attack, turns } = this.conversation;
    // One without a reply has its own way to be changed, and what a turn of an attack was voted on stands.
    if (this.running || attack || (this.unanswered && at === turns.length - 1)) return [];
    return [element("button", { class: "quiet", type: "button", onclick: () => this.edit(at) }, "Edit")];
  }

  /** Change a message: sent again, it takes the place of all that followed. */
  edit(at) {
    const { turns } = this.conversation;
    this.draw();
    this.editing = true;
    const form = editedTurn(turns[at], {
      onSend: (text) => {
        turns.length = at;
        this.send(text);
      },
      onLeave: () => {
        this.draw();
        this.composer.text.focus({ preventScroll: true });
      },
    });
    this.turns.querySelectorAll(".turn")[at].replaceWith(form);
    this.turns.querySelector(":scope > .problem")?.remove();
    form.querySelector("textarea").focus();
  }

  /** False for a message that cannot be said now. */
  send(text) {
    // The vote decides what it would follow, and is being stored.
    if (this.ballot?.over) return false;
    this.ballot?.skip();
    // Two messages in a row are against many a policy's template: what had no reply is said together with this.
    const before = this.unanswered ? [this.conversation.turns.pop().content] : [];
    this.conversation.turns.push({ role: "user", content: [...before, text].join("\n\n") });
    this.save();
    this.reply();
    return true;
  }

  regenerate() {
    if (this.running) return;
    this.conversation.turns.pop();
    this.reply();
  }

  rename(title) {
    this.conversation.title = title;
    this.save();
    this.drawTitles();
  }

  askSettings() {
    const { conversation } = this;
    askSettings(conversation.settings, (settings, byDefault) => {
      conversation.settings = settings;
      if (byDefault) this.drawKept(this.defaults.write(settings));
      if (conversation.turns.length) this.save();
      this.composer.setSettings(Object.keys(settings).length > 0);
    });
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
    const writing = writingTurn(following);
    this.turns.append(writing.node);
    scrollToTheEnd();
    const { version, finished, ...ended } = await this.streamed(signal, 1, writing.add, () => writing.text);
    if (finished || writing.text) {
      const cut = finished?.[0] === "length";
      this.keep(conversation, { role: "assistant", content: writing.text, version, cut, ...ended });
    } else if (conversation === this.conversation) this.finish();
  }

  async replyTwice(signal) {
    const { conversation } = this;
    const pair = new Pair(following);
    const place = element("section", { class: "turn comparing", "aria-label": "Two replies to compare" }, pair.node);
    this.turns.append(place);
    scrollToTheEnd();
    const add = (side, text) => pair.add(side, text);
    const { comparison, finished, stopped, broken } = await this.streamed(signal, 2, add, () => pair.texts[0]);
    const isOpen = conversation === this.conversation;
    // A strange prompt is refused by the server itself: there is nothing to compare then.
    if (finished && comparison && isOpen) this.vote(conversation, pair, place, { comparison, finished });
    else if (finished || pair.texts[0]) this.keep(conversation, { role: "assistant", content: pair.texts[0], stopped, broken });
    else if (isOpen) this.finish();
  }

  /** Stream. One that the person stopped ends as `stopped`, and `broken` says why one broke off that was `written` in part. */
  async streamed(signal, n, onText, written) {
    const { turns, settings, attack } = this.conversation;
    try {
      return await stream(requestOf(turns, settings), { n, signal, onText });
    } catch (error) {
      if (error.name === "AbortError") return { stopped: true };
      // An attack goes on with what was voted on.
      if (error instanceof Refused && written() && !attack) return { broken: error.message };
      throw error;
    }
  }

  vote(conversation, pair, place, { comparison, finished }) {
    const { attack } = conversation;
    const objective = attack ? "harmless" : "helpful";
    // The last words may wait to be drawn, and what is judged has to be there.
    pair.draw();
    const ballot = (this.ballot = choice({
      objective,
      pair,
      finished,
      comparison,
      optional: !attack,
      onChosen: (turn) => {
        if (conversation === this.conversation) this.ballot = null;
        this.keep(conversation, turn);
      },
    }));
    // An attack is told of with a vote: one is asked for all the same, be it that both are bad.
    const same = !attack && pair.texts[0] === pair.texts[1];
    place.append(same ? sameReplies() : question(objective), ballot.node);
    this.drawDock();
    announce(same ? "Both replies came out the same." : "Two replies are there. Which is better?");
    if (attack || !this.composer.text.value) ballot.node.focus({ preventScroll: true });
    // From where they begin: two long ones are more than a screen.
    requestAnimationFrame(() => place.scrollIntoView());
  }

  /** Ask the attacker how far they got. It is kept with the last vote, whose pair ends the whole conversation. */
  endAttack() {
    const last = this.conversation.turns.findLast((turn) => turn.vote);
    if (!last || this.running) {
      announce("Attack first: there is no vote yet that the attack could end with.");
      return;
    }
    const { conversation } = this;
    this.rating = attackRating(last, {
      onBack: () => {
        this.rating = null;
        this.drawDock();
        this.composer.text.focus();
      },
      onRated: (success) => {
        conversation.success = success;
        this.save(conversation);
        if (conversation !== this.conversation) return;
        this.rating = null;
        this.draw();
        this.end.querySelector("button").focus();
        scrollToTheEnd();
      },
    });
    this.drawDock();
    this.rating.node.focus({ preventScroll: true });
    announce("How far did you get? 0 not at all, to 4 entirely.");
    scrollToTheEnd();
  }

  keep(conversation, turn) {
    // Who opens another chat meanwhile finds it in this one, and who deletes this one does not.
    if (conversation !== this.conversation && !this.history.find(conversation.id)) return;
    conversation.turns.push(turn);
    this.save(conversation);
    // Else another one is there, which may be waiting for a reply of its own.
    if (conversation === this.conversation) this.finish([turn.content, wrong(turn)].filter(Boolean).join(" "));
  }

  finish(said) {
    this.running = null;
    if (this.left) return;
    this.composer.setBusy(false);
    const follow = atTheEnd();
    this.draw();
    scrollToTheEnd(follow);
    this.composer.text.focus({ preventScroll: true });
    if (said) announce(said);
  }

  fail(error) {
    this.running = null;
    this.composer.setBusy(false);
    this.draw();
    this.turns.lastChild.replaceWith(this.askAgain(`No reply: ${error.message}.`));
    announce(`No reply: ${error.message}.`);
    scrollToTheEnd();
  }

  askAgain(text) {
    return unanswered(text, {
      onAsk: () => this.reply(),
      onChange: () => this.edit(this.conversation.turns.length - 1),
    });
  }
}
