"""One JSON object a figure on stdout, words on stderr."""

from __future__ import annotations

import json
import sys


def figure(
    name: str,
    ours: float,
    unit: str,
    against: str,
    theirs: float,
    ratio: float,
    goal: float | None,
    *,
    at_most: bool = False,
) -> None:
    """Print a figure.

    Args:
        name: what was measured.
        ours: the value.
        unit: of both values.
        against: the peer or the limit.
        theirs: its value.
        ratio: of the two, the way round that the goal speaks of.
        goal: None where there is none.
        at_most: whether the ratio must not be above the goal; else not below it.
    """
    holds = None if goal is None else (ratio <= goal if at_most else ratio >= goal)
    values = {"name": name, "ours": round(ours, 4), "unit": unit, "against": against, "theirs": round(theirs, 4)}
    sys.stdout.write(json.dumps({**values, "ratio": round(ratio, 4), "goal": goal, "holds": holds}) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people who watch."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
