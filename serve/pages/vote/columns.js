// Columns that tables of votes share.
import { element } from "../element.js";
import { when } from "../operate/figures.js";
import { shortId } from "../operate/section.js";

/** When a vote was cast, and the way to its page. */
export function cast(name = "Cast") {
  return {
    name,
    value: (vote) => vote.created,
    cell: (vote) => element("a", { href: `/vote/${vote.id}` }, when(vote.created)),
  };
}

export const UNDER = { name: "Under", value: (vote) => vote.objective };
export const STATE = { name: "State", value: (vote) => vote.status };
export const RATER = { name: "Rater", value: (vote) => vote.rater, cell: (vote) => shortId(vote.rater) };
export const REASON = { name: "Reason", text: true, value: (vote) => vote.reason ?? "" };
