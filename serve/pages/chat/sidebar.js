// Earlier conversations of this browser, to find, to open and to delete.
import { element } from "../element.js";
import { titleOf } from "./history.js";

export class Sidebar {
  /** `onAttack` is left out for who may not vote. */
  constructor(history, { onOpen, onNew, onAttack }) {
    Object.assign(this, { history, onOpen, onNew });
    this.list = element("ul");
    this.wanted = element("input", {
      type: "search",
      placeholder: "Search",
      "aria-label": "Search chats",
      oninput: () => this.drawList(),
    });
    this.none = element("p", { class: "none", role: "status" });
    this.forget = element("button", { class: "quiet", type: "button", onclick: () => this.clear() }, "Delete all");
    this.earlier = element(
      "details",
      { class: "earlier", open: !window.matchMedia("(max-width: 60rem)").matches },
      element("summary", {}, "Earlier chats"),
      this.wanted,
      this.none,
      this.list,
      this.forget,
    );
    this.node = element(
      "aside",
      { class: "sidebar", "aria-label": "Chats" },
      element(
        "div",
        { class: "new-chat" },
        element("button", { type: "button", onclick: onNew }, "New chat"),
        onAttack &&
          element(
            "button",
            { type: "button", class: "quiet", title: "Red team: try to bring it to harm", onclick: onAttack },
            "New attack",
          ),
      ),
      this.earlier,
    );
  }

  draw(openId) {
    this.openId = openId;
    this.earlier.hidden = this.history.all().length === 0;
    this.drawList();
  }

  drawList() {
    const { openId } = this;
    const conversations = this.history.search(this.wanted.value);
    this.none.textContent = conversations.length ? "" : "No chat says this.";
    this.list.replaceChildren(
      ...conversations.map((conversation) =>
        element(
          "li",
          {},
          element(
            "button",
            {
              type: "button",
              class: "chat-title",
              dir: "auto",
              "aria-current": conversation.id === openId ? "true" : null,
              onclick: () => this.onOpen(conversation.id),
            },
            titleOf(conversation),
          ),
          element(
            "button",
            {
              type: "button",
              class: "quiet delete",
              "aria-label": `Delete “${titleOf(conversation)}”`,
              onclick: () => this.remove(conversation.id),
            },
            "×",
          ),
        ),
      ),
    );
  }

  remove(id) {
    if (id === this.openId) this.onNew();
    this.history.remove(id);
    this.draw(this.openId);
  }

  clear() {
    if (!window.confirm("Delete all chats kept in this browser? What the server has recorded stays.")) return;
    this.onNew();
    this.history.clear();
    this.wanted.value = "";
    this.draw(this.openId);
  }
}
