// The audit: who decided what, when and why; and whether its chain is whole.
import { get, whyRefused } from "../api.js";
import { element, none, problem } from "../element.js";
import { when, whole } from "./figures.js";
import { Listed } from "./listed.js";
import { actor, help, section, shortId, shownName, versionLink } from "./section.js";
import { sortableTable } from "./sortable.js";

/** A section that fills itself; of one `subject` (a version), or of everything with the state of the chain. */
export function auditSection(subject = null) {
  const path = `/v1/audit${subject ? `?subject=${encodeURIComponent(subject)}` : ""}`;
  const chain = subject ? null : element("div");
  const listed = new Listed(path, table);
  listed.more();
  if (chain) readChain(chain);
  return section("Audit", chain, listed.node);
}

async function readChain(place) {
  try {
    place.replaceChildren(said(await get("/v1/audit/chain")));
  } catch (error) {
    place.replaceChildren(problem(`Whether the chain is whole cannot be told: ${whyRefused(error)}.`));
  }
}

function said(chain) {
  if (!chain.intact)
    return problem(
      `The chain is broken at entry ${chain.broken_at}: ${chain.problem}. Somebody changed it outside of Tandem.`,
    );
  return help(`${whole(chain.entries)} entries, each sealed with the one before; the chain is whole.`);
}

function table(entries) {
  if (entries.length === 0) return none("Nothing was decided yet.");
  return sortableTable({
    caption: "Audit",
    rows: entries,
    columns: [
      { name: "Entry", numeric: true, value: (one) => one.id },
      { name: "When", value: (one) => one.created, cell: (one) => when(one.created) },
      { name: "Who", value: (one) => one.actor, cell: (one) => actor(one.actor) },
      { name: "What", value: (one) => one.action },
      { name: "About", value: (one) => one.subject, cell: (one) => about(one.subject) },
      { name: "Why", text: true, value: why },
    ],
  });
}

function about(subject) {
  if (/^v\d+$/.test(subject)) return versionLink(subject);
  return subject.length > 16 ? shortId(subject) : subject;
}

function why({ reason, data }) {
  const name = shownName(data.name ?? "");
  const marks = [name, data.force && "forced", data.outcome === "failed" && "failed", data.detail];
  return [reason, ...marks].filter(Boolean).join("; ");
}
