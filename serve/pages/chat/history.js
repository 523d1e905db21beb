// Conversations of this browser, kept in its own storage, apart for each key; the newest first.
import { forget, keep, keptValue } from "../storage.js";
import { checked } from "./settings.js";

const MOST_KEPT = 100;
const LONGEST_TITLE = 60;

export class History {
  constructor(keyId) {
    this.name = `tandem.chats.${keyId}`;
  }

  all() {
    const found = keptValue(this.name);
    return Array.isArray(found) ? found.filter(isConversation) : [];
  }

  find(id) {
    return this.all().find((conversation) => conversation.id === id) ?? null;
  }

  /** Those that say this, in their title or a turn, in whatever case. */
  search(text) {
    const wanted = text.trim().toLowerCase();
    return this.all().filter((conversation) =>
      [conversation.title, ...conversation.turns.map((turn) => turn.content)].some((said) =>
        said.toLowerCase().includes(wanted),
      ),
    );
  }

  /** What was said here and what another tab has said meanwhile both stay: this becomes one of its own. False when full. */
  save(conversation) {
    const before = this.find(conversation.id);
    if (before && before.updated !== conversation.updated) conversation.id = newId();
    conversation.updated = Math.max(Date.now(), conversation.updated + 1);
    const others = this.all().filter((other) => other.id !== conversation.id);
    let kept = [conversation, ...others].slice(0, MOST_KEPT);
    while (!keep(this.name, JSON.stringify(kept))) {
      if (kept.length === 1) return false;
      // The storage is full: the oldest go first.
      kept = kept.slice(0, -Math.ceil(kept.length / 10));
    }
    return true;
  }

  remove(id) {
    keep(this.name, JSON.stringify(this.all().filter((conversation) => conversation.id !== id)));
  }

  clear() {
    forget(this.name);
  }
}

/**
 * `attack`: a person tries to bring the policy to harm; `success` says in the end how far they got. `settings` are those
 * of `settings.js`; `title` is empty until a person gives one.
 */
export function newConversation({ attack = false, settings = {} } = {}) {
  return { id: newId(), title: "", turns: [], updated: 0, settings, ...(attack && { attack }) };
}

export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const said =
    conversation.turns
      .find((turn) => turn.role === "user")
      ?.content.trim()
      .replace(/\s+/g, " ") ?? "New chat";
  const title = conversation.attack ? `Attack: ${said}` : said;
  return title.length > LONGEST_TITLE ? `${title.slice(0, LONGEST_TITLE - 1)}…` : title;
}

function newId() {
  // randomUUID is missing where the page came over plain HTTP from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An earlier version of this page may have kept it, or a person by hand. Its settings are made good here. */
function isConversation(value) {
  if (typeof value?.id !== "string" || !Array.isArray(value.turns) || !value.turns.every(isTurn)) return false;
  value.title = typeof value.title === "string" ? value.title : "";
  value.settings = checked(value.settings);
  return true;
}

function isTurn(value) {
  const other = value?.other ?? { content: "" };
  return ["user", "assistant"].includes(value?.role) && [value, other].every(({ content }) => typeof content === "string");
}
