"""A file's content without the patient, by its format: tables, JSON, pages, plain text, or not understood."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from index.traces.names import Mention, Names, folded
from index.traces.pages import page_without_patient
from index.traces.parquet import NotUnderstood, parquet_without_patient, texts_of_arrow
from index.traces.structured import (
    Number,
    Tally,
    Values,
    header_without_patient,
    looks_like_header,
    rows_without_patient,
    without_patient,
)

_TABLES = frozenset({".csv", ".tsv", ".tab"})
_LINES_OF_JSON = frozenset({".jsonl", ".ndjson"})
_PAGES = frozenset({".html", ".htm", ".xhtml", ".svg", ".xml"})
PICTURES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "u8", "npy", "npz"),
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "wmv", "asf", "vob", "dav"),
    )
)
"""Pictures, films and arrays: nothing but their name, or what lies beside them, says whose they are."""
_PLAIN_BINARY = PICTURES | {".safetensors", ".faiss", ".lance", ".manifest", ".txn", ".arrow", ".lock"}
_MOST_BYTES = 512 * 2**20
_STRUCTURED = frozenset(
    f".{name}" for name in ("yaml", "yml", "toml", "ini", "cfg", "conf", "py", "js", "ts", "tex", "drawio", "ipynb")
)
"""Texts whose lines belong together: without one of them they are broken, or say something else."""
_OPAQUE = (b"%PDF", b"PK\3\4", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"{\\rtf")
"""Beginnings of files that are no text, though some hold no byte that none may hold."""
LEAST_IN_BYTES = 6
"""Shorter ids are not looked for in files that are no text."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a file says of the patient.

    Attributes:
        content: without it: None where all of the file is the patient's, or where nothing has to change.
        changed: something goes.
        certain: how many places name the patient.
        doubtful: number of doubtful mentions.
        files: that rows which go name.
        kept_files: that rows which stay name.
        rows: numbers of the rows that go.
        understood: whether the format is known well enough to change it.
        looked_into: whether all of it could be read; a compressed one that is not understood can't.
    """

    content: bytes | None = None
    changed: bool = False
    certain: int = 0
    doubtful: int = 0
    files: frozenset[str] = frozenset()
    kept_files: frozenset[str] = frozenset()
    rows: tuple[int, ...] = field(default=())
    understood: bool = True
    looked_into: bool = True


def cleaned(path: Path, names: Names, *, doubtful: bool = False) -> Cleaned:
    """What is left of a file without the patient; the file itself is not changed.

    A file that breaks its reader is reported as one that can't be looked into.

    Args:
        path: a plain file.
        names: the patient's.
        doubtful: whether what may name them goes too.
    """
    try:
        return _cleaned(path, names, doubtful=doubtful)
    except (ValueError, RecursionError, OverflowError, EOFError, zipfile.BadZipFile, csv.Error):
        return Cleaned(understood=False, looked_into=False)


def _cleaned(path: Path, names: Names, *, doubtful: bool) -> Cleaned:
    if path.stat().st_size > _MOST_BYTES:
        return Cleaned(understood=False, looked_into=False)
    data = path.read_bytes()
    tally = Tally()
    values = Values(names, tally, doubtful=doubtful)
    suffix = path.suffix.lower()
    if suffix == ".parquet" and data[:4] == b"PAR1":
        return _parquet(data, values)
    if suffix in (".arrow", ".feather", ".npy", ".npz"):
        return _columns_or_arrays(path, data, names)
    if suffix in PICTURES or data.startswith(_OPAQUE) or (decoded := _decoded(data)) is None:
        return _binary(data, suffix, names)
    text, encode = decoded
    if not _may_name(text, names):
        return Cleaned(kept_files=_files_named(text, suffix))
    if suffix in _STRUCTURED and any(mention.certain for mention in names.find(text)):
        return Cleaned(certain=1, understood=False)
    new = text if suffix in _STRUCTURED else _text(text, suffix, values)
    if new is None:
        return _of(tally, None, changed=True)
    if any(mention.certain for mention in names.find(_as_read(new))):
        # Put together by tags, escapes or line ends: a reader sees it, and no part of the text alone holds it.
        return Cleaned(certain=tally.certain + 1, understood=False)
    return _of(tally, encode(new), changed=True) if new != text else _of(tally, None, changed=False)


def _as_read(text: str) -> str:
    """A text as a reader sees it: without tags, entities, escapes and broken lines."""
    bare = html.unescape(re.sub(r"<[^<>]*>", "", text))
    bare = re.sub(r"\\(?:x|u00|u\{)([0-9a-fA-F]{2})\}?", lambda code: chr(int(code[1], 16)), bare)
    return re.sub(r"-\r?\n", "-", unquote(bare, errors="ignore"))


def _files_named(text: str, suffix: str) -> frozenset[str]:
    """Files that a table or JSON names which says nothing of the patient: these are others'."""
    if suffix not in _TABLES and text.lstrip()[:1] not in ("{", "["):
        return frozenset()
    tally = Tally()
    _text(text, suffix, Values(Names(()), tally, doubtful=False))
    return frozenset(tally.kept_files)


def _of(tally: Tally, content: bytes | None, *, changed: bool) -> Cleaned:
    files = frozenset(tally.files), frozenset(tally.kept_files)
    return Cleaned(content, changed, tally.certain, tally.doubtful, *files, tuple(tally.rows))


def _may_name(text: str, names: Names) -> bool:
    """A first look that saves the trouble of parsing: escapes of JSON and of pages may hide an id."""
    if any(escape in text for escape in ("\\u", "\\x", "&", "%")):
        return True
    small = folded(text)
    return any(word in small for word in names.first_words)


def _text(text: str, suffix: str, values: Values) -> str | None:
    if suffix in _TABLES:
        return _table(text, values)
    if suffix in _PAGES:
        return page_without_patient(text, values)
    try:
        if suffix in _LINES_OF_JSON:
            return _each_line(text, lambda line: _json_or_text(line, values))
        if text.lstrip()[:1] in ("{", "["):
            return _json(text, values)
    except ValueError:
        pass  # torn, or something else: as plain text
    return _each_line(text, lambda line: values.text("", line))


def _json_or_text(line: str, values: Values) -> str | None:
    try:
        return _json(line, values)
    except ValueError:
        return values.text("", line)


def _json(text: str, values: Values) -> str | None:
    """Numbers keep the digits they are written with."""
    before = values.tally.certain, values.tally.doubtful
    try:
        value = json.loads(text, parse_float=Number, parse_int=Number, object_pairs_hook=_no_key_twice)
        found = without_patient(value, values)
    except (ValueError, RecursionError):
        values.tally.certain, values.tally.doubtful = before
        raise ValueError from None
    if found is None or found == value:
        return None if found is None else text
    indent = re.match(r"\s*[\[{]\r?\n( +)", text)
    ending = text[len(text.rstrip()) :]
    marked = json.dumps(_marked_numbers(found), ensure_ascii=text.isascii(), indent=len(indent[1]) if indent else None)
    if "\r\n" in text:
        marked = marked.replace("\n", "\r\n")
    return re.sub(r'"(?:\\ue000|\ue000)([^"\\\ue001]*)(?:\\ue001|\ue001)"', r"\1", marked) + ending


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError  # one of two would be lost
    return found


def _marked_numbers(value: Any) -> Any:  # noqa: ANN401
    """Numbers as texts between two letters for private use, whose quotes go afterwards."""
    if isinstance(value, dict):
        return {key: _marked_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_marked_numbers, value))
    return f"\ue000{value}\ue001" if isinstance(value, Number) else value


def _each_line(text: str, change: Callable[[str], str | None]) -> str:
    kept = []
    for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", text):
        bare = line.rstrip("\r\n")
        found = change(bare) if bare.strip() else bare
        if found is not None:
            kept.append(found + line[len(bare) :])
    return "".join(kept)


def _table(text: str, values: Values) -> str:
    """Rows that stay keep their bytes."""
    delimiter = max(",;\t|", key=text[: text.find("\n") if "\n" in text else len(text)].count)
    records = list(_records(text, delimiter))
    filled = [number for number, (_, cells) in enumerate(records) if cells]
    if not filled:
        return text
    first = records[filled[0]][1]
    second = records[filled[1]][1] if len(filled) > 1 else []
    header = [cell.strip().lstrip("\ufeff") for cell in first]
    begins = filled[0] + 1 if looks_like_header(header, values.names, second) else filled[0]
    if any(raw.count('"') % 2 and raw.count("\n") > 1 for raw, _ in records):
        return _each_line(text, lambda line: values.text("", line))  # a quote that nothing closes
    result = [raw for raw, _ in records[:begins]]
    if begins > filled[0] and (new := header_without_patient(first, values)) != first:
        result[-1] = _written(new, delimiter, result[-1])
    kept = rows_without_patient(
        header if begins > filled[0] else None, [cells for _, cells in records[begins:]], values
    )
    for (raw, cells), found in zip(records[begins:], kept, strict=True):
        if found is not None:
            result.append(raw if found is cells else _written(found, delimiter, raw))
    return "".join(result)


def _written(cells: list[str], delimiter: str, raw: str) -> str:
    """A row with the line ending of the one it stands for."""
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="").writerow(cells)
    return written.getvalue() + raw[len(raw.rstrip("\r\n")) :]


def _records(text: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Rows as they stand, and their cells: which lines make one is for `csv` to say."""
    csv.field_size_limit(_MOST_BYTES)
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", text):
            if line:
                taken.append(line)
                yield line

    for cells in csv.reader(lines(), delimiter=delimiter):
        yield "".join(taken), cells
        taken.clear()
    if taken:
        yield "".join(taken), []


def _parquet(data: bytes, values: Values) -> Cleaned:
    try:
        new = parquet_without_patient(data, values)
    except ValueError:
        return Cleaned(understood=False, looked_into=False)
    except NotUnderstood:
        return Cleaned(certain=1, understood=False)
    return _of(values.tally, None if new is data else new, changed=new is not data)


def _columns_or_arrays(path: Path, data: bytes, names: Names) -> Cleaned:
    """Formats that can be read here, and are not written: where they name the patient their owner has to."""
    texts = texts_of_arrow(data) if path.suffix.lower() in (".arrow", ".feather") else _texts_of_arrays(path)
    certain = sum(mention.certain for text in texts for mention in names.find(text))
    return Cleaned(certain=certain, understood=not certain)


def _texts_of_arrays(path: Path) -> Iterator[str]:
    loaded = np.load(path, allow_pickle=False)
    arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    yield from () if isinstance(loaded, np.ndarray) else loaded.files
    for array in arrays:
        if array.dtype.kind in "SU":
            yield from (str(value if array.dtype.kind == "U" else value.decode("latin-1")) for value in array.ravel())
        elif array.dtype.names:
            yield str(array.dtype.names) + str(array.tolist())


def _binary(data: bytes, suffix: str, names: Names) -> Cleaned:
    """Bytes that are no text: an id in them is found, and can't be removed here."""
    wide = data.replace(b"\0", b"") if b"\0" in data else b""  # as UTF-16 has it
    certain = sum(len(_mentions(part, names)) for part in (data, wide))
    known = suffix in _PLAIN_BINARY
    return Cleaned(certain=certain, understood=known and not certain, looked_into=known)


def _mentions(data: bytes, names: Names) -> list[Mention]:
    """Where bytes name the patient; three or four bytes turn up in any large file by chance."""
    long = [name for name in names.own if len(name) >= LEAST_IN_BYTES and name.isascii()]
    small = data.lower()
    tables = []
    for name in long:
        at = small.find(name.lower().encode())
        while at >= 0:
            around = data[max(at - 80, 0) : at + len(name) + 80].decode("latin-1")
            printable = re.sub(r"[^\x20-\x7e]", " ", around)
            tables += [mention for mention in names.find(printable) if mention.certain]
            at = small.find(name.lower().encode(), at + len(name) + 80)
    return tables


def _decoded(data: bytes) -> tuple[str, Callable[[str], bytes]] | None:
    """A text, and how to write it again as it was; None where the bytes are no text."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"\xef\xbb\xbf", "utf-8"),
    ):
        if data.startswith(mark):
            return _marked(data, mark, encoding)
    try:
        text = data.decode("utf-8")
        if "\0" not in text:
            return text, lambda text: text.encode("utf-8")
    except UnicodeDecodeError:
        pass
    if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data):
        return data.decode("latin-1"), lambda text: text.encode("latin-1")
    return None


def _marked(data: bytes, mark: bytes, encoding: str) -> tuple[str, Callable[[str], bytes]] | None:
    try:
        return data[len(mark) :].decode(encoding), lambda text: mark + text.encode(encoding)
    except UnicodeDecodeError:
        return None
