// What the plots of a version's evidence and of the ratings show; `plot` draws it.
import { figure, isNumber } from "./figures.js";

/** sqrt(KL) against reward, a point a PPO step; the watch score beside it where there is one. */
export function rewardByDistance(steps) {
  const [first, last] = [steps[0], steps.at(-1)];
  const watched = steps.filter((step) => isNumber(step.watch_reward));
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
          line(
            "reward",
            steps.map((step) => ({ x: step.sqrt_kl, y: step.reward, step: step.step })),
            colours.accent,
          ),
          ...(watched.length
            ? [
                line(
                  "watch",
                  watched.map((step) => ({ x: step.sqrt_kl, y: step.watch_reward, step: step.step })),
                  colours.second,
                ),
              ]
            : []),
        ],
      },
      x: { title: "√KL, in √nats", beginAtZero: true },
      y: { title: "reward" },
      legend: watched.length > 0,
      tooltip: {
        callbacks: {
          label: ({ raw, dataset }) => `step ${raw.step}: ${dataset.label} ${figure(raw.y)} at √KL ${figure(raw.x)}`,
        },
      },
    }),
  };
}

/** Each objective's score and the reply length by step. */
export function scoresByStep(steps) {
  const names = Object.keys(steps[0].scores ?? {});
  return {
    title: "Scores by step",
    said:
      names
        .map((name) => `${name} from ${figure(steps[0].scores[name])} to ${figure(steps.at(-1).scores[name])}`)
        .join(", ") + ".",
    draw: (colours) => ({
      type: "scatter",
      colours,
      data: {
        datasets: names.map((name, at) =>
          line(
            name,
            steps.map((step) => ({ x: step.step, y: step.scores[name] })),
            at ? colours.second : colours.accent,
          ),
        ),
      },
      x: { title: "PPO step" },
      y: { title: "preference score" },
      legend: names.length > 1,
    }),
  };
}

/** Calibration: predicted against actual, `bins` of `{confidence, accuracy, count}`. */
export function calibration(bins) {
  const points = bins.filter((bin) => bin.count > 0);
  return {
    title: "Calibration",
    said: "Where the preference model says 80 %, four in five votes should agree: the nearer to the diagonal the better.",
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
              colours.line,
            ),
            pointRadius: 0,
          },
          line(
            "held-out votes",
            points.map((bin) => ({ x: bin.confidence, y: bin.accuracy, count: bin.count })),
            colours.accent,
          ),
        ],
      },
      x: { title: "predicted", min: 0.5, max: 1 },
      y: { title: "agreed", min: 0, max: 1 },
    }),
  };
}

/** Ratings of one objective with their intervals, the best on top. */
export function ratingsWithIntervals(objective, ratings) {
  const rated = ratings.filter((one) => isNumber(one.rating));
  return {
    title: objective,
    said:
      rated.map((one) => `${one.version} ${Math.round(one.rating)}`).join(", ") +
      " on the Elo scale, with 95 % intervals.",
    draw: (colours) => ({
      type: "bar",
      colours,
      indexAxis: "y",
      legend: false,
      data: {
        labels: rated.map((one) => one.version),
        datasets: [
          {
            data: rated.map((one) => one.interval ?? [one.rating, one.rating]),
            backgroundColor: colours.accentSoft,
            barThickness: 6,
            borderRadius: 3,
            borderSkipped: false,
            grouped: false,
            order: 1,
          },
          {
            type: "scatter",
            data: rated.map((one, at) => ({ x: one.rating, y: at })),
            backgroundColor: colours.accent,
            pointRadius: 5,
            pointHoverRadius: 5,
            order: 0,
          },
        ],
      },
      x: { title: "Elo", grace: "8%" },
      y: { grid: { display: false } },
      tooltip: { callbacks: { label: ({ dataIndex }) => said(rated[dataIndex]) } },
    }),
  };
}

function said(one) {
  const [low, high] = one.interval ?? [];
  return `${Math.round(one.rating)} (${Math.round(low)} to ${Math.round(high)}), ${one.votes} votes`;
}

function line(label, data, colour) {
  return {
    label,
    data,
    showLine: true,
    borderColor: colour,
    backgroundColor: colour,
    borderWidth: 2,
    pointRadius: 3,
    tension: 0,
  };
}
