"""Line plots as SVG text: axes, grid, points, a legend. They take the page's colours, so they print and go dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 336
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 48, 46
TICKS = 5
LEGEND_STEP = 120
# More points than this would hide their line.
MANY = 40


@dataclass(frozen=True)
class Series:
    """A name and points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A range of values laid over a range of pixels, with round ticks."""

    ticks: list[float]
    start_px: float
    end_px: float

    def px(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start_px + (value - low) / (high - low) * (self.end_px - self.start_px)


def plot(title: str, x_title: str, y_title: str, series: Sequence[Series]) -> str:
    """An SVG element; what it shows is said in its title and description too."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_axis = Axis(round_ticks(min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    y_axis = Axis(round_ticks(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x_axis, y_axis), *_titles(x_title, y_title)]
    for at, one in enumerate(series):
        parts += _line(one, x_axis, y_axis, at)
    if len(series) > 1:
        parts += _legend(series)
    said = "; ".join(f"{one.name} from {one.points[0][1]:.3g} to {one.points[-1][1]:.3g}" for one in series)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title)}</title><desc>{escape(said)}</desc>'
        f'<text class="plot-title" x="{LEFT}" y="18">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def round_ticks(low: float, high: float) -> list[float]:
    """About five round values whose ends enclose `low` to `high`."""
    span = high - low
    if span < 1e-9 * max(1.0, abs(low), abs(high)):
        # What differs by rounding alone is one value.
        span = abs(high) if abs(high) > 1e-9 else 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * TICKS >= span)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [step * number for number in range(first, last + 1)]


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = []
    for tick in x_axis.ticks:
        x = x_axis.px(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.4g}</text>'
        )
    for tick in y_axis.ticks:
        y = y_axis.px(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return parts


def _titles(x_title: str, y_title: str) -> list[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return [
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_title)}</text>",
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>",
    ]


def _line(one: Series, x_axis: Axis, y_axis: Axis, at: int) -> list[str]:
    points = [(x_axis.px(x), y_axis.px(y)) for x, y in one.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    radius = 6 if len(points) == 1 else 3 if len(points) <= MANY else 0
    dots = [f'<circle class="dot s{at}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in points if radius]
    line = [f'<polyline class="line s{at}" points="{path}"/>'] if len(points) > 1 else []
    return [*line, *dots]


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    for at, one in enumerate(series):
        x = LEFT + 4 + LEGEND_STEP * at
        parts.append(f'<circle class="dot s{at}" cx="{x}" cy="34" r="4"/>')
        parts.append(f'<text class="tick" x="{x + 8}" y="38">{escape(one.name)}</text>')
    return parts
