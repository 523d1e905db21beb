// Which share of chats and of comparisons a challenger gets.
import { announce } from "../announce.js";
import { call, whyRefused } from "../api.js";
import { element, field } from "../element.js";
import { once } from "../focus.js";

export class TrafficForm {
  constructor(onChange) {
    this.onChange = onChange;
    this.touched = false;
    this.challenger = element("select", { id: "challenger" });
    this.chat = slider("chat-share");
    this.comparison = slider("comparison-share");
    this.said = element("p", { class: "said", role: "status" });
    this.held = element("p", { class: "help" });
    this.submit = element("button", { type: "submit" }, "Set the shares");
    this.node = element(
      "form",
      {
        class: "traffic",
        oninput: () => {
          this.touched = true;
        },
        onsubmit: (event) => {
          event.preventDefault();
          once(this.submit, () => this.save());
        },
      },
      element(
        "p",
        { class: "help" },
        "Give a second version a share of the work before you decide on it. A conversation stays with the version it began with.",
      ),
      element(
        "div",
        { class: "fields" },
        field(this.challenger, "Challenger"),
        field(this.chat.input, "Of the chats", this.chat.output),
        field(this.comparison.input, "Of the comparisons", this.comparison.output),
        this.submit,
      ),
      this.said,
      this.held,
    );
  }

  /** Show the shares as they are; a choice that is half made stays as it is. */
  draw(traffic, policies) {
    const holding = traffic.processes.filter((process) => process.holds_challenger).length;
    this.held.textContent = traffic.challenger
      ? `${traffic.challenger} is served by ${holding} of ${traffic.processes.length} API processes.`
      : "";
    const chosen = this.touched ? this.challenger.value : (traffic.challenger ?? "");
    const choices = policies.map((policy) => policy.version);
    const serving = policies.find((policy) => policy.state === "serving")?.version;
    this.challenger.replaceChildren(
      element("option", { value: "" }, "none"),
      ...choices.map((version) =>
        element("option", { value: version }, version === serving ? `${version} (serves)` : version),
      ),
    );
    this.challenger.value = chosen;
    if (this.touched) return;
    this.chat.set(traffic.chat_share);
    this.comparison.set(traffic.comparison_share);
  }

  async save() {
    this.touched = false;
    this.said.className = "said";
    this.said.textContent = this.challenger.value ? `Loading ${this.challenger.value}…` : "";
    try {
      const set = await call("PUT", "/v1/traffic", {
        challenger: this.challenger.value || null,
        chat_share: this.chat.share,
        comparison_share: this.comparison.share,
      });
      this.said.textContent = set.challenger
        ? `${set.challenger} gets its shares now.`
        : "No challenger: all goes to what serves.";
      announce(this.said.textContent);
      this.onChange();
    } catch (error) {
      this.touched = true;
      this.said.className = "said problem";
      this.said.textContent = `Not set: ${whyRefused(error)}.`;
    }
  }
}

function slider(id) {
  const output = element("output", { for: id });
  const input = element("input", { id, type: "range", min: 0, max: 100, step: 5, oninput: () => show() });
  const show = () => {
    output.textContent = `${input.value} %`;
  };
  return {
    input,
    output,
    get share() {
      return Number(input.value) / 100;
    },
    set(share) {
      input.value = String(Math.round(100 * share));
      show();
    },
  };
}
