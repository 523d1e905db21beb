// Conversations of this browser, kept in its own storage, apart for each key; the newest first.
const MOST_KEPT = 100;
const LONGEST_TITLE = 60;

export class History {
  constructor(keyId) {
    this.name = `tandem.chats.${keyId}`;
  }

  all() {
    try {
      return JSON.parse(localStorage.getItem(this.name)) ?? [];
    } catch {
      return [];
    }
  }

  find(id) {
    return this.all().find((conversation) => conversation.id === id) ?? null;
  }

  save(conversation) {
    conversation.updated = Date.now();
    const others = this.all().filter((other) => other.id !== conversation.id);
    let kept = [conversation, ...others].slice(0, MOST_KEPT);
    for (;;) {
      try {
        localStorage.setItem(this.name, JSON.stringify(kept));
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || kept.length === 1) throw error;
        // The storage is full: the oldest go first.
        kept = kept.slice(0, Math.ceil(kept.length / 2));
      }
    }
  }

  remove(id) {
    localStorage.setItem(this.name, JSON.stringify(this.all().filter((conversation) => conversation.id !== id)));
  }

  clear() {
    localStorage.removeItem(this.name);
  }
}

/** `attack`: a person tries to bring the policy to harm; `success` says in the end how far they got. */
export function newConversation(attack = false) {
  // randomUUID is missing where the page came over plain HTTP from another machine.
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );
  return { id, title: "", turns: [], updated: 0, ...(attack && { attack }) };
}

export function titleOf(conversation) {
  const said =
    conversation.turns
      .find((turn) => turn.role === "user")
      ?.content.trim()
      .replace(/\s+/g, " ") ?? "New chat";
  const title = conversation.attack ? `Attack: ${said}` : said;
  return title.length > LONGEST_TITLE ? `${title.slice(0, LONGEST_TITLE - 1)}…` : title;
}
