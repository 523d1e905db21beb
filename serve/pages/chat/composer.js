// Where a message is written: Enter sends, Shift+Enter breaks the line; and how often two replies are compared.
import { element, keyHint } from "../element.js";
import { keep, kept } from "../storage.js";

const COMPARE = [
  { value: "sometimes", label: "Sometimes two replies", share: 0.25 },
  { value: "always", label: "Always two replies", share: 1 },
  { value: "never", label: "One reply", share: 0 },
];
export const COMPARE_STORED = "tandem.compare";

export class Composer {
  constructor({ compares, onSend, onStop, onEnd, onSettings }) {
    Object.assign(this, { compares, onSend, onEnd });
    this.text = element("textarea", {
      id: "message",
      rows: 1,
      placeholder: "Write a message",
      autocomplete: "off",
      "aria-label": "Message",
      oninput: () => this.fit(),
      onkeydown: (event) => this.onKey(event),
    });
    this.send = element("button", { class: "primary", type: "submit" }, "Send");
    this.stop = element("button", { type: "button", hidden: true, onclick: onStop }, "Stop");
    this.share = element(
      "select",
      { "aria-label": "How many replies", onchange: () => keep(COMPARE_STORED, this.share.value) },
      COMPARE.map(({ value, label }) => element("option", { value }, label)),
    );
    this.end = element(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: onEnd },
      "End the attack ",
      keyHint("Esc"),
    );
    this.settings = element("button", { type: "button", class: "quiet settings", onclick: onSettings }, "Settings");
    const stored = kept(COMPARE_STORED);
    if (COMPARE.some(({ value }) => value === stored)) this.share.value = stored;
    this.node = element(
      "form",
      {
        class: "composer",
        onsubmit: (event) => {
          event.preventDefault();
          this.submit();
        },
      },
      this.text,
      element(
        "div",
        { class: "composer-row" },
        this.share,
        this.settings,
        this.end,
        element("span", { class: "grow" }),
        this.stop,
        this.send,
      ),
    );
  }

  /** An attack always compares what is served as it is served, and is ended by who makes it. */
  setAttack(attack) {
    this.attack = attack;
    this.settings.hidden = attack;
    this.share.hidden = attack || !this.compares;
    this.end.hidden = !attack;
  }

  get comparisonShare() {
    if (!this.compares) return 0;
    if (this.attack) return 1;
    return COMPARE.find(({ value }) => value === this.share.value).share;
  }

  submit() {
    const text = this.text.value.trim();
    if (!text || this.busy || this.disabled || !this.onSend(text)) return;
    this.text.value = "";
    this.fit();
  }

  /** Show whether this chat has settings of its own. */
  setSettings(some) {
    this.settings.textContent = some ? "Settings •" : "Settings";
    this.settings.setAttribute("aria-label", some ? "Settings: changed" : "Settings");
  }

  onKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    }
    if (event.key === "Escape" && this.attack && !this.busy) {
      // The form that comes now would take this very key as the way back.
      event.stopPropagation();
      this.onEnd();
    }
  }

  setBusy(busy) {
    this.busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
  }

  setDisabled(disabled) {
    this.disabled = disabled;
    this.send.disabled = disabled;
  }

  fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
  }
}
