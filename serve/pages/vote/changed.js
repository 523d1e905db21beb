// What one's votes changed: each of the newest with the versions that learnt from it, and what became of those.
import { get, whyRefused } from "../api.js";
import { element, problem } from "../element.js";
import { verdict } from "../objectives.js";
import { sortableTable } from "../operate/sortable.js";
import { cast, STATE, UNDER } from "./columns.js";

const SHOWN = 50;

/** A fold that reads the record each time it is opened. */
export function changedByVotes() {
  const place = element("div", { class: "stack" });
  return element(
    "details",
    { class: "changed", ontoggle: (event) => event.target.open && fill(place) },
    element("summary", {}, "What did my votes change?"),
    place,
  );
}

async function fill(place) {
  try {
    const { data, has_more: more } = await get(`/v1/votes?limit=${SHOWN}`);
    place.replaceChildren(element("p", { class: "help", role: "status" }, summary(data, more)), table(data));
  } catch (error) {
    place.replaceChildren(problem(`Not to be had: ${whyRefused(error)}.`));
  }
}

function summary(votes, more) {
  if (votes.length === 0) return "You have not voted yet.";
  const used = votes.filter((vote) => vote.versions.length > 0);
  const promoted = votes.filter((vote) => vote.versions.some((version) => version.promoted !== null));
  const which = more ? `Of your newest ${votes.length} votes` : votes.length === 1 ? "Of your one vote" : `Of your ${votes.length} votes`;
  return `${which}, ${used.length} went into a version, and ${promoted.length} into one that has served people.`;
}

function table(votes) {
  if (votes.length === 0) return "";
  return sortableTable({
    caption: "Your votes and what they changed",
    rows: votes,
    columns: [
      cast("When"),
      UNDER,
      { name: "You said", value: verdict },
      STATE,
      { name: "Versions", text: true, value: versions },
    ],
  });
}

function versions(vote) {
  if (vote.versions.length === 0) return "none yet";
  return vote.versions
    .map(({ version, split, state, promoted }) => {
      const learnt = split === "train" ? "learnt from it" : "was measured on it";
      const became = state === "serving" ? "serves now" : promoted === null ? "not promoted" : "has served";
      return `${version} ${learnt}, ${became}`;
    })
    .join("; ");
}
