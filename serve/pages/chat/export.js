// A conversation as a file: Markdown to read, JSON to use again.
import { element } from "../element.js";
import { verdict } from "../objectives.js";
import { titleOf } from "./history.js";
import { requestOf } from "./settings.js";

const LONGEST_NAME = 60;

export function asMarkdown(conversation) {
  const { turns, settings } = conversation;
  const parts = [`# ${titleOf(conversation)}`];
  if (settings.system) parts.push("## System prompt", settings.system);
  for (const turn of turns) {
    parts.push(turn.role === "user" ? "## You" : `## Tandem${turn.version ? ` (${turn.version})` : ""}`, turn.content);
    if (turn.vote) parts.push(`*${verdict(turn.vote)}.*`);
  }
  return `${parts.join("\n\n")}\n`;
}

/** `messages` is what a chat completion takes; `turns` adds what the page knows of each reply. */
export function asJson(conversation) {
  const { turns, settings, updated } = conversation;
  const told = { title: titleOf(conversation), updated: new Date(updated).toISOString(), ...requestOf(turns, settings), turns };
  return `${JSON.stringify(told, null, 2)}\n`;
}

/** Have the browser save a text. */
export function download(title, suffix, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  // Letters and figures alone: a title may hold what turns a file's name round, or leads out of its folder.
  const name = title.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, LONGEST_NAME) || "chat";
  element("a", { href: address, download: `${name}.${suffix}` }).click();
  URL.revokeObjectURL(address);
}
