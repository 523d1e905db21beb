// Finding votes: by what stands in them, rater, version, objective and date, and those that others contradict.
import { element, field, none } from "../element.js";
import { once } from "../focus.js";
import { OBJECTIVES } from "../objectives.js";
import { cast, REASON, STATE, UNDER } from "../vote/columns.js";
import { said } from "../vote/one.js";
import { Listed } from "./listed.js";
import { help, section, shortId } from "./section.js";
import { sortableTable } from "./sortable.js";

const SAID = [["0", "A is better"], ["1", "B is better"], ["tie", "Tie"], ["both_bad", "Both bad"]];

export class FindVotes {
  constructor() {
    this.rater = choice("vote-rater", []);
    this.raters = {};
    this.result = element("div", { class: "stack" });
    // By the names that the API has for them.
    this.fields = {
      text: element("input", { id: "vote-text", maxlength: 1000, autocomplete: "off" }),
      rater_id: this.rater,
      objective: choice("vote-objective", Object.keys(OBJECTIVES).map((name) => [name, name])),
      preferred: choice("vote-preferred", SAID),
      version: element("input", { id: "vote-version", pattern: "v[0-9]{1,9}", placeholder: "v1", autocomplete: "off" }),
      since: element("input", { id: "vote-since", type: "date" }),
      until: element("input", { id: "vote-until", type: "date" }),
    };
    this.disputed = element("input", { type: "checkbox" });
    this.button = element("button", { type: "submit" }, "Find");
    const { text, objective, preferred, version, since, until } = this.fields;
    this.node = section(
      "Votes",
      help("Everybody's votes, to be read one by one and written out as they are found."),
      element(
        "form",
        {
          class: "find-votes",
          onsubmit: (event) => {
            event.preventDefault();
            this.find();
          },
        },
        field(text, "Text in the conversation, a reply or the vote"),
        field(this.rater, "Rater"),
        field(objective, "Under"),
        field(preferred, "Said"),
        field(version, "On a reply of"),
        field(since, "Cast from"),
        field(until, "Cast before"),
        element("label", { class: "field check" }, this.disputed, " Another rater picked the other side"),
        this.button,
      ),
      this.result,
    );
  }

  /** Those who may be chosen; a choice stays. */
  setRaters(raters) {
    const chosen = this.rater.value;
    this.raters = Object.fromEntries(raters.map((rater) => [rater.id, rater.name]));
    this.rater.replaceChildren(...options(raters.map(({ id, name }) => [id, name || `…${id.slice(-8)}`])));
    this.rater.value = chosen in this.raters ? chosen : "";
  }

  async find() {
    const asked = Object.entries(this.fields).filter(([, { value }]) => value.trim());
    const query = new URLSearchParams({ whose: "all" });
    for (const [name, input] of asked) query.set(name, input.type === "date" ? midnight(input) / 1000 : input.value.trim());
    if (this.disputed.checked) query.set("disputed", "true");
    const found = new Listed(`/v1/votes?${query}`, (votes) => this.table(votes));
    const options = asked.map(([name, input]) => `--${name === "rater_id" ? "rater" : name} ${word(input)}`);
    if (this.disputed.checked) options.push("--disputed");
    this.result.replaceChildren(
      found.node,
      help(
        "Those of them that count, as pairs to train on: ",
        element("code", {}, ["tandem votes export --format trl", ...options].join(" ")),
      ),
    );
    // A text is looked for in the whole record: once at a time.
    await once(this.button, () => found.more());
  }

  table(votes) {
    if (votes.length === 0) return none("No vote is like that.");
    return sortableTable({
      caption: "Votes",
      rows: votes,
      columns: [
        cast(),
        UNDER,
        { name: "Says", value: said },
        STATE,
        { name: "Rater", value: (vote) => this.raters[vote.rater] || vote.rater, cell: (vote) => this.raters[vote.rater] || shortId(vote.rater) },
        REASON,
      ],
    });
  }
}

function choice(id, values) {
  return element("select", { id }, options(values));
}

function options(values) {
  return [["", "any"], ...values].map(([value, name]) => element("option", { value }, name));
}

/** When the day of an input begins here. */
function midnight(input) {
  return new Date(`${input.value}T00:00`);
}

/** What an input says as one word of a shell, which may be in another time zone. */
function word(input) {
  const text = input.type === "date" ? midnight(input).toISOString().replace(".000", "") : input.value.trim();
  return /^[\w.:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
