// A dialog over the page: Escape leaves it, and the focus goes back to where it was.
import { element } from "./element.js";

/** Open one with this title and these parts in its form. `onSubmit(dialog)` is what the form's submit button does. */
export function openDialog(title, parts, onSubmit) {
  const { id: before } = document.activeElement;
  const close = () => {
    dialog.remove();
    // What opened it may have been drawn anew meanwhile.
    if (before && document.activeElement === document.body) document.getElementById(before)?.focus();
  };
  const dialog = element(
    "dialog",
    { "aria-labelledby": "dialog-title", onclose: close },
    element(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          onSubmit(dialog);
        },
      },
      element("h2", { id: "dialog-title" }, title),
      parts,
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A button that leaves the dialog it stands in. */
export function leaveButton(label = "Cancel") {
  return element(
    "button",
    { type: "button", class: "quiet", onclick: (event) => event.target.closest("dialog").close() },
    label,
  );
}
