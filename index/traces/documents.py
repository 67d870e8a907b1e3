"""A file's content without the patient, by its format: tables, JSON, pages, plain text, or not understood."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from index.traces.names import Mention, Names, folded
from index.traces.parquet import parquet_without_patient
from index.traces.structured import Tally, Values, looks_like_header, rows_without_patient, without_patient

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
_PIECES = re.compile(
    r"(<!--.*?-->|<script\b.*?</script\s*>|<style\b.*?</style\s*>|<tr\b.*?</tr\s*>|<[^>]*>)", re.S | re.I
)
_ATTRIBUTE = re.compile(r"""(=\s*)("[^"]*"|'[^']*')""")
_MOST_BYTES = 512 * 2**20
LEAST_IN_BYTES = 6
"""Shorter ids are not looked for in files that are no text."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a file says of the patient.

    Attributes:
        content: without it: None where all of the file is the patient's, or where nothing has to change.
        changed: something goes.
        certain: how many places name the patient.
        doubtful: how many may.
        files: that rows which go name, and no row which stays does.
        rows: numbers of the rows that go.
        understood: whether the format is known well enough to change it.
        looked_into: whether all of it could be read; a compressed one that is not understood can't.
    """

    content: bytes | None = None
    changed: bool = False
    certain: int = 0
    doubtful: int = 0
    files: frozenset[str] = frozenset()
    rows: tuple[int, ...] = field(default=())
    understood: bool = True
    looked_into: bool = True


def cleaned(path: Path, names: Names, *, doubtful: bool = False) -> Cleaned:
    """What is left of a file without the patient; the file itself is not changed.

    Args:
        path: of a plain file.
        names: of the patient.
        doubtful: whether what may name them goes too.
    """
    if path.stat().st_size > _MOST_BYTES:
        return Cleaned(understood=False, looked_into=False)
    data = path.read_bytes()
    tally = Tally()
    values = Values(names, tally, doubtful=doubtful)
    suffix = path.suffix.lower()
    if suffix == ".parquet" and data[:4] == b"PAR1":
        return _parquet(data, values)
    if (decoded := _decoded(data)) is None:
        return _binary(data, suffix, names)
    text, encode = decoded
    if not _may_name(text, names):
        return Cleaned()
    new = _text(text, suffix, values)
    if new is None:
        return _of(tally, None, changed=True)
    return _of(tally, encode(new), changed=True) if new != text else _of(tally, None, changed=False)


def _of(tally: Tally, content: bytes | None, *, changed: bool) -> Cleaned:
    return Cleaned(content, changed, tally.certain, tally.doubtful, frozenset(tally.files), tuple(tally.rows))


def _may_name(text: str, names: Names) -> bool:
    """A first look that saves the trouble of parsing: escapes of JSON and of pages may hide an id."""
    if "\\u" in text or "&" in text or "%" in text:
        return True
    small = folded(text)
    return any(word in small for word in names.first_words)


def _text(text: str, suffix: str, values: Values) -> str | None:
    if suffix in _TABLES:
        return _table(text, values)
    if suffix in _PAGES:
        return _page(text, values)
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
    before = values.tally.certain, values.tally.doubtful
    try:
        value = json.loads(text)
        found = without_patient(value, values)
    except (ValueError, RecursionError):
        values.tally.certain, values.tally.doubtful = before
        raise ValueError from None
    if found is None or found == value:
        return None if found is None else text
    indent = re.match(r"\s*[\[{]\r?\n( +)", text)
    ending = text[len(text.rstrip()) :]
    return json.dumps(found, ensure_ascii=text.isascii(), indent=len(indent[1]) if indent else None) + ending


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
    records = _records(text)
    delimiter = max(",;\t|", key=(records[0] if records else "").count)
    parsed = [next(csv.reader([record.rstrip("\r\n")], delimiter=delimiter), []) for record in _joined(records)]
    header = [cell.strip().lstrip("\ufeff") for cell in parsed[0]] if parsed else []
    begins = 1 if looks_like_header(header) else 0
    kept = rows_without_patient(header if begins else None, parsed[begins:], values)
    result = records[:begins]
    for record, cells, found in zip(records[begins:], parsed[begins:], kept, strict=True):
        if found is cells:
            result.append(record)
        elif found is not None:
            written = io.StringIO()
            csv.writer(written, delimiter=delimiter, lineterminator="").writerow(found)
            result.append(written.getvalue() + record[len(record.rstrip("\r\n")) :])
    return "".join(result)


def _records(text: str) -> list[str]:
    """Rows as they stand, those with line breaks within quotes in one piece."""
    records, current = [], ""
    for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", text):
        current += line
        if current.count('"') % 2 == 0:
            records.append(current)
            current = ""
    return [record for record in [*records, current] if record]


def _joined(records: list[str]) -> list[str]:
    """`csv` takes lines without line breaks; within quotes one counts as a blank."""
    return [record.rstrip("\r\n").replace("\r\n", " ").replace("\n", " ").replace("\r", " ") for record in records]


def _page(text: str, values: Values) -> str:
    """Rows of tables that name the patient alone go; elsewhere the text between two tags, or an attribute."""
    return "".join(_piece(piece, values) for piece in _PIECES.split(text) if piece)


def _piece(piece: str, values: Values) -> str:
    lower = piece[:8].lower()
    if lower.startswith("<tr"):
        return _table_row(piece, values)
    if lower.startswith(("<script", "<style")):
        begin, end = piece.index(">") + 1, piece.rindex("<")
        inner = piece[begin:end]
        return piece[:begin] + (inner if values.text("", inner) == inner else "") + piece[end:]
    if lower.startswith("<!--"):
        return f"<!--{values.text('', html.unescape(piece[4:-3]))}-->" if values.names.find(piece) else piece
    if piece.startswith("<"):
        return _ATTRIBUTE.sub(lambda found: _attribute(found, values), piece)
    said = html.unescape(piece)
    changed = values.text("", said)
    return piece if changed == said else html.escape(changed, quote=False)


def _table_row(row: str, values: Values) -> str:
    """A row whose cells hold one of the patient's ids goes as a whole; a header row stays."""
    cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]\s*>", row, re.S | re.I)
    said = [html.unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in cells]
    if any(values.names.is_theirs(cell) and values.names.is_certain(cell) for cell in said):
        values.tally.certain += 1
        return ""
    head = row.index(">") + 1
    return _piece(row[:head].replace("<tr", "<row", 1), values).replace("<row", "<tr", 1) + _page(row[head:], values)


def _attribute(found: re.Match[str], values: Values) -> str:
    said = html.unescape(found[2][1:-1])
    changed = values.text("", said)
    return found[0] if changed == said else f'{found[1]}"{html.escape(changed)}"'


def _parquet(data: bytes, values: Values) -> Cleaned:
    try:
        new = parquet_without_patient(data, values)
    except ValueError:
        return Cleaned(understood=False, looked_into=False)
    return _of(values.tally, None if new is data else new, changed=new is not data)


def _binary(data: bytes, suffix: str, names: Names) -> Cleaned:
    """Bytes that are no text: an id in them is found, but only its owner can take it out."""
    wide = data.replace(b"\0", b"") if b"\0" in data else b""  # as UTF-16 has it
    certain = sum(len(_mentions(part, names)) for part in (data, wide))
    known = suffix in _PLAIN_BINARY
    return Cleaned(certain=certain, understood=known and not certain, looked_into=known)


def _mentions(data: bytes, names: Names) -> list[Mention]:
    """Where bytes name the patient; three or four bytes turn up in any large file by chance."""
    long = [name for name in names.own if len(name) >= LEAST_IN_BYTES and name.isascii()]
    small = data.lower()
    found = []
    for name in long:
        at = small.find(name.lower().encode())
        while at >= 0:
            around = data[max(at - 80, 0) : at + len(name) + 80].decode("latin-1")
            printable = re.sub(r"[^\x20-\x7e]", " ", around)
            found += [mention for mention in names.find(printable) if mention.certain]
            at = small.find(name.lower().encode(), at + len(name) + 80)
    return found


def _decoded(data: bytes) -> tuple[str, Callable[[str], bytes]] | None:
    """A text, and how to write it again as it was; None where the bytes are no text."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8")):
        if data.startswith(mark):
            return _marked(data, mark, encoding)
    try:
        text = data.decode("utf-8")
        if "\0" not in text:
            return text, lambda text: text.encode("utf-8")
    except UnicodeDecodeError:
        pass
    if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data):
        return data.decode("latin-1"), lambda text: text.encode("latin-1", "replace")
    return None


def _marked(data: bytes, mark: bytes, encoding: str) -> tuple[str, Callable[[str], bytes]] | None:
    try:
        return data[len(mark) :].decode(encoding), lambda text: mark + text.encode(encoding)
    except UnicodeDecodeError:
        return None
