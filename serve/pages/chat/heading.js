// What stands over an open conversation: its name, and where it is renamed and written out.
import { leaveButton, openDialog } from "../dialog.js";
import { element, field } from "../element.js";
import { asJson, asMarkdown, download } from "./export.js";
import { titleOf } from "./history.js";

const LONGEST_NAME = 100;

/** `onRename(title)`; an empty one is the conversation's first words again. */
export function heading(conversation, onRename) {
  return element(
    "header",
    { class: "chat-heading" },
    element("h1", { dir: "auto" }, titleOf(conversation)),
    element(
      "button",
      { type: "button", class: "quiet", onclick: () => askName(conversation, onRename) },
      "Rename or export",
    ),
  );
}

function askName(conversation, onRename) {
  const name = element("input", { id: "chat-name", maxlength: LONGEST_NAME, autocomplete: "off" });
  name.value = conversation.title;
  name.placeholder = titleOf({ ...conversation, title: "" });
  const save = (label, suffix, type, text) =>
    element(
      "button",
      { type: "button", onclick: () => download(titleOf(conversation), suffix, type, text(conversation)) },
      label,
    );
  const parts = [
    field(name, "Name"),
    element(
      "div",
      { class: "choices" },
      element("button", { type: "submit", class: "primary" }, "Rename"),
      save("Export Markdown", "md", "text/markdown", asMarkdown),
      save("Export JSON", "json", "application/json", asJson),
      leaveButton("Close"),
    ),
  ];
  openDialog("This chat", parts, (dialog) => {
    dialog.close();
    onRename(name.value.trim());
  });
  name.select();
}
