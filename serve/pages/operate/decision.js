// Promote this version or roll back, always with a reason; and what came of it.
import { announce } from "../announce.js";
import { call, Refused } from "../api.js";
import { element } from "../element.js";
import { askReason } from "./reason_dialog.js";
import { stopping } from "./gate.js";
import { help } from "./section.js";

/** Hosts that serve nothing until they have come to hold the version. */
const behind = (change) => (change.behind.length ? ` Not yet on ${change.behind.join(", ")}.` : "");

/** The button of the decision that can be taken on `policy`, or why there is none; `onChange()` when what serves has changed. */
export function decisionButton(policy, policies, onChange) {
  const serving = policies.find((one) => one.state === "serving")?.version;
  const shown = serving ?? "nothing";
  const rollBack = policy.state === "serving";
  if (rollBack && !policy.rollback_to) return help("It took no version’s place: there is none to roll back to.");
  const against = stopping(policy.gate);
  const act = async ({ reason, force }) => {
    const path = rollBack ? "/v1/policies/rollback" : `/v1/policies/${policy.version}/promote`;
    try {
      // What was decided is to change nothing else, which somebody else may have decided meanwhile.
      const change = await call("POST", path, { reason, force, ...(serving && { instead_of: serving }) });
      announce(
        change.changed
          ? `${change.version} serves now, in place of ${change.previous}.${behind(change)}`
          : `${change.version} serves already.`,
      );
      onChange();
      return null;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const happened = `It did not happen: ${error.message}.`;
      if (error.code !== "conflict") return `${happened} ${shown} serves on.`;
      onChange();
      return happened;
    }
  };
  const asked = rollBack
    ? {
        title: "Go back to the version that served before",
        action: "Roll back",
        said: `${policy.version} serves now. Replies in flight end on it; new ones go to ${policy.rollback_to}.`,
      }
    : {
        title: `Have ${policy.version} serve`,
        action: `Promote ${policy.version}`,
        force: against && "Force: against the evidence",
        said:
          `${shown} serves now. ${policy.version} is loaded and compared with the learner’s figures before the first chat reaches it; no ` +
          `reply in flight is lost.${against ? ` The gate speaks against it: ${against}.` : ""}`,
      };
  return element(
    "button",
    {
      type: "button",
      class: rollBack ? null : "primary",
      onclick: () => askReason({ ...asked, doing: "Loading, probing, flipping…", act }),
    },
    rollBack ? "Roll back…" : "Promote…",
  );
}
