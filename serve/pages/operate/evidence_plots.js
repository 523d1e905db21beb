// What the plots of a version's evidence and of the ratings show; `plot` draws it.
import { figure, isNumber } from "./figures.js";

const MANY = 40;

/** sqrt(KL) against reward, a point a PPO step; the watch score beside it where there is one, and what was published. */
export function rewardByDistance(steps, guard = null) {
  const [first, last] = [steps[0], steps.at(-1)];
  const curve = (name) => [
    ...steps.map((step) => ({ x: step.sqrt_kl, y: step[name], step: step.step })),
    // Each entry is about the policy before its update; the guard knows the one after the last.
    ...(guard ? [{ x: guard.last_sqrt_kl, y: guard[`last_${name}`], step: guard.steps + 1 }] : []),
  ].filter((point) => isNumber(point.x) && isNumber(point.y));
  const [rewards, watched] = [curve("reward"), curve("watch_reward")];
  const published = watched.find((point) => point.step === guard?.published_step + 1);
  return {
    title: "Reward against distance",
    said:
      `Over ${steps.length} PPO steps the reward went from ${figure(first.reward)} to ${figure(last.reward)} while the policy moved ` +
      `√KL = ${figure(last.sqrt_kl)} from where it started.${watched.length ? " Where the watch score falls while the reward rises, it is over-optimised." : ""}`,
    draw: (colours) => ({
      type: "scatter",
      colours,
      data: {
        datasets: [
          ...(published ? [{ ...line("published", [published], colours.ink), pointRadius: 7, pointStyle: "rectRot" }] : []),
          line("reward", rewards, colours.accent),
          ...(watched.length ? [line("watch", watched, colours.second)] : []),
        ],
      },
      x: { title: "√KL, in √nats", beginAtZero: true },
      y: { title: "reward" },
      legend: watched.length > 0,
      tooltip: {
        callbacks: {
          label: ({ raw, dataset }) =>
            `after step ${raw.step - 1}: ${dataset.label} ${figure(raw.y)} at √KL ${figure(raw.x)}`,
        },
      },
    }),
  };
}

/** Each objective's score by step. */
export function scoresByStep(steps) {
  return byStep("Scores by step", "PPO step", "preference score", Object.keys(steps[0].scores ?? {}), steps, (step) => step.scores);
}

/** How the votes pulled a policy that DPO trained. */
export function likelihoodByStep(steps) {
  const named = (step) => ({ preferred: step.preferred_nats, other: step.other_nats });
  return byStep("Likelihood by step", "DPO step", "nats a reply", ["preferred", "other"], steps, named);
}

/** Loss and accuracy on the votes of each DPO step. */
export function lossByStep(steps) {
  return byStep("Loss and accuracy by step", "DPO step", "", ["loss", "accuracy"], steps, (step) => step);
}

function byStep(title, x, y, names, steps, of) {
  const [first, last] = [of(steps[0]), of(steps.at(-1))];
  return {
    title,
    said: names.map((name) => `${name} from ${figure(first[name])} to ${figure(last[name])}`).join(", ") + ".",
    draw: (colours) => ({
      type: "scatter",
      colours,
      data: {
        datasets: names.map((name, at) =>
          line(
            name,
            steps.map((step) => ({ x: step.step, y: of(step)[name] })),
            [colours.accent, colours.second, colours.third][at % 3],
          ),
        ),
      },
      x: { title: x },
      y: { title: y },
      legend: names.length > 1,
    }),
  };
}

/** Calibration: predicted against actual, `bins` of `{confidence, accuracy, count}`. */
export function calibration(bins, of = "") {
  const points = bins.filter((bin) => bin.count > 0);
  const most = Math.max(...points.map((bin) => bin.count));
  return {
    title: `Calibration${of}`,
    said: "Where the preference model says 80 %, four in five votes should agree: the nearer to the diagonal the better. A larger point stands for more votes.",
    draw: (colours) => ({
      type: "scatter",
      colours,
      data: {
        datasets: [
          {
            ...line(
              "perfect",
              [
                { x: 0.5, y: 0.5 },
                { x: 1, y: 1 },
              ],
              colours.soft,
            ),
            pointRadius: 0,
            borderWidth: 1,
            borderDash: [4, 4],
          },
          {
            ...line(
              "held-out votes",
              points.map((bin) => ({ x: bin.confidence, y: bin.accuracy, count: bin.count })),
              colours.accent,
            ),
            pointRadius: points.map((bin) => 2 + 6 * Math.sqrt(bin.count / most)),
            borderWidth: 1,
          },
        ],
      },
      x: { title: "predicted", min: 0.5, max: 1 },
      y: { title: "agreed", min: 0, max: 1 },
      tooltip: {
        callbacks: {
          label: ({ raw }) => (raw.count ? `${percent(raw.x)} predicted, ${percent(raw.y)} of ${raw.count} votes agreed` : ""),
        },
      },
    }),
  };
}

/** Win rates against one version with their intervals, raw and at equal length. `rows` are those of `win_rates.js`. */
export function winRatesWithIntervals(rival, rows) {
  const best = rows[0];
  return {
    title: `Win rates against ${rival}`,
    said: `${best ? `${percent(best.raw.value)} by the ${best.judge}. ` : ""}Bars are 95 % intervals, a model’s over prompts, as if it were right; right of the middle it wins more than it loses.`,
    rows: rows.length,
    draw: (colours) =>
      intervals(
        rows.map(({ objective, judge }) => (judge === "preference model" ? objective : `${objective}, ${judge}`)),
        [
          { name: "raw", colour: colours.accent, values: rows.map((row) => row.raw) },
          { name: "at equal length", colour: colours.second, values: rows.map((row) => row.equal) },
        ],
        { colours, x: { title: "win rate", min: 0, max: 1 }, middle: 0.5, said: percent },
      ),
  };
}

/** Ratings of one objective with their intervals, the best on top. */
export function ratingsWithIntervals(objective, ratings) {
  const rated = ratings.filter((one) => isNumber(one.rating));
  return {
    title: objective,
    said:
      rated.map((one) => `${one.version} ${figure(one.rating, 0)}`).join(", ") +
      " on the Elo scale, with 95 % intervals.",
    rows: rated.length,
    draw: (colours) =>
      intervals(
        rated.map((one) => one.version),
        [
          {
            name: "Elo",
            colour: colours.accent,
            values: rated.map(({ rating, interval }) => ({ value: rating, interval })),
          },
        ],
        { colours, x: { title: "Elo", grace: "8%" }, said: (value) => String(Math.round(value)) },
      ),
  };
}

/** The frontier with the start and the candidate, by the preference model and by the watch model where there is one. */
export function frontierPlot({ points, start, candidate }) {
  const at = (point, more = {}) =>
    point?.helpful && point?.harmless ? [{ x: point.helpful.value, y: point.harmless.value, ...more }] : [];
  const weighed = (judge) => points.flatMap((point) => at(judge(point), { weight: point.harmless_weight }));
  const watched = weighed((point) => point.watch);
  const dots = (name, found, colour, pointStyle) => ({
    ...line(name, found, colour),
    showLine: false,
    pointRadius: 7,
    pointStyle,
  });
  return {
    title: "Frontier",
    rows: 6,
    said: "Up is less harmful, right is more helpful, in deviations from the mean of held-out replies. The nearer the candidate is to the upper right, the less it gave up.",
    draw: (colours) => ({
      type: "scatter",
      colours,
      data: {
        datasets: [
          dots("start", at(start), colours.soft, "circle"),
          dots("candidate", at(candidate), colours.ink, "rectRot"),
          line(
            "other weights",
            weighed((point) => point),
            colours.accent,
          ),
          ...(watched.length ? [line("by the watch model", watched, colours.second)] : []),
        ],
      },
      x: { title: "helpful score" },
      y: { title: "harmless score" },
      tooltip: {
        callbacks: {
          label: ({ raw, dataset }) =>
            `${dataset.label}${isNumber(raw.weight) ? `, harmless weighs ${raw.weight}` : ""}: ${figure(raw.x)}, ${figure(raw.y)}`,
        },
      },
    }),
  };
}

/**
 * Values with their intervals, a row for each label, the first on top; `series` of `{name, colour, values}` with
 * estimates as values. `middle` draws a line to compare with.
 */
function intervals(labels, series, { colours, x, middle = null, said }) {
  const shift = (number) => (series.length > 1 ? (number - (series.length - 1) / 2) * 0.26 : 0);
  const bars = [];
  const dots = [];
  series.forEach(({ name, colour, values }, number) => {
    const known = values.map((one, at) => ({ one, y: at + shift(number) })).filter(({ one }) => isNumber(one?.value));
    if (known.length === 0) return;
    const ends = known.flatMap(({ one: { interval }, y }) =>
      interval ? [{ x: interval[0], y }, { x: interval[1], y }, { x: null, y: null }] : [],
    );
    dots.push({
      ...line(
        name,
        known.map(({ one, y }) => ({ x: one.value, y, interval: one.interval })),
        colour,
      ),
      showLine: false,
      pointRadius: 5,
    });
    bars.push({ ...line("", ends, colour), pointRadius: 0, pointHitRadius: 0, borderWidth: 3 });
  });
  const edge = middle === null ? [] : [{ x: middle, y: -0.5 }, { x: middle, y: labels.length - 0.5 }];
  return {
    type: "scatter",
    colours,
    legend: dots.length > 1,
    data: {
      datasets: [
        ...dots,
        ...bars,
        { ...line("", edge, colours.soft), pointRadius: 0, pointHitRadius: 0, borderWidth: 1, borderDash: [4, 4] },
      ],
    },
    x,
    y: {
      reverse: true,
      min: -0.5,
      max: labels.length - 0.5,
      grid: { display: false },
      afterBuildTicks: (axis) => {
        axis.ticks = labels.map((_, at) => ({ value: at }));
      },
      ticks: { callback: (value) => labels[value], autoSkip: false },
    },
    tooltip: {
      callbacks: {
        label: ({ raw, dataset }) =>
          `${dataset.label}: ${said(raw.x)}${raw.interval ? ` (${said(raw.interval[0])} to ${said(raw.interval[1])})` : ""}`,
      },
    },
  };
}

const percent = (value) => `${Math.round(100 * value)} %`;

function line(label, data, colour) {
  return {
    label,
    data,
    showLine: true,
    borderColor: colour,
    backgroundColor: colour,
    borderWidth: 2,
    // Many points would hide the line.
    pointRadius: data.length > MANY ? 0 : 3,
    // A point at the edge is drawn whole.
    clip: 10,
    tension: 0,
  };
}
