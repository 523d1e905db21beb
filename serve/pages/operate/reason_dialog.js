// Asks for a reason before something is done that others will want to understand.
import { leaveButton, openDialog } from "../dialog.js";
import { element, field } from "../element.js";
import { once } from "../focus.js";

/**
 * `act({reason, force})` does it and answers what went wrong, or null; the dialog stays until it went well. With `force`
 * (its label) there is a box to tick. `leave` is what the button says that does nothing.
 */
export function askReason({ title, said, action, doing, force = null, leave = "Cancel", act }) {
  const reason = element("textarea", { id: "dialog-reason", rows: 3, required: true, maxlength: 10000 });
  const forced = element("input", { type: "checkbox", id: "dialog-force" });
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const submit = element("button", { type: "submit", class: "primary" }, action);
  const parts = [
    element("p", {}, said),
    field(reason, "Reason, kept with the decision"),
    force && element("div", { class: "field check" }, forced, element("label", { for: "dialog-force" }, force)),
    problem,
    element("div", { class: "choices" }, submit, leaveButton(leave)),
  ];
  openDialog(title, parts, async (dialog) => {
    submit.textContent = doing;
    const failed = await once(submit, () => act({ reason: reason.value.trim(), force: forced.checked }));
    if (failed === null) {
      dialog.close();
      return;
    }
    submit.textContent = "Try again";
    problem.hidden = false;
    problem.textContent = failed;
  });
  reason.focus();
}
