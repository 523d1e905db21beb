// The votes that a version is made of, page by page, each with the way to it.
import { get, Refused } from "../api.js";
import { element } from "../element.js";
import { OBJECTIVES } from "../objectives.js";
import { said, use } from "../vote/one.js";
import { whole, when } from "./figures.js";
import { help, section, shortId } from "./section.js";
import { sortableTable } from "./sortable.js";

const AT_ONCE = 50;
const SPLITS = { train: "to learn from", watch: "to watch by", heldout: "to measure on" };

/** A section that is filled when it is unfolded; null for a version that was made of no votes. */
export function votesSection(policy) {
  if (!policy.dataset) return null;
  const place = element("div", { class: "stack" });
  return section(
    "Votes",
    help(made(policy)),
    element(
      "details",
      { ontoggle: (event) => event.target.open && !place.hasChildNodes() && new Votes(policy.version, place).more() },
      element("summary", {}, "Every vote in it"),
      place,
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

class Votes {
  constructor(version, place) {
    this.path = `/v1/policies/${version}/votes`;
    this.found = [];
    this.table = element("div");
    this.moreButton = element("button", { type: "button", class: "more", onclick: () => this.more() }, "More");
    this.said = element("p", { class: "help", role: "status" });
    place.append(this.table, this.said, this.moreButton);
  }

  async more() {
    this.moreButton.disabled = true;
    const after = this.last ? `&after=${encodeURIComponent(this.last)}` : "";
    try {
      const page = await get(`${this.path}?limit=${AT_ONCE}${after}`);
      this.found.push(...page.data);
      this.last = page.last_id;
      this.moreButton.hidden = !page.has_more;
      this.draw(page.has_more);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.said.textContent = `Not to be had: ${error.message}.`;
    }
    this.moreButton.disabled = false;
  }

  draw(more) {
    this.said.textContent = more ? `The newest ${whole(this.found.length)} are shown.` : `All ${whole(this.found.length)}.`;
    this.table.replaceChildren(table(this.found));
  }
}

function table(votes) {
  return sortableTable({
    caption: "Votes in this version",
    rows: votes,
    columns: [
      {
        name: "Cast",
        value: (vote) => vote.created,
        cell: (vote) => element("a", { href: `/vote/${vote.id}` }, when(vote.created)),
      },
      { name: "Under", value: (vote) => vote.objective },
      { name: "Says now", value: said },
      { name: "State", value: (vote) => vote.status },
      { name: "Used for", value: (vote) => use(vote.split) },
      {
        name: "As of",
        title: "Which revision of the vote the version was made with",
        value: (vote) => vote.used_revision,
        cell: (vote) =>
          vote.used_revision === vote.revision ? "as it is" : `revision ${vote.used_revision} of ${vote.revision}`,
      },
      {
        name: "Rater",
        value: (vote) => vote.rater,
        cell: (vote) => shortId(vote.rater),
      },
    ],
  });
}
