// Plots, drawn by Chart.js in the page's own colours; each says in words what it shows.
import { element } from "../element.js";

let library = null;

/** Chart.js is a fifth of a megabyte: loaded with the first plot. */
async function chartLibrary() {
  library ??= import("../vendor/chart.js").then(() => globalThis.Chart);
  return library;
}

/**
 * A plot as a figure. `content`: `{title, said, draw}`, where `draw(colours)` gives what `withDefaults` takes. `leave()`
 * gives its memory back; it follows the switch between light and dark.
 */
export function plot(content) {
  const canvas = element("canvas", { role: "img" });
  const caption = element("figcaption");
  const frame = element("div", { class: "plot" }, canvas);
  // A plot with a row for each value is as high as they take.
  if (content.rows) frame.style.height = `${5 + 2.25 * content.rows}rem`;
  const node = element("figure", { class: "figure" }, caption, frame);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let chart = null;
  let left = false;

  function say() {
    canvas.setAttribute("aria-label", `${content.title}. ${content.said}`);
    caption.replaceChildren(element("strong", {}, content.title), " ", content.said);
  }

  async function redraw() {
    const Chart = await chartLibrary();
    if (left || !canvas.isConnected) return;
    chart?.destroy();
    chart = new Chart(canvas, withDefaults(content.draw(colours())));
  }
  dark.addEventListener("change", redraw);
  say();
  requestAnimationFrame(redraw);
  return {
    node,
    /** Show something newer in the same place. */
    change(newer) {
      content = newer;
      say();
      if (!chart) return;
      const { data } = withDefaults(content.draw(colours()));
      chart.data = data;
      chart.update("none");
    },
    leave() {
      left = true;
      dark.removeEventListener("change", redraw);
      chart?.destroy();
    },
  };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    ink: of("--ink"),
    soft: of("--ink-soft"),
    line: of("--line"),
    accent: of("--accent"),
    second: of("--second"),
    third: of("--third"),
    accentSoft: of("--accent-soft"),
    surface: of("--surface"),
  };
}

function withDefaults({ type, data, x, y, colours: { soft, line }, legend = true, tooltip = {}, indexAxis = "x" }) {
  const axis = ({ title, ...more } = {}) => ({
    title: { display: Boolean(title), text: title, color: soft },
    ticks: { color: soft, maxTicksLimit: 8, ...more.ticks },
    grid: { color: line, drawTicks: false },
    border: { display: false },
    ...without(more, "ticks"),
  });
  return {
    type,
    data,
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      indexAxis,
      font: { family: "system-ui, sans-serif" },
      interaction: { mode: "nearest", intersect: false },
      plugins: {
        legend: {
          display: legend,
          align: "start",
          // What has no name is a part of something else.
          labels: { color: soft, usePointStyle: true, boxHeight: 6, filter: ({ text }) => Boolean(text) },
        },
        tooltip,
      },
      scales: { x: axis(x), y: axis(y) },
    },
  };
}

function without(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}
