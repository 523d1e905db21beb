// Reads the few figures that these pages show from Prometheus's text format.
import { request } from "../api.js";

const LINE = /^(tandem_\w+)(?:\{([^}]*)\})? (\S+)$/;
const LABEL = /(\w+)="([^"]*)"/g;

/** Votes by state, age of the oldest uncounted one, and whether each engine is ready. */
export async function readMetrics() {
  const found = { votes: {}, oldestUncountedS: 0, engines: [], queued: 0 };
  for (const line of (await (await request("GET", "/metrics")).text()).split("\n")) {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    const { state } = Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, said]) => [key, said]));
    const figure = Number(value);
    if (name === "tandem_votes") found.votes[state] = figure;
    if (name === "tandem_oldest_uncounted_vote_age_seconds") found.oldestUncountedS = figure;
    if (name === "tandem_chat_queued") found.queued = figure;
    if (name === "tandem_engine_ready") found.engines.push(figure === 1);
  }
  return found;
}
