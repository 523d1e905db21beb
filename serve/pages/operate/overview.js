// The loop at a glance: votes in, iteration running, candidates, serving; versions, ratings, traffic, earlier iterations.
import { announce } from "../announce.js";
import { get, listAll, whyRefused } from "../api.js";
import { element } from "../element.js";
import { auditSection } from "./audit.js";
import { findRequestSection } from "./find_request.js";
import { FindVotes } from "./find_votes.js";
import { firstSteps } from "./first_steps.js";
import { glance } from "./glance.js";
import { IterationCard } from "./iteration.js";
import { isRunning, iterationsTable } from "./iterations.js";
import { readMetrics } from "./metrics.js";
import { RatersSection } from "./raters.js";
import { RatingsSection } from "./ratings.js";
import { section, withJumpLinks } from "./section.js";
import { TrafficForm } from "./traffic.js";
import { usageSection } from "./usage.js";
import { versionsTable } from "./versions.js";

const LOOK_INTERVAL_MS = 4000;
/** The newest so many candidates are held against the gate. */
const JUDGED = 10;

export class Overview {
  constructor(go) {
    this.glance = element("div");
    this.first = element("div");
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.iteration = new IterationCard(() => this.look());
    this.versions = element("div");
    this.ratings = new RatingsSection();
    this.votes = new FindVotes();
    this.raters = new RatersSection((raters) => this.votes.setRaters(raters));
    this.traffic = new TrafficForm(() => this.look());
    this.iterations = element("div");
    this.drawn = {};
    this.gates = {};
    this.loading = element("p", { class: "none", role: "status" }, "Loading…");
    this.node = element(
      "div",
      { class: "operate" },
      element(
        "header",
        { class: "page-head" },
        element("h1", {}, "Operate"),
        element("span", { class: "grow" }),
        this.iteration.startButton,
      ),
      this.problem,
      this.loading,
    );
  }

  start() {
    this.look();
  }

  leave() {
    this.left = true;
    clearTimeout(this.timer);
    this.iteration.leave();
    this.ratings.leave();
  }

  async look() {
    clearTimeout(this.timer);
    if (!document.hidden) await this.refresh();
    if (this.left) return;
    this.timer = setTimeout(() => this.look(), LOOK_INTERVAL_MS);
  }

  async refresh() {
    try {
      const [metrics, policies, iterations, traffic, ratings] = await Promise.all([
        readMetrics(),
        listAll("/v1/policies"),
        get("/v1/iterations?limit=20"),
        get("/v1/traffic"),
        get("/v1/ratings"),
      ]);
      if (this.left) return;
      this.problem.hidden = true;
      // All raters are many rows: read once, not with every look.
      if (this.loading.isConnected) {
        this.ratings.readControlled();
        await this.raters.read();
      }
      this.show({ metrics, policies, iterations: iterations.data, traffic, ratings: ratings.data });
      this.when("iterations", iterations, (newest) => this.iterations.replaceChildren(iterationsTable(newest)));
    } catch (error) {
      const nothing = this.loading.isConnected;
      const said = `${nothing ? "No figures yet" : "The figures are not up to date"}: ${whyRefused(error)}. They are asked for again.`;
      if (this.problem.hidden) announce(said);
      this.loading.hidden = true;
      this.problem.hidden = false;
      this.problem.textContent = said;
    }
  }

  /** Only once there is something to show. */
  fill() {
    if (!this.loading.isConnected) return;
    this.loading.replaceWith(
      this.glance,
      this.iteration.node,
      this.first,
      ...withJumpLinks([
        section("Versions", this.versions),
        this.ratings.node,
        section("Traffic", this.traffic.node),
        this.raters.node,
        this.votes.node,
        section("Iterations", this.iterations),
        usageSection(),
        findRequestSection(),
        auditSection(),
      ]),
    );
  }

  /** Only what has changed is drawn anew, so that nobody loses the focus or a half-made choice. */
  show(state) {
    this.fill();
    this.iteration.follow(state.iterations.find(isRunning) ?? null);
    this.when("glance", state, () => this.glance.replaceChildren(glance(state)));
    this.when("first", firstSteps.facts(state), (facts) => this.first.replaceChildren(firstSteps(facts) ?? ""));
    this.when("gates", state.policies, () => this.readGates(state));
    this.showVersions(state);
    this.when("ratings", state.ratings, (ratings) => this.ratings.draw(ratings));
    this.when("traffic", [state.traffic, state.policies.map(({ version, state: one }) => [version, one])], () =>
      this.traffic.draw(state.traffic, state.policies),
    );
  }

  /** Asked for each candidate by itself, and so only when a version has changed. */
  async readGates(state) {
    const candidates = state.policies.filter((policy) => policy.state === "candidate").slice(0, JUDGED);
    const pages = await Promise.allSettled(candidates.map(({ version }) => get(`/v1/policies/${version}`)));
    const read = pages.filter((page) => page.status === "fulfilled").map(({ value }) => [value.version, value.gate]);
    this.gates = Object.fromEntries(read);
    this.showVersions(state);
  }

  showVersions({ policies, ratings }) {
    this.when("versions", [policies, ratings, this.gates], () =>
      this.versions.replaceChildren(versionsTable(policies, ratings, this.gates)),
    );
  }

  when(part, facts, draw) {
    const said = JSON.stringify(facts);
    if (this.drawn[part] === said) return;
    this.drawn[part] = said;
    draw(facts);
  }
}
