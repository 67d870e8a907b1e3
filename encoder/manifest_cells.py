"""What the columns of a manifest may hold, and of what is wrong with a value how it could be put right."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import PurePosixPath

from encoder.picture import Crop
from index.records import ID, TAG
from index.semiology import PAPER, Classes

Cell = str | int | float | Crop | tuple[str, ...]
_SLASHED = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T,]+(\d{1,2}:\d{2}(?::\d{2})?))?")
_YEAR_FIRST = re.compile(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?:[ T]+(\d{1,2}:\d{2}(?::\d{2})?))?")
_ERROR = re.compile(r"#(N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!|NV|WERT!|BEZUG!)")
_SHORTENED = re.compile(r"\d([.,]\d+)?E\+\d+")
_LARGEST_TRACK = 999


def is_spreadsheet_error(value: str) -> bool:
    """Whether a spreadsheet could not compute what a cell should hold: `#REF!`, `#N/A`."""
    return _ERROR.fullmatch(value) is not None


def read_cell(column: str, value: str, classes: Classes | None = PAPER) -> Cell:
    """The value of a column of this name, which is not empty unless it is required; a label is one of these classes.

    Raises:
        ValueError: If it is wrong: with what was expected, and, where known, what to write instead.
    """
    if is_spreadsheet_error(value):
        raise ValueError("a value but an error of the spreadsheet's: correct it there")
    if _SHORTENED.fullmatch(value):
        raise ValueError("a value but a long number that a spreadsheet shortened: format that column as text there")
    return _label(value, classes) if column == "label" else _COLUMNS[column](value)


def _identifier(value: str) -> str:
    if not ID.fullmatch(value):
        mended = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-")
        raise ValueError(
            "1 to 64 letters, digits, dots, underscores or hyphens, beginning with a letter or digit"
            + _instead(mended if value and ID.fullmatch(mended) else "")
        )
    return value


def _file_name(value: str) -> str:
    path = PurePosixPath(value)
    expected = "a relative path below the manifest's folder, without .. or a URL"
    if "\\" in value:
        slashed = PurePosixPath(value.replace("\\", "/"))
        inside = not (slashed.is_absolute() or ".." in slashed.parts or re.match(r"[A-Za-z]:", value))
        raise ValueError(
            f"{expected}: backslashes separate folders in Windows alone" + _instead(inside and str(slashed))
        )
    if path.is_absolute():
        raise ValueError(
            f"{expected}: it begins at the root; leave out the part up to that folder, or give --media-root"
        )
    if not value or ".." in path.parts or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) or not value.isprintable():
        raise ValueError(expected)
    return str(path)


def _label(value: str, classes: Classes | None) -> str:
    if classes is None:
        return _identifier(value)
    if value not in classes.names:
        meant = [label for label in classes.names if _letters(label) == _letters(value)]
        raise ValueError(f"{classes.listed} or empty" + _instead(meant and meant[0]))
    return value


def _letters(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.casefold())


def _iso_time(value: str) -> str:
    try:
        # A date alone stays one: midnight is a time of day, and when many files of a night begin.
        return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).isoformat()
    except ValueError:
        possible = _possible_times(value)
        if len(possible) > 1:
            advice = f": day and month can't be told apart; write {' or '.join(possible)}"
        else:
            advice = _instead(possible and possible[0])
        raise ValueError(f"an ISO 8601 date or time such as 2024-03-01T22:15:00{advice}") from None


def _possible_times(value: str) -> list[str]:
    """What a date that is not ISO 8601 may mean."""
    if match := _SLASHED.fullmatch(value):
        first, separator, second, year, time = match.groups()
        days = [(year, second, first)]
        if separator != ".":  # dots are written where the day comes first
            days.append((year, first, second))
    elif match := _YEAR_FIRST.fullmatch(value):
        year, first, second, time = match.groups()
        days = [(year, first, second)]
    else:
        return []
    found = []
    for year, month, day in days:
        try:
            whole = date(int(year), int(month), int(day)).isoformat()
            found.append(datetime.fromisoformat(f"{whole}T{time.zfill(5)}").isoformat() if time else whole)
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def _crop(value: str) -> Crop:
    try:
        x, y, w, h = (int(part) for part in value.split())
        if min(x, y) < 0 or min(w, h) < 16:
            raise ValueError
    except ValueError:
        mended = " ".join(re.findall(r"\d+", value))
        separators = re.fullmatch(r"\[?\s*\d+(\s*[,;x ]\s*\d+){3}\s*\]?", value)
        raise ValueError(
            "four whole numbers x y w h, in pixels, w and h at least 16" + _instead(separators and mended)
        ) from None
    return Crop(x, y, w, h)


def _tags(value: str) -> tuple[str, ...]:
    tags = tuple(sorted({tag.strip() for tag in value.split(";")}))
    if not all(TAG.fullmatch(tag) for tag in tags):
        parts = [re.sub(r"[^A-Za-z0-9]+", "-", part.strip()).strip("-") for part in re.split(r"[,;|]", value)]
        raise ValueError(
            "tags of letters, digits and hyphens, separated by ;"
            + _instead(all(TAG.fullmatch(part) for part in parts) and ";".join(parts))
        )
    return tags


def _track(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= _LARGEST_TRACK):
        raise ValueError("the number of a track in the file, counted from 0 as FFmpeg does")
    return int(value)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"\d{1,7}(\.\d{1,3})?", value):
        mended = value.replace(",", ".")
        clock = re.fullmatch(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:\.\d{1,3})?)", mended)
        if clock:
            mended = f"{3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3]):.12g}"
        good = re.fullmatch(r"\d{1,7}(\.\d{1,3})?", mended)
        raise ValueError("seconds, 0 or more, with at most three decimals" + _instead(good and mended))
    return float(value)


def _instead(mended: object) -> str:
    return f": write {mended}" if mended else ""


_COLUMNS: dict[str, Callable[[str], Cell]] = {
    "file_name": _file_name,
    "patient_id": _identifier,
    "video_id": _identifier,
    "recorded_at": _iso_time,
    "crop": _crop,
    "semiology": _tags,
    "split": _identifier,
    "camera": _identifier,
    "track": _track,
    **dict.fromkeys(("start_s", "end_s", "onset_s", "seizure_end_s", "continues_at_s"), _seconds),
    "continues_in": _file_name,
}
