"""A small grammar over the signs of a video in time: `versive then tonic within 30 s`.

    either   = both ("or" both)*
    both     = course ("and" course)*
    course   = part ("then" part ["within" seconds])*
    part     = "not" part | "(" either ")" | sign ["for" seconds]
    seconds  = number ["s"]
    sign     = a name, with or without `Semiology-`, or the ILAE's words in quotes

`a then b` holds where b begins after a has begun, and no later than so many seconds after a has ended. `a and b` holds
where both are anywhere in the video, `not a` of a video without a.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from index.errors import InvalidInput
from index.near_misses import resembles
from index.semiology import SIGNS, Stretch

Tracks = Mapping[str, Sequence[Stretch]]
"""Where each sign is probable in a video, in time, by its name."""
Holds = Callable[[Tracks], list[Stretch]]
_TOKEN = re.compile(r'\s*(?:([()])|"([^"]*)"|([^\s()"]+))')
_WORDS = frozenset({"or", "and", "then", "within", "not", "for"})
_NUMBER = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)(s?)")
_LONGEST, _DEEPEST = 400, 20
_PREFIX = "Semiology-"


@dataclass(frozen=True, slots=True)
class SignQuery:
    """What is asked of the signs of a video.

    Attributes:
        text: as it was asked.
        signs: names that it speaks of.
        holds: where in a video it holds, given its tracks, in time; empty where it does not.
    """

    text: str
    signs: frozenset[str]
    holds: Holds


def parsed(text: str, known: Sequence[str]) -> SignQuery:
    """Read a query.

    Args:
        text: what was asked.
        known: names of the signs that there are tracks of.

    Raises:
        InvalidInput: If it is too long or nested too deeply, is no sentence of the grammar, or names a sign that is not
            known: the message says where, and which signs there are.
    """
    if len(text) > _LONGEST:
        raise InvalidInput(f"expected at most {_LONGEST} characters of signs, got {len(text)}", field="signs")
    reader = _Reader(text, known)
    holds = reader.either(0)
    if reader.next is not None:
        raise reader.wrong("the end, or `and`, `or`, `then`")
    return SignQuery(text, frozenset(reader.named), holds)


class _Reader:
    """Reads the grammar from left to right."""

    def __init__(self, text: str, known: Sequence[str]) -> None:
        self._known = known
        self._tokens: list[tuple[str, bool]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise InvalidInput("expected a closing quote", field="signs")
            bracket, quoted, word = match.groups()
            self._tokens.append((quoted, True) if quoted is not None else (bracket or word, False))
            at = match.end()
        self._at = 0
        self.named: set[str] = set()

    @property
    def next(self) -> str | None:
        """The word that comes next, in lower case; None at the end, and a quoted one is no word of the grammar."""
        if self._at >= len(self._tokens):
            return None
        text, quoted = self._tokens[self._at]
        return f'"{text}"' if quoted else text.casefold()

    def wrong(self, expected: str) -> InvalidInput:
        """Say what was expected where."""
        got = "nothing more" if self._at >= len(self._tokens) else repr(self._tokens[self._at][0][:40])
        return InvalidInput(f"expected {expected}, got {got} (word {self._at + 1} of the signs)", field="signs")

    def either(self, depth: int) -> Holds:
        parts = [self._both(depth)]
        while self._taken("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda tracks: sorted({one for part in parts for one in part(tracks)})

    def _both(self, depth: int) -> Holds:
        parts = [self._course(depth)]
        while self._taken("and"):
            parts.append(self._course(depth))
        return parts[0] if len(parts) == 1 else lambda tracks: _together([part(tracks) for part in parts])

    def _course(self, depth: int) -> Holds:
        holds = self._part(depth)
        while self._taken("then"):
            later = self._part(depth)
            within_s = self._seconds() if self._taken("within") else float("inf")
            holds = _then(holds, later, within_s)
        return holds

    def _part(self, depth: int) -> Holds:
        if depth > _DEEPEST:
            raise InvalidInput(f"expected signs nested at most {_DEEPEST} deep", field="signs")
        if self._taken("not"):
            part = self._part(depth + 1)
            return lambda tracks: [] if part(tracks) else [Stretch(0.0, 0.0, 1.0)]
        if self._taken("("):
            holds = self.either(depth + 1)
            if not self._taken(")"):
                raise self.wrong("`)`")
            return holds
        if self.next is None or self.next in _WORDS | {")"}:
            raise self.wrong("a sign")
        name = self._sign()
        least_s = self._seconds() if self._taken("for") else 0.0
        return lambda tracks: [one for one in tracks.get(name, ()) if one.end_s - one.start_s >= least_s]

    def _sign(self) -> str:
        said = self._tokens[self._at][0]
        meant = [
            name
            for name in self._known
            if said.casefold()
            in {name.casefold(), name.removeprefix(_PREFIX).casefold(), SIGNS.get(name, name).casefold()}
        ]
        if not meant:
            shorts = [name.removeprefix(_PREFIX) for name in self._known]
            near = [short for short in shorts if resembles(said, short)]
            hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(shorts)}" if shorts else ""
            raise InvalidInput(f"no sign {said[:64]!r} is judged here{hint}", field="signs")
        self._at += 1
        self.named.add(meant[0])
        return meant[0]

    def _seconds(self) -> float:
        match = _NUMBER.fullmatch(self.next or "")
        if match is None:
            raise self.wrong("a number of seconds")
        self._at += 1
        if not match[2]:
            self._taken("s")
        return float(match[1])

    def _taken(self, word: str) -> bool:
        if self.next != word:
            return False
        self._at += 1
        return True


def _together(found: Sequence[list[Stretch]]) -> list[Stretch]:
    """From the first to the last of what all parts have; nothing where one has none."""
    if not all(found):
        return []
    every = [one for part in found for one in part]
    return [
        Stretch(
            min(one.start_s for one in every),
            max(one.end_s for one in every),
            min(max(one.probability for one in part) for part in found),
        )
    ]


def _then(first: Holds, later: Holds, within_s: float) -> Holds:
    def holds(tracks: Tracks) -> list[Stretch]:
        found, after = [], later(tracks)
        for one in first(tracks):
            for other in after:
                if one.start_s < other.start_s <= one.end_s + within_s:
                    probability = min(one.probability, other.probability)
                    found.append(Stretch(one.start_s, max(one.end_s, other.end_s), probability))
                    break  # the first that follows
        return found

    return holds
