// What a chat asks for beside its messages: a system prompt, a temperature, a longest reply. What is left out is as served.
import { leaveButton, openDialog } from "../dialog.js";
import { element, field } from "../element.js";
import { keep, keptValue } from "../storage.js";

const HOTTEST = 2;

/** The settings that new chats of this key begin with. */
export class DefaultSettings {
  constructor(keyId) {
    this.name = `tandem.settings.${keyId}`;
  }

  read() {
    return checked(keptValue(this.name));
  }

  /** False when the browser's storage is full. */
  write(settings) {
    return keep(this.name, JSON.stringify(settings));
  }
}

/** Of what a browser kept, what settings can be. */
export function checked(value) {
  const { system, temperature, longest } = value ?? {};
  return {
    ...(typeof system === "string" && system && { system }),
    ...(temperature >= 0 && temperature <= HOTTEST && typeof temperature === "number" && { temperature }),
    ...(Number.isInteger(longest) && longest > 0 && { longest }),
  };
}

/** The body of a chat completion: these turns under these settings. */
export function requestOf(turns, { system, temperature, longest } = {}) {
  const messages = turns.map(({ role, content }) => ({ role, content }));
  return {
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    ...(temperature !== undefined && { temperature }),
    ...(longest !== undefined && { max_completion_tokens: longest }),
  };
}

/** Ask for settings. `onSave(settings, byDefault)`: the latter when every new chat is to begin with them. */
export function askSettings(settings, onSave) {
  const system = element("textarea", { id: "system", rows: 4, "aria-describedby": "system-help" });
  system.value = settings.system ?? "";
  const temperature = number("temperature", settings.temperature, { min: 0, max: HOTTEST, step: 0.05 });
  const longest = number("longest", settings.longest, { min: 1, step: 1 });
  const byDefault = element("input", { type: "checkbox", id: "by-default" });
  const parts = [
    field(system, "System prompt"),
    element(
      "p",
      { class: "help", id: "system-help" },
      "Stands before the conversation, in place of the assistant's own. Some policies take none.",
    ),
    element(
      "div",
      { class: "fields" },
      field(temperature, `Temperature, 0 to ${HOTTEST}`),
      field(longest, "Longest reply, in tokens"),
    ),
    element("p", { class: "help" }, "Empty is as the server has it. The replies from here on are written so."),
    element("div", { class: "field check" }, byDefault, element("label", { for: "by-default" }, "For every new chat, too")),
    element(
      "div",
      { class: "choices" },
      element("button", { type: "submit", class: "primary" }, "Save"),
      leaveButton(),
    ),
  ];
  openDialog("Settings of this chat", parts, (dialog) => {
    dialog.close();
    const given = {
      system: system.value.trim(),
      temperature: temperature.value === "" ? undefined : temperature.valueAsNumber,
      longest: longest.value === "" ? undefined : longest.valueAsNumber,
    };
    onSave(checked(given), byDefault.checked);
  });
}

function number(id, value, limits) {
  return element("input", { id, type: "number", inputmode: "decimal", placeholder: "as served", value, ...limits });
}
