// Four figures in the order of the loop.
import { element } from "../element.js";
import { lasting, whole } from "./figures.js";
import { ended, STAGES } from "./iteration.js";
import { isRunning, startedBy } from "./iterations.js";
import { versionLink } from "./section.js";

const LATE_S = 30;

export function glance({ metrics, policies, iterations }) {
  const serving = policies.find((policy) => policy.state === "serving");
  const candidates = policies.filter((policy) => policy.state === "candidate");
  const running = iterations.find(isRunning);
  return element(
    "ol",
    { class: "glance", "aria-label": "The loop" },
    part("Votes", whole(metrics.votes.counted ?? 0), votesSaid(metrics)),
    part(
      "Learning",
      running ? stageName(running) : "idle",
      running ? `started by ${startedBy(running)}` : lastEnd(iterations[0]),
    ),
    part(
      "Candidates",
      String(candidates.length),
      candidates.length ? ["newest ", versionLink(candidates[0].version)] : "none waits for a decision",
    ),
    part("Serving", serving ? versionLink(serving.version) : "nothing", enginesSaid(metrics)),
  );
}

function part(name, figure, said) {
  return element(
    "li",
    {},
    element("span", { class: "name" }, name),
    element("strong", {}, figure),
    element("span", { class: "said" }, said),
  );
}

function stageName({ stage, state }) {
  return STAGES.find(([one]) => one === stage)?.[1] ?? state;
}

function votesSaid({ votes, oldestUncountedS }) {
  const said = ["counted"];
  if (votes.accepted) said.push(`, ${whole(votes.accepted)} waiting`);
  if (votes.accepted && oldestUncountedS > LATE_S)
    said.push(element("em", { class: "bad" }, ` for ${lasting(oldestUncountedS)}: is the vote worker there?`));
  if (votes.quarantined) said.push(`, ${whole(votes.quarantined)} quarantined`);
  if (votes.retracted) said.push(`, ${whole(votes.retracted)} retracted`);
  return said;
}

function enginesSaid({ engines, queued }) {
  const ready = engines.filter(Boolean);
  const said = engines.length === 0 ? "no engine is known" : `${ready.length} of ${engines.length} engines ready`;
  const waiting = queued ? `, ${whole(queued)} chats wait` : "";
  return ready.length ? said + waiting : element("em", { class: "bad" }, said + waiting);
}

function lastEnd(iteration) {
  if (!iteration) return "no iteration yet";
  if (iteration.state === "succeeded") return ["last made ", versionLink(iteration.candidate)];
  const said = `the last iteration ${ended(iteration.state)}`;
  return iteration.state === "failed" ? element("em", { class: "bad" }, said) : said;
}
