// What to do next while the loop has not gone round once.
import { element } from "../element.js";
import { isRunning } from "./iterations.js";

/** The panel, or null once a version has been promoted. */
export function firstSteps({ engines, voted, iterated, candidate, promoted, running }) {
  if (promoted) return null;
  const steps = [
    [engines, "Wait for the engine", "It loads the starting policy, v0. A start takes about half a minute."],
    [
      voted,
      "Chat and vote",
      [
        "Open ",
        link("/", "Chat"),
        " with “Always two replies” and say which is better, or ",
        link("/vote", "Vote"),
        " on the pairs that are there. ",
        code("tandem simulate --votes 600"),
        " has simulated people do it.",
      ],
    ],
    [
      iterated,
      "Start an iteration",
      running
        ? "It runs: follow it above."
        : "It learns from the counted votes and makes a candidate. By itself it starts when there are enough.",
    ],
    [
      promoted,
      "Look and promote",
      candidate
        ? ["Read what the gate and the evidence say of ", link(`/operate/${candidate}`, candidate), " and decide."]
        : "Read the candidate’s evidence, then have it serve. Rolling back is one click.",
    ],
  ];
  const next = steps.findIndex(([done]) => !done);
  return element(
    "section",
    { class: "first-steps", "aria-label": "First steps" },
    element("h2", {}, "What to do next"),
    element(
      "ol",
      {},
      steps.map(([done, title, said], at) =>
        element(
          "li",
          { class: done ? "done" : at === next ? "next" : null, "aria-current": at === next ? "step" : null },
          element("strong", {}, title, done && element("span", { class: "only-heard" }, " (done)")),
          !done && element("p", {}, said),
        ),
      ),
    ),
  );
}

firstSteps.facts = ({ metrics, policies, iterations }) => ({
  engines: metrics.engines.some(Boolean),
  voted: (metrics.votes.counted ?? 0) > 0,
  iterated: iterations.some((iteration) => iteration.state === "succeeded"),
  running: iterations.some(isRunning),
  candidate: policies.find((policy) => policy.state === "candidate")?.version ?? null,
  promoted: policies.some((policy) => policy.version !== "v0" && policy.state !== "candidate"),
});

const link = (path, text) => element("a", { href: path }, text);
const code = (text) => element("code", {}, text);
