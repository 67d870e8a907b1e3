"""Fields of JSON and columns of tables: what concerns the patient goes, everything else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from index.traces.names import ERASED, Names

_ONE = re.compile(
    r"(?:^|_)(patient|subject|participant|pseudonym|video|recording|film|seizure|clip)(?:_?(?:id|ids|name|key))?$"
)
_MANY = re.compile(r"(?:^|_)(patients|subjects|participants|pseudonyms|videos|recordings|films|seizures)$")
_FILE = frozenset({"file_name", "filename", "file", "path"})
_OTHER_THINGS = frozenset(
    ("label", "split", "recorded_at", "crop", "semiology", "device", "precision", "levels", "state", "kind", "code")
)
"""Fields whose values are never ids: a patient may be called `train`, and a split may be."""


@dataclass(slots=True)
class Tally:
    """What was come across in one file.

    Attributes:
        certain: places that name the patient.
        doubtful: places that may name them.
        files: files that rows which go name, and no row which stays does.
        rows: numbers of the rows that go, from 0, headers not counted.
    """

    certain: int = 0
    doubtful: int = 0
    files: set[str] = field(default_factory=set)
    rows: list[int] = field(default_factory=list)


class Values:
    """Decides on single values.

    Args:
        names: of the patient.
        doubtful: whether what is doubtful goes too.
        tally: kept up to date.
    """

    def __init__(self, names: Names, tally: Tally, *, doubtful: bool) -> None:
        self.names, self.tally, self._doubtful = names, tally, doubtful

    def is_theirs(self, name: str, value: Any) -> bool:  # noqa: ANN401
        """Whether a field says that what it belongs to is the patient's."""
        kind = _kind(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            return False
        text = str(value)
        if kind == "one" and self.names.is_theirs(text):
            self.tally.certain += 1
            return True
        if not isinstance(value, str) or kind == "other" or not self.names.is_theirs(text):
            return False
        if kind == "many" and text.strip().isdigit():
            return False  # how many there are
        return self._counted(certain=self.names.is_certain(text))

    def text(self, name: str, text: str) -> str:
        """A value that is a text, without what names the patient."""
        if _kind(name) == "other":
            return text
        listed = _kind(name) != "" and not self.names.is_theirs(text)
        if listed and len(parts := re.split(r"(\s*[;,|]\s*|\s+)", text)) > 1 and any(map(self.names.is_theirs, parts)):
            self.tally.certain += 1  # several ids in one field, such as `1;2`
            return "".join(ERASED if self.names.is_theirs(part) else part for part in parts)
        # A part of another id is no mention of a patient who is called `1`.
        found = [mention for mention in self.names.find(text) if mention.certain or _kind(name) != "one"]
        gone = [mention for mention in found if self._counted(certain=mention.certain)]
        return self.names.without(text, gone)

    def _counted(self, *, certain: bool) -> bool:
        if certain:
            self.tally.certain += 1
        else:
            self.tally.doubtful += 1
        return certain or self._doubtful


class _Gone:
    """Stands for a value that goes."""


_GONE = _Gone()


def without_patient(value: Any, values: Values) -> Any:  # noqa: ANN401
    """A JSON value without the patient: None if all of it is theirs, the very same object if nothing is."""
    found = _json(value, "", values)
    return None if found is _GONE else found


def _json(value: Any, name: str, values: Values) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return _mapping(value, name, values)
    if isinstance(value, list):
        return _list(value, name, values)
    if isinstance(value, str):
        return ERASED if values.is_theirs(name, value) else values.text(name, value)
    return value


def _mapping(value: dict[str, Any], name: str, values: Values) -> Any:  # noqa: ANN401
    if any(values.is_theirs(key, inner) for key, inner in value.items() if _kind(key) == "one"):
        if files := [inner for key, inner in value.items() if _key(key) in _FILE and isinstance(inner, str)]:
            values.tally.files.update(files)
        return _GONE
    kept = {}
    for key, inner in value.items():
        if values.is_theirs("patient" if _kind(name) in ("one", "many") else "key", key):
            continue
        found = _json(inner, key, values)
        if found is not _GONE:
            kept[values.text("key", key)] = found
    return kept


def _list(value: list[Any], name: str, values: Values) -> list[Any]:
    kept = []
    for inner in value:
        if isinstance(inner, int) and not isinstance(inner, bool) and _key(name).endswith(("_ids", "_id")):
            kept.append(ERASED if values.is_theirs(name, inner) else inner)
        elif isinstance(inner, str) and _kind(name) == "many" and values.names.is_theirs(inner):
            values.tally.certain += 1
            kept.append(ERASED)  # lists beside this one may go with it, value by value
        elif (found := _json(inner, name, values)) is not _GONE:
            kept.append(found)
    return kept


def rows_without_patient(
    header: Sequence[str] | None, rows: Iterable[list[str]], values: Values
) -> list[list[str] | None]:
    """Rows of a table: None in place of each that is the patient's, the same list where nothing names them."""
    kept: list[list[str] | None] = []
    named, stays = set(), set()
    for number, row in enumerate(rows):
        columns = header if header is not None and len(header) == len(row) else [""] * len(row)
        files = {cell for column, cell in zip(columns, row, strict=True) if _key(column) in _FILE and cell}
        if any(values.is_theirs(column, cell) for column, cell in zip(columns, row, strict=True)):
            kept.append(None)
            values.tally.rows.append(number)
            named |= files
            continue
        stays |= files
        changed = [values.text(column, cell) for column, cell in zip(columns, row, strict=True)]
        kept.append(row if changed == row else changed)
    values.tally.files |= named - stays
    return kept


def looks_like_header(cells: Sequence[str]) -> bool:
    """Whether a table's first row names its columns."""
    return any(_kind(cell) or _key(cell) in _FILE for cell in cells) and len({*cells}) == len(cells)


def _kind(name: str) -> str:
    """Whether a field holds one id, several, something that is never an id, or anything (an empty text)."""
    key = _key(name)
    if _ONE.search(key):
        return "one"
    if _MANY.search(key):
        return "many"
    return "other" if key in _OTHER_THINGS else ""


def _key(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s.-]+", "_", name.strip()).lower()
