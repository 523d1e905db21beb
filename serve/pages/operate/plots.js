// Plots, drawn by Chart.js in the page's own colours; each says in words what it shows.
import { element } from "../element.js";

const HEIGHT_CLASS = "plot";
let library = null;

/** Chart.js is a fifth of a megabyte: loaded with the first plot. */
async function chartLibrary() {
  library ??= import("../vendor/chart.js").then(() => globalThis.Chart);
  return library;
}

/**
 * A plot as a figure: `draw(colours)` gives Chart.js's configuration. `leave()` gives its memory back; it follows the
 * switch between light and dark.
 */
export function plot({ title, said, draw }) {
  const canvas = element("canvas", { role: "img", "aria-label": `${title}. ${said}` });
  const node = element("figure", { class: "figure" }, element("figcaption", {}, element("strong", {}, title), " ", said),
    element("div", { class: HEIGHT_CLASS }, canvas));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let chart = null;
  let left = false;

  async function redraw() {
    const Chart = await chartLibrary();
    if (left || !canvas.isConnected) return;
    chart?.destroy();
    chart = new Chart(canvas, withDefaults(draw(colours())));
  }
  dark.addEventListener("change", redraw);
  requestAnimationFrame(redraw);
  return {
    node,
    redraw,
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
  return { ink: of("--ink"), soft: of("--ink-soft"), line: of("--line"), accent: of("--accent"), second: of("--second"),
    accentSoft: of("--accent-soft"), surface: of("--surface") };
}

function withDefaults({ type, data, x, y, colours: { soft, line }, legend = true, tooltip = {}, indexAxis = "x" }) {
  const axis = ({ title, ...more } = {}) => ({
    title: { display: Boolean(title), text: title, color: soft }, ticks: { color: soft, maxTicksLimit: 8, ...more.ticks },
    grid: { color: line, drawTicks: false }, border: { display: false }, ...without(more, "ticks") });
  return {
    type, data,
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, indexAxis,
      font: { family: "system-ui, sans-serif" },
      interaction: { mode: "nearest", intersect: false },
      plugins: { legend: { display: legend, labels: { color: soft, usePointStyle: true, boxHeight: 6 }, align: "start" }, tooltip },
      scales: { x: axis(x), y: axis(y) },
    },
  };
}

function without(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}
