"""Times as lists give them, and moments that can be compared: with a time zone in UTC, else as they stand.

Both are bounded, so that no sum of them is beyond what a calendar holds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from encoder.manifest_cells import read_cell
from index.errors import InvalidInput

_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?")
_SECONDS = re.compile(r"[+-]?\d{1,9}([.,]\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_WITH_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}|\d{8}T\d{4,6}(?!\d)")
_YEARS = range(1900, 2200)
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})[ T,]+(.+)")


def zone(name: str) -> tzinfo | None:
    """A time zone by its name, None for an empty one.

    Raises:
        InvalidInput: If there is none of that name.
    """
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(f"no time zone {name[:64]!r}: expected a name such as Europe/Berlin or UTC") from None


def read_seconds(text: str) -> float | None:
    """Seconds, with a point or a comma; None for `n/a` and nothing.

    Raises:
        ValueError: If it is no number, too large for any recording, or may as well be thousands.
    """
    if text.casefold() in {"", "n/a", "na", "nan"}:
        return None
    if not _SECONDS.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is not a number of seconds")
    if _THOUSANDS.fullmatch(text):
        whole = text.replace(",", "")
        raise ValueError(f"{text!r} may be {text.replace(',', '.')} or {whole} seconds: write it with a point")
    return float(text.replace(",", "."))


def read_moment(text: str) -> datetime | time:
    """A date with a time, or a time of day alone.

    Raises:
        ValueError: If it is neither, or day and month can't be told apart.
    """
    try:
        return _moment(text)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(repr(text[:64])) else f"{text[:64]!r}: {said}") from None


def _moment(text: str) -> datetime | time:
    if match := _TIME_OF_DAY.fullmatch(text):
        return _time_of_day(match)
    if match := _DOTTED.fullmatch(text):  # dots are written where the day comes first
        day, month, year, rest = match.groups()
        clock = _TIME_OF_DAY.fullmatch(rest.strip())
        if clock:
            return within_reach(datetime.combine(datetime(int(year), int(month), int(day)), _time_of_day(clock)))
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        try:
            read_cell("recorded_at", text)
        except ValueError as error:
            raise ValueError(f"{text[:64]!r} is not {error}") from None
        raise
    if not _WITH_TIME.match(text):
        raise ValueError(f"{text[:64]!r} has no time of day")
    return within_reach(moment)


def within_reach(moment: datetime) -> datetime:
    """The moment.

    Raises:
        ValueError: If nothing can have been recorded then.
    """
    if moment.year not in _YEARS:
        raise ValueError(f"nothing was recorded in the year {moment.year}")
    return moment


def comparable(moment: datetime, local: tzinfo | None) -> datetime:
    """The moment in UTC, or as it stands where neither it nor the caller names a zone.

    Raises:
        ValueError: If a clock in that zone shows it twice, or never, as when summer time begins and ends.
    """
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    if local is None:
        return moment
    early, late = moment.replace(tzinfo=local, fold=0), moment.replace(tzinfo=local, fold=1)
    if early.utcoffset() != late.utcoffset():
        shown = early.astimezone(UTC).astimezone(local).replace(tzinfo=None) == moment
        said = "comes twice that day" if shown else "does not exist that day"
        raise ValueError(f"{moment.isoformat(' ')} {said}, by the clock: write it with its offset from UTC")
    return early.astimezone(UTC)


def on_day_of(clock: time, begins: datetime, local: tzinfo | None) -> datetime:
    """The first moment from `begins` on at which a clock shows a time of day.

    Args:
        clock: the time of day.
        begins: when the recording begins, as `comparable` gives it.
        local: the zone of the clock.
    """
    there = begins.astimezone(local) if begins.tzinfo is not None and local is not None else begins
    day = datetime.combine(there.date(), clock)
    naive = there.replace(tzinfo=None)
    return comparable(day if day >= naive else day + timedelta(days=1), local if begins.tzinfo is not None else None)


def shown(moment: datetime, like: str, local: tzinfo | None) -> str:
    """A moment in ISO 8601, to the second, as the clock shows it that wrote another one.

    Args:
        moment: as `comparable` gives it.
        like: a time in ISO 8601; where it has no offset from UTC, this has one only if the clock shows it twice.
        local: the zone of times that name none.
    """
    theirs = datetime.fromisoformat(like).tzinfo
    if moment.tzinfo is None:
        return moment.isoformat(timespec="seconds")
    there = moment.astimezone(theirs or local)
    naive = there.replace(tzinfo=None)
    twice = there.replace(fold=0).utcoffset() != there.replace(fold=1).utcoffset()
    return (there if theirs is not None or twice else naive).isoformat(timespec="seconds")


def _time_of_day(match: re.Match[str]) -> time:
    hour, minute, second, fraction = match.groups()
    return time(int(hour), int(minute), int(second or 0), int((fraction or "").ljust(6, "0")))
