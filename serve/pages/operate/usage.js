// What each key used in the last days.
import { get, whyRefused } from "../api.js";
import { element, field, none, problem } from "../element.js";
import { whole } from "./figures.js";
import { help, section, shownName } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

const SPANS = [[1, "today"], [7, "the last 7 days"], [30, "the last 30 days"]];
const COUNTS = [
  ["Chats", "chats"],
  ["Prompt tokens", "prompt_tokens"],
  ["Reply tokens", "reply_tokens"],
  ["Comparisons", "comparisons"],
  ["Votes", "votes"],
];

/** A section that fills itself. */
export function usageSection() {
  const content = element("div");
  const span = element(
    "select",
    { id: "usage-span", onchange: () => fill(content, span.value) },
    SPANS.map(([days, name]) => element("option", { value: days, selected: days === 7 }, name)),
  );
  fill(content, span.value);
  return section(
    "Use by key",
    help("Days are UTC's. ", element("code", {}, "tandem keys usage"), " shows them one by one."),
    field(span, "Over"),
    content,
  );
}

async function fill(content, days) {
  content.dataset.days = days;
  let drawn;
  try {
    drawn = table((await get(`/v1/usage?limit=${days}`)).data);
  } catch (error) {
    drawn = problem(`Use cannot be read: ${whyRefused(error)}.`);
  }
  // Another span may have been chosen meanwhile.
  if (content.dataset.days === days) content.replaceChildren(drawn);
}

function table(days) {
  const keys = new Map();
  for (const one of days.flatMap((day) => day.keys)) {
    const sum = keys.get(one.key_id) ?? { ...one, name: shownName(one.name), ...Object.fromEntries(COUNTS.map(([, count]) => [count, 0])) };
    for (const [, count] of COUNTS) sum[count] += one[count];
    keys.set(one.key_id, sum);
  }
  if (keys.size === 0) return none("No key was used.");
  return sortableTable({
    caption: "Use by key",
    rows: [...keys.values()],
    by: 1,
    columns: [
      {
        name: "Key",
        text: true,
        value: (key) => key.name || key.prefix,
        cell: (key) => element("span", { title: `${key.prefix}, ${key.key_id}` }, key.name || key.prefix),
      },
      ...COUNTS.map(([name, count]) => numeric(name, (key) => key[count], whole)),
    ],
  });
}
