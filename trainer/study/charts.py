"""Small charts as SVG text, for a report that is one file and needs nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 340, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 38
COLOURS = ("#3b6fb6", "#d1495b", "#2e8b57", "#b8860b", "#7b4fa3", "#5b6770", "#0f9fb5", "#a0522d")


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined by a line or not.

    Attributes:
        name: in the legend; empty for none.
        points: (x, y).
        colour: of `COLOURS` by number.
        joined: a line through the points instead of dots.
        dashed: the line.
    """

    name: str
    points: Sequence[Point]
    colour: int = 0
    joined: bool = True
    dashed: bool = False


def chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    x_range: Point | None = None,
    y_range: Point | None = None,
    *,
    axes: bool = True,
) -> str:
    """Lines and dots in a frame. Ranges are those of the points unless given."""
    points = [point for one in series for point in one.points]
    x_range, y_range = x_range or _range([x for x, _ in points]), y_range or _range([y for _, y in points])

    def place(point: Point) -> Point:
        x = _LEFT + (point[0] - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (point[1] - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    drawn = [_drawn(one, [place(point) for point in one.points]) for one in series]
    frame = _axes(x_range, y_range, x_label, y_label) if axes else ""
    return _svg(title, frame + "".join(drawn) + _legend(series))


def confusion(title: str, counts: tuple[int, int, int, int], names: tuple[str, str]) -> str:
    """Rows are true classes, columns verdicts."""
    most = max(*counts, 1)
    cells = []
    for number, count in enumerate(counts):
        row, column = divmod(number, 2)
        x, y = 100 + column * 100, 60 + row * 80
        cells.append(
            f'<rect x="{x}" y="{y}" width="96" height="76" fill="{COLOURS[0]}" '
            f'fill-opacity="{0.08 + 0.8 * count / most:.2f}"/>'
            f'<text x="{x + 48}" y="{y + 44}" text-anchor="middle" class="big">{count}</text>'
        )
    labels = [
        *(
            f'<text x="{148 + 100 * i}" y="52" text-anchor="middle">said {escape(name)}</text>'
            for i, name in enumerate(names)
        ),
        *(
            f'<text x="94" y="{102 + 80 * i}" text-anchor="end">true {escape(name)}</text>'
            for i, name in enumerate(names)
        ),
    ]
    return _svg(title, "".join(cells + labels))


def _svg(title: str, inner: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" class="title">{escape(title)}</text>{inner}</svg>'
    )


def _drawn(series: Series, places: Sequence[Point]) -> str:
    colour = COLOURS[series.colour % len(COLOURS)]
    if series.joined:
        path = " ".join(f"{x},{y}" for x, y in places)
        dash = ' stroke-dasharray="4 3"' if series.dashed else ""
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>'
    return "".join(f'<circle cx="{x}" cy="{y}" r="2.4" fill="{colour}" fill-opacity="0.65"/>' for x, y in places)


def _axes(x_range: Point, y_range: Point, x_label: str, y_label: str) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [f'<path d="M{_LEFT},{_TOP}V{bottom}H{right}" fill="none" stroke="#9aa3ab"/>']
    for part in (0.0, 0.5, 1.0):
        x, y = _LEFT + part * (right - _LEFT), bottom - part * (bottom - _TOP)
        x_value, y_value = (low + part * (high - low) for low, high in (x_range, y_range))
        parts.append(f'<text x="{x:.0f}" y="{bottom + 14}" text-anchor="middle">{_number(x_value)}</text>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.0f}" text-anchor="end">{_number(y_value)}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    named = [one for one in series if one.name]
    return "".join(
        f'<rect x="{_LEFT + 8}" y="{_TOP + 4 + 13 * i}" width="9" height="9" '
        f'fill="{COLOURS[one.colour % len(COLOURS)]}"/>'
        f'<text x="{_LEFT + 21}" y="{_TOP + 12 + 13 * i}">{escape(one.name)}</text>'
        for i, one in enumerate(named)
    )


def _range(values: Sequence[float]) -> Point:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 20 else f"{value:.2g}"
