"""Ids that differ only as typing errors do: in letter case, leading zeros, separators, Unicode form, blanks."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

_NEARLY = 0.85
_PART = re.compile(r"\d+|[^\W\d_]+")


def likeness(name: str) -> tuple[str, ...]:
    """Equal for ids that a reader, or a spreadsheet, may take for one another: `P-003`, `p3` and `P 03`."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in _PART.findall(plain))


def resembles(name: str, known: str) -> bool:
    """Whether one word may be a slip in writing of another: the same but for case and separators, or nearly."""
    given, other = ("".join(likeness(word)) for word in (name, known))
    return given == other or difflib.SequenceMatcher(None, given, other).ratio() >= _NEARLY


def like(name: str, known: Iterable[str]) -> set[str]:
    """Those of these ids that are like this one and not the same."""
    wanted = likeness(name)
    return {other for other in known if other != name and likeness(other) == wanted}


def near_misses(names: Iterable[str], known: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """Groups of ids that are like each other, each with at least one of `names`; sorted.

    Args:
        names: new ids.
        known: that are there already; groups of these alone are not told.
    """
    new = set(names)
    groups: dict[tuple[str, ...], set[str]] = {}
    for name in new | set(known):
        groups.setdefault(likeness(name), set()).add(name)
    near = (tuple(sorted(group)) for group in groups.values() if len(group) > 1 and not new.isdisjoint(group))
    return sorted(near)
