// One vote: what it said of which two replies, what it said before, and what came of it.
import { announce } from "../announce.js";
import { call, get, whyRefused } from "../api.js";
import { element, none, problem } from "../element.js";
import { OBJECTIVES, SUCCESS, verdict } from "../objectives.js";
import { when } from "../operate/figures.js";
import { facts, help, section, shortId, stateMark, versionLink } from "../operate/section.js";
import { sortableTable } from "../operate/sortable.js";
import { Pair } from "../pair.js";
import { reaches } from "../session.js";
import { cast, RATER, REASON, UNDER } from "./columns.js";
import { conversation, repliesOf } from "./conversation.js";

const STATES = {
  accepted: "accepted, waits to be counted",
  counted: "counted",
  quarantined: "set apart with its rater",
  retracted: "taken back",
};

/** A node that fills itself. */
export function oneVote(id, session) {
  const node = element("div", { class: "operate one-vote" }, none("Loading…"));
  fill(node, id, reaches(session.role, "operate"));
  return node;
}

async function fill(node, id, operates) {
  try {
    const vote = await get(`/v1/votes/${id}`);
    const [pair, me, others] = await Promise.all([
      get(`/v1/comparisons/${vote.comparison}`),
      get("/v1/raters/me"),
      operates ? get(`/v1/votes?whose=all&limit=100&comparison=${vote.comparison}`) : { data: [] },
    ]);
    const theirs = others.data.filter(({ id: other }) => other !== vote.id);
    const own = vote.rater === me.id && vote.status !== "retracted";
    node.replaceChildren(...parts(vote, pair, theirs, operates));
    if (own) node.append(takingBack(vote, () => fill(node, id, operates)));
  } catch (error) {
    node.replaceChildren(
      element("h1", {}, "Vote"),
      problem(`Not to be had: ${whyRefused(error)}.`),
    );
  }
}

function parts(vote, pair, theirs, operates) {
  return [
    element("p", { class: "back" }, element("a", { href: "/vote" }, "← Vote")),
    element("header", { class: "page-head" }, element("h1", {}, "One vote"), element("code", {}, vote.id)),
    facts([
      ["Said", said(vote)],
      ["Under", vote.objective],
      vote.success !== null && ["Attack", `${vote.success} of 4, ${SUCCESS[vote.success]}`],
      ["State", STATES[vote.status] ?? vote.status],
      ["Cast", when(vote.created)],
      operates && ["Rater", shortId(vote.rater)],
    ]),
    section("What was judged", help(OBJECTIVES[vote.objective].question), conversation(pair.messages), pair.messages.length > 0 && replies(vote, pair)),
    vote.reason && section("Reason", element("p", { class: "prose plain" }, vote.reason)),
    vote.ideal && section("Rewritten reply", element("div", { class: "prose plain" }, vote.ideal)),
    theirs.length > 0 && section("What else was said of the pair", otherVotes(theirs)),
    section("What it changed", changed(vote, operates)),
    vote.history.length > 1 && section("What it said before", history(vote.history)),
  ].filter(Boolean);
}

/** Only that: who has seen which version wrote what no longer judges blindly. */
function takingBack({ comparison, objective, versions }, again) {
  const failed = problem();
  failed.hidden = true;
  const takeBack = async () => {
    try {
      await call("DELETE", `/v1/comparisons/${comparison}/vote?objective=${objective}`);
      announce("Vote taken back.");
      await again();
    } catch (error) {
      failed.textContent = `Not taken back: ${whyRefused(error)}.`;
      failed.hidden = false;
    }
  };
  return section(
    "A mistake?",
    help(
      "Taken back, it counts no longer, and no version is made with it any more.",
      versions.length > 0 && " Those made with it keep what they have learnt.",
    ),
    element("button", { type: "button", onclick: takeBack }, "Take it back"),
    failed,
  );
}

function otherVotes(votes) {
  return sortableTable({
    caption: "Other votes on the pair",
    rows: votes,
    columns: [
      cast(),
      UNDER,
      { name: "Said", value: said },
      RATER,
      REASON,
    ],
  });
}

function replies(vote, pair) {
  const shown = new Pair();
  shown.set(repliesOf(pair));
  if (vote.compared) shown.reveal(vote.compared);
  if (vote.status !== "retracted") shown.mark(vote.preferred);
  return shown.node;
}

function changed({ versions, status }, operates) {
  if (versions.length === 0)
    return help(
      status === "counted"
        ? "Nothing yet: the next iteration learns from it, or measures on it."
        : "Nothing: no version was made with it.",
    );
  return sortableTable({
    caption: "Versions that used this vote",
    rows: versions,
    columns: [
      {
        name: "Version",
        value: (one) => Number(one.version.slice(1)),
        cell: (one) => (operates ? versionLink(one.version) : one.version),
      },
      { name: "Used for", value: ({ split }) => use(split) },
      { name: "State", value: (one) => one.state, cell: (one) => stateMark(one.state) },
      { name: "Promoted", value: (one) => one.promoted, cell: (one) => (one.promoted ? when(one.promoted) : "never") },
    ],
  });
}

/** What a version used a vote for. */
export function use(split) {
  return { train: "learning", watch: "watching for over-optimisation", heldout: "measuring" }[split] ?? split;
}

function history(revisions) {
  return sortableTable({
    caption: "Revisions",
    rows: revisions,
    columns: [
      { name: "Revision", numeric: true, value: (one) => one.revision },
      { name: "When", value: (one) => one.created, cell: (one) => when(one.created) },
      { name: "Said", value: said },
      { name: "Reason", text: true, value: (one) => one.reason ?? "" },
    ],
  });
}

/** What a vote, or one revision of it, says. */
export function said(vote) {
  if (vote.status === "retracted" || vote.preferred === null) return "taken back";
  return verdict(vote);
}
