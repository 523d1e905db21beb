// Promote this version or roll back, always with a reason; and what came of it.
import { announce } from "../announce.js";
import { call, whyRefused } from "../api.js";
import { element } from "../element.js";
import { askReason } from "./reason_dialog.js";
import { stopping } from "./gate.js";
import { help } from "./section.js";

/** The button of the decision that can be taken on `policy`, or why there is none; `onChange()` when what serves has changed. */
export function decisionButton(policy, policies, onChange) {
  const rollsBack = policy.state === "serving";
  if (rollsBack && !policy.rollback_to) return help("It took no version’s place: there is none to roll back to.");
  const serving = policies.find((one) => one.state === "serving")?.version;
  const decision = rollsBack ? rollback(policy) : promotion(policy, serving);
  const act = (given) => decide(decision.path, serving, given, onChange);
  return element(
    "button",
    {
      type: "button",
      id: "decide",
      class: rollsBack ? null : "primary",
      onclick: () => askReason({ ...decision, doing: "Loading, probing, flipping…", act }),
    },
    rollsBack ? "Roll back…" : "Promote…",
  );
}

function rollback({ version, rollback_to: before }) {
  return {
    path: "/v1/policies/rollback",
    title: "Go back to the version that served before",
    action: "Roll back",
    said: `${version} serves now. Replies in flight end on it; new ones go to ${before}.`,
  };
}

function promotion({ version, gate }, serving) {
  const against = stopping(gate);
  return {
    path: `/v1/policies/${version}/promote`,
    title: `Have ${version} serve`,
    action: `Promote ${version}`,
    force: against && "Force: against the evidence",
    said:
      `${serving ?? "nothing"} serves now. ${version} is loaded and compared with the learner’s figures before the first chat reaches it; no ` +
      `reply in flight is lost.${against ? ` The gate speaks against it: ${against}.` : ""}`,
  };
}

/** What went wrong, or null. */
async function decide(path, serving, { reason, force }, onChange) {
  try {
    // What was decided is to change nothing else, which somebody else may have decided meanwhile.
    const { changed, version, previous, behind } = await call("POST", path, { reason, force, ...(serving && { instead_of: serving }) });
    // Hosts that serve nothing until they have come to hold the version.
    const missing = behind.length ? ` Not yet on ${behind.join(", ")}.` : "";
    announce(changed ? `${version} serves now, in place of ${previous}.${missing}` : `${version} serves already.`);
    onChange();
    return null;
  } catch (error) {
    const happened = `It did not happen: ${whyRefused(error)}.`;
    if (error.code !== "conflict") return `${happened} ${serving ?? "nothing"} serves on.`;
    onChange();
    return happened;
  }
}
