"""A small grammar over the signs of a video in time: `versive then tonic within 30 s`.

    either   = both ("or" both)*
    both     = denied ("and" denied)*
    denied   = "not" denied | course
    course   = part ("then" part ["within" seconds])*
    part     = ("(" either ")" | sign) ["for" seconds]
    seconds  = number ["s" | "min"]
    sign     = a name, with or without `Semiology-`, or the ILAE's words in quotes

`a then b` holds where b begins after a has begun, and no later than so many seconds after a has ended. `a and b` holds
where both are anywhere in the video, `not a` of a video without a. What a video lacks is nowhere in it: `not` has no
place in time, and a course is made of what can be seen.
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
Holds = Callable[[Tracks], "Found"]
_TOKEN = re.compile(r'\s*(?:([()])|"([^"]*)"|([^\s()"]+))')
_WORDS = frozenset({"or", "and", "then", "within", "not", "for"})
_NUMBER = re.compile(r"(\d{0,5}(?:\.\d{1,3})?)([a-z]*)")
_UNITS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
}
_LONGEST, _DEEPEST = 400, 20
_PREFIX = "Semiology-"
_NOWHERE = (
    "`then` and `for` want what can be seen, and what is missing has no place in time: write `not (a then b)`, or "
    "`a and not b`"
)


@dataclass(frozen=True, slots=True)
class Found:
    """Whether something holds for a video, and where in it.

    Attributes:
        holds: whether it does.
        where: in time, each once; of what a video lacks nowhere.
    """

    holds: bool
    where: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class SignQuery:
    """What is asked of the signs of a video.

    Attributes:
        text: as it was asked.
        signs: names that it speaks of.
        holds: whether and where it holds for a video, given its tracks.
    """

    text: str
    signs: frozenset[str]
    holds: Holds


def parsed(text: str, known: Sequence[str], not_judged: Mapping[str, str] | None = None) -> SignQuery:
    """Read a query.

    Args:
        text: what was asked.
        known: names of the signs that there are tracks of.
        not_judged: other names, with the reason why there are none.

    Raises:
        InvalidInput: If it is too long or nested too deeply, is no sentence of the grammar, or names a sign that is not
            known: the message says where, and which signs there are.
    """
    if len(text) > _LONGEST:
        raise InvalidInput(f"expected at most {_LONGEST} characters of signs, got {len(text)}", field="signs")
    reader = _Reader(text, known, not_judged or {})
    holds = reader.either(0).holds
    if reader.next is not None:
        raise reader.wrong("the end, or `and`, `or`, `then`")
    return SignQuery(text, frozenset(reader.named), holds)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a query, and whether it has a place in time wherever it holds."""

    holds: Holds
    placed: bool = True


class _Reader:
    """Reads the grammar from left to right."""

    def __init__(self, text: str, known: Sequence[str], not_judged: Mapping[str, str]) -> None:
        self._known, self._not_judged = known, not_judged
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
        # What a caller typed is not said again: it may be anything.
        got = "nothing more" if self._at >= len(self._tokens) else f"word {self._at + 1}"
        return InvalidInput(f"expected {expected}, got {got} of the signs", field="signs")

    def either(self, depth: int) -> _Piece:
        parts = [self._both(depth)]
        while self._taken("or"):
            parts.append(self._both(depth))
        if len(parts) == 1:
            return parts[0]
        return _Piece(lambda tracks: _any([one.holds(tracks) for one in parts]), all(one.placed for one in parts))

    def _both(self, depth: int) -> _Piece:
        parts = [self._denied(depth)]
        while self._taken("and"):
            parts.append(self._denied(depth))
        if len(parts) == 1:
            return parts[0]
        return _Piece(lambda tracks: _all([one.holds(tracks) for one in parts]), any(one.placed for one in parts))

    def _denied(self, depth: int) -> _Piece:
        if depth > _DEEPEST:
            raise InvalidInput(f"expected signs nested at most {_DEEPEST} deep", field="signs")
        if self._taken("not"):
            part = self._denied(depth + 1).holds
            return _Piece(lambda tracks: Found(not part(tracks).holds), placed=False)
        return self._course(depth)

    def _course(self, depth: int) -> _Piece:
        piece = self._part(depth)
        while self._taken("then"):
            first, later = self._placed(piece), self._placed(self._part(depth))
            within_s = self._seconds() if self._taken("within") else float("inf")
            piece = _Piece(_then(first, later, within_s))
        return piece

    def _part(self, depth: int) -> _Piece:
        if self.next == "not":
            raise InvalidInput(_NOWHERE, field="signs")
        if self._taken("("):
            piece = self.either(depth + 1)
            if not self._taken(")"):
                raise self.wrong("`)`")
        elif self.next is None or self.next in _WORDS | {")"}:
            raise self.wrong(
                "a sign" + (", in quotes where it is called like a word of the grammar" if self.next else "")
            )
        else:
            piece = _Piece(_sign(self._name()))
        return _Piece(_lasting(self._placed(piece), self._seconds())) if self._taken("for") else piece

    def _placed(self, piece: _Piece) -> Holds:
        """Refuse what may hold and be nowhere."""
        if not piece.placed:
            raise InvalidInput(_NOWHERE, field="signs")
        return piece.holds

    def _name(self) -> str:
        """The sign that is named: by its whole name before any other way."""
        said = self._tokens[self._at][0]
        ways: tuple[Callable[[str], str], ...] = (
            lambda name: name,
            lambda name: name.removeprefix(_PREFIX),
            lambda name: SIGNS.get(name, name),
        )
        for same in (str, str.casefold):
            for way in ways:
                for name in self._known:
                    if same(way(name)) == same(said):
                        self._at += 1
                        self.named.add(name)
                        return name
                for name, why in self._not_judged.items():
                    if same(way(name)) == same(said):
                        raise InvalidInput(f"{name} is not judged here: {why}", field="signs")
        shorts = [name.removeprefix(_PREFIX) for name in self._known]
        near = [short for short in shorts if resembles(said, short)]
        hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(shorts)}" if shorts else ""
        raise InvalidInput(f"word {self._at + 1} of the signs names none that is judged here{hint}", field="signs")

    def _seconds(self) -> float:
        """A number and its unit, together or apart."""
        match = _NUMBER.fullmatch(self.next or "")
        if match is None or not match[1] or match[2] not in _UNITS:
            raise self.wrong("a number of seconds, such as `20 s`")
        self._at += 1
        unit = match[2]
        if not unit and self.next in _UNITS.keys() - {""}:
            unit = self.next or ""
            self._at += 1
        return float(match[1]) * _UNITS[unit]

    def _taken(self, word: str) -> bool:
        if self.next != word:
            return False
        self._at += 1
        return True


def _sign(name: str) -> Holds:
    def holds(tracks: Tracks) -> Found:
        where = tuple(tracks.get(name, ()))
        return Found(bool(where), where)

    return holds


def _lasting(part: Holds, least_s: float) -> Holds:
    """Keep what lasts so long."""

    def holds(tracks: Tracks) -> Found:
        where = tuple(one for one in part(tracks).where if one.end_s - one.start_s >= least_s)
        return Found(bool(where), where)

    return holds


def _any(parts: Sequence[Found]) -> Found:
    where = sorted({one for part in parts if part.holds for one in part.where})
    return Found(any(part.holds for part in parts), tuple(where))


def _all(parts: Sequence[Found]) -> Found:
    """From the first to the last of what the parts have; all must hold."""
    if not all(part.holds for part in parts):
        return Found(holds=False)
    placed = [part.where for part in parts if part.where]
    if not placed:
        return Found(holds=True)
    every = [one for where in placed for one in where]
    start, end = min(one.start_s for one in every), max(one.end_s for one in every)
    return Found(True, (Stretch(start, end, min(max(one.probability for one in where) for where in placed)),))


def _then(first: Holds, later: Holds, within_s: float) -> Holds:
    def holds(tracks: Tracks) -> Found:
        found, after = [], later(tracks).where
        for one in first(tracks).where:
            for other in after:
                if one.start_s < other.start_s <= one.end_s + within_s:
                    probability = min(one.probability, other.probability)
                    found.append(Stretch(one.start_s, max(one.end_s, other.end_s), probability))
                    break  # the first that follows
        return Found(bool(found), tuple(found))

    return holds
