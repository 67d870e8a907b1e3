"""Fields of JSON and columns of tables: what belongs to the patient goes, everything else stays as it is.

What a row or an object belongs to is said by its own patient (`patient_id`, `subject`) or, where it names none, by its
own video (`video_id`). Another field that holds the patient's id, such as `matched_control`, loses the id alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from index.traces.names import ERASED, Names

_PATIENT = re.compile(r"(patient|subject|participant|pseudonym)(_?(id|key|name|no|number))?")
_VIDEO = re.compile(r"(video|recording|film|seizure|segment)_?id")
_PATIENTS = re.compile(r"(\w+_)?(patient|subject|participant|pseudonym)(s|_?(ids?|key|name|no|number))?")
_VIDEOS = re.compile(r"(\w+_)?((video|recording|film|seizure|segment)_?ids?|videos|recordings|films|seizures)")
_FILE = frozenset({"file_name", "filename", "file", "path", "video", "film", "files", "video_path", "source"})
_ONE_LINE = 400
"""Longer texts without a line end are not about one patient: only the ids go."""
_PERHAPS_PATIENT = re.compile(r"id|pid|mrn|code|nr|no|number|pat_?id|patienten?_?(id|nr)|case_?(id|nr)?|record_?id")
"""Columns that hold patients' ids only where one is there that can hardly be anything else."""
_OTHER_THINGS = frozenset(
    (
        *("label", "split", "recorded_at", "crop", "semiology", "device", "precision", "levels", "state", "kind"),
        *("session", "sessions", "ses", "site", "run", "visit", "task", "room", "bed", "group", "arm", "condition"),
    )
)
"""Fields whose values are never ids: a patient may be called `train`, and a split may be."""


class Number(str):
    """A number of a JSON file, as it is written there."""

    __slots__ = ()


@dataclass(slots=True)
class Tally:
    """What was come across in one file.

    Attributes:
        certain: places that name the patient.
        doubtful: places that may name them.
        files: files that rows which go name.
        kept_files: files that rows which stay name.
        rows: numbers of the rows that go, from 0, headers not counted.
    """

    certain: int = 0
    doubtful: int = 0
    files: set[str] = field(default_factory=set)
    kept_files: set[str] = field(default_factory=set)
    rows: list[int] = field(default_factory=list)


class Values:
    """Decides on single values.

    Args:
        names: the patient's.
        doubtful: whether what is doubtful goes too.
        tally: kept up to date.
    """

    def __init__(self, names: Names, tally: Tally, *, doubtful: bool) -> None:
        self.names, self.tally, self._doubtful = names, tally, doubtful
        self.of_another = False
        """Whether what is looked at belongs to another patient, and so loses no more than the id."""

    def is_owned_by_another(self, fields: Iterable[tuple[str, Any]]) -> bool:
        """Whether a row or an object names its own patient, who is another."""
        named = [str(value) for name, value in fields if _PATIENT.fullmatch(_key(name)) and isinstance(value, str)]
        return any(value.strip() and not self.names.patients.hold(value) for value in named)

    def owns(self, fields: Iterable[tuple[str, Any]]) -> bool:
        """Whether a row or an object is the patient's."""
        named = [
            (_key(name), str(value)) for name, value in fields if isinstance(value, str | int) and str(value).strip()
        ]
        for kind, ids in ((_PATIENT, self.names.patients), (_VIDEO, self.names.videos)):
            if own := [value for key, value in named if kind.fullmatch(key)]:
                return all(map(ids.hold, own))
        perhaps = [value for key, value in named if _PERHAPS_PATIENT.fullmatch(key) and self.names.is_certain(value)]
        return any(map(self.names.patients.hold, perhaps))

    def holds(self, name: str, value: str) -> bool:
        """Whether a field for ids, of whatever owner, holds one of theirs: tallied."""
        key = _key(name)
        one = _PATIENTS.fullmatch(key) and self.names.patients.hold(value)
        if one or (_VIDEOS.fullmatch(key) and self.names.videos.hold(value)):
            if key.endswith("s") and not key.endswith("ids") and value.strip().isdigit():
                return False  # how many there are
            self.tally.certain += 1
            return True
        return False

    def text(self, name: str, text: str) -> str:
        """A value that is a text, without what names the patient."""
        key = _key(name)
        if key in _OTHER_THINGS:
            return text
        if self.holds(name, text):
            return ERASED
        in_ids = bool(_PATIENTS.fullmatch(key) or _VIDEOS.fullmatch(key))
        parts = re.split(r"(\s*[;,|]\s*|\s+)", text) if in_ids else []
        if len(parts) > 1 and any(self._is_theirs(key, part) for part in parts):
            self.tally.certain += 1  # several ids in one field, such as `1;2`
            return "".join(ERASED if self._is_theirs(key, part) else part for part in parts)
        # A part of another id, or a measured number, is no mention of a patient who is called `1`.
        sure = in_ids or (bool(key) and _is_number(text))
        found = [mention for mention in self.names.find(text) if mention.certain or not sure]
        gone = [mention for mention in found if self.counted(certain=mention.certain)]
        if self.of_another or len(text) > _ONE_LINE:
            return self.names.cut(text, gone)
        return self.names.without(text, gone)

    def is_key_of(self, name: str, key: str) -> bool:
        """Whether a key of an object that goes by patients, or by videos, is one of theirs."""
        kind = _key(name)
        patients = _PATIENTS.fullmatch(kind) is not None and self.names.patients.hold(key)
        return patients or (_VIDEOS.fullmatch(kind) is not None and self.names.videos.hold(key))

    def is_listed(self, name: str, value: str) -> bool:
        """Whether a number in a list of patients is theirs: for certain only where the list says that it holds ids."""
        if not self.names.patients.hold(value):
            return False
        return self.counted(certain=_key(name).endswith("ids") or self.names.is_certain(value))

    def _is_theirs(self, key: str, value: str) -> bool:
        return (self.names.patients if _PATIENTS.fullmatch(key) else self.names.videos).hold(value)

    def counted(self, *, certain: bool) -> bool:
        """Tally a place, and say whether it goes."""
        if certain:
            self.tally.certain += 1
        else:
            self.tally.doubtful += 1
        return certain or self._doubtful


class _Gone:
    """Stands for a value that goes."""


_GONE = _Gone()


def without_patient(value: Any, values: Values) -> Any:  # noqa: ANN401
    """A JSON value without the patient: None if all of it is theirs.

    Args:
        value: as `json.loads` gives it, with `Number` for numbers.
        values: decides what goes.
    """
    found = _json(value, "", values)
    return None if found is _GONE else found


def _json(value: Any, name: str, values: Values) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return _mapping(value, name, values)
    if isinstance(value, list):
        if all(isinstance(inner, Number) for inner in value) and _PATIENTS.fullmatch(_key(name)):
            return [ERASED if values.is_listed(name, inner) else inner for inner in value]
        kept = (_json(inner, name, values) for inner in value)
        return [inner for inner in kept if inner is not _GONE]
    if isinstance(value, Number):
        # How many patients there are is no patient, nor is a number in any other field.
        return ERASED if _key(name).endswith(("_id", "_ids")) and values.holds(name, value) else value
    return values.text(name, value) if isinstance(value, str) else value


def _mapping(value: dict[str, Any], name: str, values: Values) -> Any:  # noqa: ANN401
    files = [inner for key, inner in value.items() if _key(key) in _FILE and isinstance(inner, str)]
    files += [one for inner in value.values() if isinstance(inner, list) for one in inner if isinstance(one, str)]
    if values.owns(value.items()) and not _name_others(value, values):
        values.tally.certain += 1
        values.tally.files.update(files)
        return _GONE
    values.tally.kept_files.update(files)
    before, values.of_another = values.of_another, values.of_another or values.is_owned_by_another(value.items())
    kept: dict[str, Any] = {}
    for key, inner in value.items():
        theirs = _key(name) not in _OTHER_THINGS and (values.is_key_of(name, key) or values.names.is_certain(key))
        if theirs and not _name_others(inner, values) and not values.of_another:
            values.tally.certain += 1
            continue  # a value under their id is theirs
        new, number = values.text("key", key), 1
        while new in kept:
            number += 1
            new = f"{values.text('key', key)} {number}"
        if (found := _json(inner, key, values)) is not _GONE:
            kept[new] = found
    values.of_another = before
    return _aligned(value, kept, values)


def _aligned(value: dict[str, Any], kept: dict[str, Any], values: Values) -> dict[str, Any]:
    """Lists of one length may go together, value by value: then a place that is lost is kept empty."""
    lengths = [len(inner) for inner in value.values() if isinstance(inner, list)]
    for key, inner in value.items():
        if isinstance(inner, list) and len(kept.get(key, inner)) < len(inner) and lengths.count(len(inner)) > 1:
            kept[key] = [None if (found := _json(one, key, values)) is _GONE else found for one in inner]
    return kept


def _name_others(value: Any, values: Values) -> bool:  # noqa: ANN401
    """Whether something within is said of others: then no more than the patient's ids may go."""
    if isinstance(value, dict):
        owners = [inner for key, inner in value.items() if _PATIENTS.fullmatch(_key(key)) and isinstance(inner, str)]
        if any(owner.strip() and not values.names.patients.hold(owner) for owner in owners):
            return True
        return any(values.names.is_of_another(key) or _name_others(inner, values) for key, inner in value.items())
    if isinstance(value, list):
        return any(_name_others(inner, values) for inner in value)
    return isinstance(value, str) and not isinstance(value, Number) and values.names.is_of_another(value)


def rows_without_patient(
    header: Sequence[str] | None, rows: Iterable[list[str]], values: Values
) -> list[list[str] | None]:
    """Rows of a table: None in place of each that is the patient's, the same list where nothing names them.

    Args:
        header: names of the columns, where there are some; a column named after the patient loses its values.
        rows: rows of texts.
        values: decides what goes.
    """
    theirs = {number for number, name in enumerate(header or ()) if _names_a_column(name, values)}
    kept: list[list[str] | None] = []
    for number, row in enumerate(rows):
        columns = _columns(header, row)
        files = {cell for column, cell in zip(columns, row, strict=True) if _key(column) in _FILE and cell}
        if values.owns(zip(columns, row, strict=True)) or _is_row_named_after(header, columns, row, values):
            values.tally.certain += 1
            values.tally.rows.append(number)
            values.tally.files |= files
            kept.append(None)
            continue
        values.tally.kept_files |= files
        values.of_another = values.is_owned_by_another(zip(columns, row, strict=True))
        changed = [
            "" if place in theirs else values.text(column, cell)
            for place, (column, cell) in enumerate(zip(columns, row, strict=True))
        ]
        values.of_another = False
        kept.append(row if changed == row else changed)
    return kept


def _columns(header: Sequence[str] | None, row: Sequence[str]) -> list[str]:
    """The name of each cell's column; a row may end with empty cells that the header lacks."""
    if header is None or (len(row) > len(header) and any(row[len(header) :])):
        return [""] * len(row)
    return [*header, *[""] * (len(row) - len(header))][: len(row)]


def header_without_patient(header: list[str], values: Values) -> list[str]:
    """Names of columns without the patient's id."""
    return [values.text("key", name) for name in header]


def _names_a_column(name: str, values: Values) -> bool:
    return any(mention.certain for mention in values.names.find(name)) and values.names.is_certain(name)


def _is_row_named_after(header: Sequence[str] | None, columns: Sequence[str], row: list[str], values: Values) -> bool:
    """Whether a row says nothing of its owner but begins with an id of the patient, as those of a matrix do."""
    owned = any(_PATIENT.fullmatch(_key(name)) or _VIDEO.fullmatch(_key(name)) for name in columns)
    if owned or not row or not values.names.is_certain(row[0]):
        return False
    if any(map(values.names.is_of_another, row[1:])) or any(map(values.names.name_others, row[1:])):
        return False  # a pair
    first = columns[0] if header is not None else ""
    return _key(first) not in _OTHER_THINGS and (values.names.patients.hold(row[0]) or values.names.videos.hold(row[0]))


def looks_like_header(cells: Sequence[str], names: Names, next_row: Sequence[str]) -> bool:
    """Whether a table's first row names its columns."""
    known = any(_kind(cell) for cell in cells) and len({*cells}) == len(cells)
    wide = any(names.find(cell) and _is_number(below) for cell, below in zip(cells, next_row, strict=False))
    return known or wide


def _kind(name: str) -> bool:
    key = _key(name)
    checks: tuple[Callable[[str], object], ...] = (_PATIENTS.fullmatch, _VIDEOS.fullmatch, _FILE.__contains__)
    return any(check(key) for check in checks)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _key(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s.-]+", "_", name.strip()).lower()
