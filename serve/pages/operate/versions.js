// All versions in a table: state, lineage, and the figures that a decision turns on.
import { element } from "../element.js";
import { figure, shareEstimate, shareOf, signed, when } from "./figures.js";
import { stopping } from "./gate.js";
import { stateMark, versionLink } from "./section.js";
import { sortableTable } from "./sortable.js";

/** `gates`: what the gate says of each candidate, by version, as far as it is known. */
export function versionsTable(policies, ratings, gates) {
  if (policies.length === 0)
    return element("p", { class: "none" }, "None yet: the starting policy is recorded when the stack comes up.");
  const rating = (version, objective) =>
    ratings.find((one) => one.version === version && one.objective === objective)?.rating ?? null;
  const evaluation = (policy) => policy.evidence.evaluation ?? {};
  return sortableTable({
    caption: "Versions",
    rows: policies,
    rowClass: (policy) => (policy.state === "serving" ? "serving" : null),
    columns: [
      {
        name: "Version",
        numeric: false,
        value: (policy) => Number(policy.version.slice(1)),
        cell: (policy) => versionLink(policy.version),
      },
      {
        name: "State",
        value: (policy) => policy.state,
        cell: (policy) => stateMark(policy.state),
      },
      {
        name: "Gate",
        title: "Whether a candidate may be promoted",
        value: (policy) => gates[policy.version] && (gates[policy.version].passes ? "passes" : "fails"),
        cell: (policy) => verdict(gates[policy.version]),
      },
      { name: "Loaded", value: (policy) => (policy.loaded ? "yes" : "no") },
      {
        name: "Win rate",
        title: "Against the starting policy, by the preference model, with its interval",
        numeric: true,
        value: (policy) => evaluation(policy).win_rate?.value,
        cell: (policy) => shareEstimate(evaluation(policy).win_rate),
      },
      {
        name: "KL",
        title: "Nats per reply from the starting policy",
        numeric: true,
        value: (policy) => evaluation(policy).kl_nats,
        cell: (policy) => figure(evaluation(policy).kl_nats),
      },
      {
        name: "Length",
        title: "Tokens per reply against the starting policy",
        numeric: true,
        value: (policy) => evaluation(policy).length_ratio,
        cell: (policy) => figure(evaluation(policy).length_ratio),
      },
      {
        name: "PM accuracy",
        title: "Of its preference model on held-out votes",
        numeric: true,
        value: (policy) => policy.evidence.preference?.accuracy,
        cell: (policy) => shareOf(policy.evidence.preference, "accuracy"),
      },
      {
        name: "Helpful",
        title: "Rating from live votes, Elo",
        numeric: true,
        value: (policy) => rating(policy.version, "helpful"),
        cell: (policy) => signed(rating(policy.version, "helpful")),
      },
      {
        name: "Harmless",
        title: "Rating from live votes, Elo",
        numeric: true,
        value: (policy) => rating(policy.version, "harmless"),
        cell: (policy) => signed(rating(policy.version, "harmless")),
      },
      { name: "Made", numeric: true, value: (policy) => policy.created, cell: (policy) => when(policy.created) },
    ],
  });
}

function verdict(gate) {
  if (!gate) return "–";
  const [state, told] = gate.passes ? ["pass", "passes"] : ["fail", "fails"];
  return stateMark(state, { told, title: stopping(gate) });
}
