"""Small charts as SVG text, for a report that is one file. The only module that knows matplotlib."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import product
from pathlib import Path

os.environ["MPLBACKEND"] = "svg"  # not what a notebook's shell sets, which may not be installed
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Point = tuple[float, float]
COLOURS = (
    "#3b6fb6",
    "#d1495b",
    "#2e8b57",
    "#b8860b",
    "#7b4fa3",
    "#5b6770",
    "#0f9fb5",
    "#a0522d",
    "#c2185b",
    "#4d7c0f",
    "#334155",
)
"""Told apart by most people who don't see some colours; number 5 is grey, for what is no class."""
_SIZE_INCHES = (3.5, 3.0)
_STYLE = Path(__file__).with_name("matplotlibrc")
_LONGEST_NAME = 24
_MOST_NAMES = 16


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined by a line or not.

    Attributes:
        name: in the legend; empty for none.
        points: (x, y); those that are not finite, as of a loss that diverged, are not drawn.
        colour: of `COLOURS` by number.
        joined: a line through the points, each marked, instead of dots.
        dashed: the line, without marks.
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
    empty: str = "nothing to show",
) -> str:
    """Lines and dots in a frame, the legend below it.

    Args:
        title: above it, and its description for people who can't see it.
        x_label: what goes across, with its unit.
        y_label: what goes up, with its unit.
        series: what is drawn.
        x_range: by default that of the points.
        y_range: by default that of the points.
        axes: with ticks and labels.
        empty: what is written in the frame where no series but dashed ones has a point.
    """
    with mpl.rc_context({"svg.hashsalt": title}, fname=_STYLE):
        figure, frame = _figure(title)
        series = [replace(one, points=_finite(one.points)) for one in series]
        for one in series:
            _draw(frame, one)
        if not any(one.points for one in series if not one.dashed):
            behind = {"facecolor": frame.get_facecolor(), "edgecolor": "none"}
            frame.text(0.5, 0.5, empty, transform=frame.transAxes, ha="center", va="center", wrap=True, bbox=behind)
        frame.set(xlabel=x_label, ylabel=y_label, xlim=x_range, ylim=y_range)
        if all(isinstance(x, int) for one in series for x, _ in one.points):
            frame.xaxis.set_major_locator(MaxNLocator(integer=True))  # no half steps
        if not axes:
            frame.set_axis_off()
        if any(one.name for one in series):
            handles, names = frame.get_legend_handles_labels()
            short = [_short(name) for name in names[:_MOST_NAMES]]
            figure.legend(handles[:_MOST_NAMES], short, loc="outside lower center", ncols=2)
        return _svg(figure, title)


def confusion(title: str, counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Counts with true classes as rows and verdicts as columns.

    Args:
        title: title above it.
        counts: of each true class, by the class given.
        names: names of the classes.
    """
    with mpl.rc_context({"svg.hashsalt": f"confusion {title}"}, fname=_STYLE):
        figure, frame = _figure(title)
        most = max(1, *(count for row in counts for count in row))
        frame.imshow(counts, cmap="Blues", vmin=0, vmax=1.25 * most)
        for row, column in product(range(len(names)), repeat=2):
            shade = "white" if counts[row][column] > 0.7 * most else "#1d2730"
            size = max(14 - len(names), 6)
            frame.text(column, row, str(counts[row][column]), ha="center", va="center", fontsize=size, color=shade)
        several = len(names) > 2  # long names side by side need room
        frame.set_xticks(range(len(names)), [f"verdict {_short(name)}" for name in names], rotation=90 * several)
        turn = 0 if several else 90
        frame.set_yticks(range(len(names)), [f"true {_short(name)}" for name in names], rotation=turn, va="center")
        frame.tick_params(length=0)
        return _svg(figure, title)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    frame = figure.add_subplot()
    frame.set_title(title)
    return figure, frame


def _draw(frame: Axes, series: Series) -> None:
    across, up = zip(*series.points, strict=True) if series.points else ((), ())
    colour, label = COLOURS[series.colour % len(COLOURS)], series.name or None
    if series.joined:
        style = "--" if series.dashed else "-"
        marker = "" if series.dashed or len(series.points) > 60 else "o"
        frame.plot(across, up, style, color=colour, label=label, linewidth=1.2, marker=marker, markersize=2.5)
    else:
        frame.scatter(across, up, color=colour, label=label, s=8, alpha=0.65, linewidths=0)


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1).strip()
