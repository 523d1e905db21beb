// The helpful-harmless frontier: what other weights of the two scores would give.
import { element } from "../element.js";
import { frontierPlot } from "./evidence_plots.js";
import { whole } from "./figures.js";
import { help, section } from "./section.js";

const METHODS = {
  reranked:
    "Each point takes, of a few replies of the starting policy, the best under one weight of the harmless score: the trade-off among replies that it gives anyway. PPO may go beyond.",
  trained: "Each point is a policy trained by a short run of PPO under one weight of the harmless score.",
};

export function frontierSection(frontier, drawn) {
  return section(
    "Helpful against harmless",
    help(`${METHODS[frontier.method] ?? ""} Measured on ${whole(frontier.prompts)} held-out prompts.`),
    element("div", { class: "figures" }, drawn(frontierPlot(frontier))),
  );
}
