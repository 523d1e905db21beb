// Promote this version or roll back, always with a reason; and what came of it.
import { announce } from "../announce.js";
import { call, Refused } from "../api.js";
import { element } from "../element.js";

export class Decision {
  constructor(policy, policies, onChange) {
    Object.assign(this, { policy, onChange });
    this.serving = policies.find((one) => one.state === "serving")?.version ?? "nothing";
    const isServing = policy.state === "serving";
    this.buttons = isServing
      ? element("button", { type: "button", disabled: policy.version === "v0" && policies.length === 1, onclick: () => this.ask("rollback") }, "Roll back…")
      : element("button", { type: "button", class: "primary", onclick: () => this.ask("promote") }, "Promote…");
  }

  ask(kind) {
    const promote = kind === "promote";
    const reason = element("textarea", { id: "decision-reason", rows: 3, required: true, maxlength: 10000 });
    const force = element("input", { type: "checkbox", id: "decision-force" });
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const submit = element("button", { type: "submit", class: "primary" }, promote ? `Promote ${this.policy.version}` : "Roll back");
    const dialog = element("dialog", { "aria-labelledby": "decision-title", onclose: () => dialog.remove() },
      element("form", { onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        submit.textContent = "Loading, probing, flipping…";
        const failed = await this.decide(kind, { reason: reason.value.trim(), ...(promote && { force: force.checked }) });
        submit.disabled = false;
        submit.textContent = "Try again";
        problem.hidden = !failed;
        problem.textContent = failed ?? "";
        if (!failed) dialog.close();
      } },
      element("h2", { id: "decision-title" }, promote ? `Have ${this.policy.version} serve` : "Go back to the version that served before"),
      element("p", {}, promote
        ? `${this.serving} serves now. ${this.policy.version} is loaded and compared with the learner’s figures before the first chat reaches it; no reply in flight is lost.`
        : `${this.policy.version} serves now. Replies in flight end on it; new ones go to the version before.`),
      element("div", { class: "field" }, element("label", { for: "decision-reason" }, "Reason, kept with the decision"), reason),
      promote && element("div", { class: "field check" }, force, element("label", { for: "decision-force" }, "Force: against the evidence")),
      problem,
      element("div", { class: "choices" }, submit, element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
    reason.focus();
  }

  /** What went wrong, or null. */
  async decide(kind, body) {
    const path = kind === "promote" ? `/v1/policies/${this.policy.version}/promote` : "/v1/policies/rollback";
    try {
      const change = await call("POST", path, body);
      announce(change.changed ? `${change.version} serves now, in place of ${change.previous}.` : `${change.version} serves already.`);
      this.onChange();
      return null;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return `It did not happen: ${error.message}. ${this.serving} serves on.`;
    }
  }
}
