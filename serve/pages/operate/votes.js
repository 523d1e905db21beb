// The votes that a version is made of, page by page, each with the way to it.
import { element } from "../element.js";
import { OBJECTIVES } from "../objectives.js";
import { cast, RATER, STATE, UNDER } from "../vote/columns.js";
import { said, use } from "../vote/one.js";
import { whole } from "./figures.js";
import { Listed } from "./listed.js";
import { help, section } from "./section.js";
import { sortableTable } from "./sortable.js";

const SPLITS = { train: "to learn from", watch: "to watch by", heldout: "to measure on" };

/** A section that is filled when it is unfolded; null for a version that was made of no votes. */
export function votesSection(policy) {
  if (!policy.dataset) return null;
  const votes = new Listed(`/v1/policies/${policy.version}/votes`, table);
  return section(
    "Votes",
    help(made(policy)),
    element(
      "details",
      { ontoggle: (event) => event.target.open && votes.found.length === 0 && votes.more() },
      element("summary", {}, "Every vote in it"),
      votes.node,
    ),
  );
}

function made({ version, dataset_counts: counts }) {
  const parts = Object.keys(SPLITS)
    .filter((split) => counts[split])
    .map((split) => {
      const under = Object.keys(OBJECTIVES).filter((objective) => counts[`${split}.${objective}`]);
      const kinds = under.map((objective) => `${whole(counts[`${split}.${objective}`])} ${objective}`).join(", ");
      return `${whole(counts[split])} ${SPLITS[split]} (${kinds})`;
    });
  return parts.length
    ? `${version} was made of these judgements: ${parts.join("; ")}. A rewritten reply is a second judgement of its vote.`
    : `${version} was made of these votes.`;
}

function table(votes) {
  return sortableTable({
    caption: "Votes in this version",
    rows: votes,
    columns: [
      cast(),
      UNDER,
      { name: "Says now", value: said },
      STATE,
      { name: "Used for", value: (vote) => use(vote.split) },
      {
        name: "As of",
        title: "Which revision of the vote the version was made with",
        value: (vote) => vote.used_revision,
        cell: (vote) =>
          vote.used_revision === vote.revision ? "as it is" : `revision ${vote.used_revision} of ${vote.revision}`,
      },
      RATER,
    ],
  });
}
