// All versions in a table: state, lineage, and the figures that a decision turns on.
import { none } from "../element.js";
import { figure, shareEstimate, shareOf, signed, when } from "./figures.js";
import { stopping } from "./gate.js";
import { stateMark, versionLink } from "./section.js";
import { estimated, numeric, sortableTable } from "./sortable.js";

/** `gates`: what the gate says of each candidate, by version, as far as it is known. */
export function versionsTable(policies, ratings, gates) {
  if (policies.length === 0)
    return none("None yet: the starting policy is recorded when the stack comes up.");
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
      estimated(
        "Win rate",
        (policy) => evaluation(policy).win_rate,
        shareEstimate,
        "Against the starting policy, by the preference model, with its interval",
      ),
      numeric("KL", (policy) => evaluation(policy).kl_nats, figure, "Nats per reply from the starting policy"),
      numeric("Length", (policy) => evaluation(policy).length_ratio, figure, "Tokens per reply against the starting policy"),
      {
        name: "PM accuracy",
        title: "Of its preference model on held-out votes",
        numeric: true,
        value: (policy) => policy.evidence.preference?.accuracy,
        cell: (policy) => shareOf(policy.evidence.preference, "accuracy"),
      },
      numeric("Helpful", (policy) => rating(policy.version, "helpful"), signed, "Rating from live votes, Elo"),
      numeric("Harmless", (policy) => rating(policy.version, "harmless"), signed, "Rating from live votes, Elo"),
      numeric("Made", (policy) => policy.created, when),
    ],
  });
}

function verdict(gate) {
  if (!gate) return "–";
  const [state, told] = gate.passes ? ["pass", "passes"] : ["fail", "fails"];
  return stateMark(state, { told, title: stopping(gate) });
}
