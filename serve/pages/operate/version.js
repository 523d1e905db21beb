// One version: where it comes from, what speaks for it, and the decision.
import { get, listAll, whyRefused } from "../api.js";
import { element, none, problem } from "../element.js";
import { redraw } from "../focus.js";
import { auditSection } from "./audit.js";
import { decisionButton } from "./decision.js";
import { evidence } from "./evidence.js";
import { shortDigest, when } from "./figures.js";
import { gateSection } from "./gate.js";
import { promotionsTable } from "./promotions.js";
import { facts, section, shortId, stateMark, versionLink, withJumpLinks } from "./section.js";
import { votesSection } from "./votes.js";

export class VersionPage {
  constructor(version, go) {
    this.version = version;
    this.go = go;
    this.plots = [];
    this.node = element("div", { class: "operate version-page" }, none("Loading…"));
  }

  async start() {
    try {
      const [policy, policies] = await Promise.all([get(`/v1/policies/${this.version}`), listAll("/v1/policies")]);
      if (!this.left) this.draw(policy, policies);
    } catch (error) {
      this.node.replaceChildren(
        back(),
        element("h1", {}, this.version),
        problem(`${whyRefused(error)}.`),
      );
    }
  }

  leave() {
    this.left = true;
    for (const one of this.plots) one.leave();
  }

  draw(policy, policies) {
    const { nodes, plots } = evidence(policy.evidence, policy.gate.live);
    this.plots = plots;
    const decision = decisionButton(policy, policies, () => {
      this.leave();
      this.left = false;
      this.start();
    });
    const sections = [
      gateSection(policy.gate, policy.version),
      ...nodes,
      votesSection(policy),
      section("Decisions", promotionsTable(policy.promotions)),
      auditSection(policy.version),
    ].filter(Boolean);
    redraw(
      this.node,
      back(),
      element(
        "header",
        { class: "page-head" },
        element("h1", {}, policy.version),
        stateMark(policy.state),
        element("span", { class: "grow" }),
        decision,
      ),
      lineage(policy),
      ...withJumpLinks(sections),
      element(
        "details",
        { class: "raw" },
        element("summary", {}, "Settings it was trained with"),
        element("pre", { tabindex: "0" }, JSON.stringify(policy.settings, null, 2)),
      ),
    );
  }
}

function back() {
  return element("p", { class: "back" }, element("a", { href: "/operate" }, "← Operate"));
}

function lineage(policy) {
  const { judges } = policy.evidence;
  return facts([
    ["Made", when(policy.created)],
    [
      "From",
      policy.parent ? versionLink(policy.parent) : "nothing: the starting policy",
    ],
    ["Weights", element("code", { title: policy.digest }, shortDigest(policy.digest))],
    ["Judges", judges ? element("code", { title: judges.sha256 }, shortDigest(judges.sha256)) : "none"],
    ["Dataset", policy.dataset ? element("code", { title: policy.dataset }, shortDigest(policy.dataset)) : "none"],
    ["Iteration", policy.iteration ? shortId(policy.iteration) : "none"],
    ["Seed", String(policy.seed ?? "–")],
    ["Engine", policy.loaded ? "loaded" : "not loaded"],
  ]);
}
