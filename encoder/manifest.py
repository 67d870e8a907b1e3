"""The manifest: a CSV, one row a video. Everything wrong with it is said at once, by row and column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

from encoder.picture import Crop
from index.errors import InvalidInput, ManifestErrors, VideoRefused
from index.files import write_text_atomically
from index.records import ID, LABELS, TAG

REQUIRED = ("file_name", "patient_id", "video_id")
OPTIONAL = ("label", "recorded_at", "crop", "semiology", "split", "camera", "reason")
"""`reason` is what `write_manifest` says of refused videos; it is not read."""
Value = TypeVar("Value")
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One video of a manifest, checked.

    Attributes:
        file_name: relative to the manifest's folder.
        patient_id: study pseudonym.
        video_id: unique in the manifest.
        label: `TLE`, `exTLE` or empty.
        recorded_at: ISO 8601, or empty.
        crop: fixed part of the picture to use.
        semiology: tags.
        split: data split, or empty.
        camera: room or camera, or empty.
    """

    file_name: str
    patient_id: str
    video_id: str
    label: str = ""
    recorded_at: str = ""
    crop: Crop | None = None
    semiology: tuple[str, ...] = ()
    split: str = ""
    camera: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All rows, and the folder their files lie in.

    Attributes:
        folder: the only folder whose files may be opened.
        rows: in the order of the file.
        opened: the files are open descriptors of one process, in its `/proc/PID/fd`, and have no names of their own.
    """

    folder: Path
    rows: tuple[ManifestRow, ...]
    opened: bool = False

    def path_of(self, row: ManifestRow) -> Path:
        """The row's file, with symbolic links followed.

        Raises:
            VideoRefused: it is not there, not a plain file, or outside the manifest's folder.
        """
        if self.opened:
            return self.folder / row.file_name
        try:
            path = (self.folder / row.file_name).resolve(strict=True)
        except (OSError, RuntimeError):
            raise VideoRefused("the file is not there, or may not be read") from None
        if not path.is_relative_to(self.folder):
            raise VideoRefused("a symbolic link leads out of the manifest's folder")
        if not path.is_file():
            raise VideoRefused("not a plain file")
        return path


def read_manifest(path: Path, media_root: Path | None = None) -> Manifest:
    """Read and check a manifest.

    Args:
        path: of the CSV.
        media_root: the folder its files lie in or below; its own folder by default.

    Raises:
        InvalidInput: it is not there, not UTF-8, or not a CSV with the required columns; or there is no such folder.
        ManifestErrors: every problem of its rows.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInput(f"the manifest is larger than {_MAX_BYTES >> 20} MiB: give a CSV, one row a video")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("the manifest is not UTF-8: save it as a CSV in UTF-8") from None
    except OSError as error:
        raise InvalidInput(f"the manifest can't be read ({error.strerror}): give the path of a CSV file") from None
    try:
        cells = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidInput(f"the manifest is not a CSV: {error}") from None
    folder = (media_root or path.parent).resolve()
    if not folder.is_dir():
        raise InvalidInput("the media root is not a folder: give the one that file_name is relative to")
    return Manifest(folder, tuple(_rows(cells)))


def write_manifest(path: Path, rows: Sequence[tuple[ManifestRow, str]]) -> None:
    """Write rows, each with a reason in a column of its own, so that `read_manifest` reads them again."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow((*REQUIRED, *OPTIONAL))
    for row, reason in rows:
        described = (row.label, row.recorded_at, str(row.crop or ""), ";".join(row.semiology), row.split, row.camera)
        writer.writerow((row.file_name, row.patient_id, row.video_id, *described, reason))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, text.getvalue())


def _rows(cells: list[list[str]]) -> list[ManifestRow]:
    if not cells:
        raise InvalidInput(f"the manifest is empty: the first line names its columns ({', '.join(REQUIRED)}, ...)")
    header = [name.strip() for name in cells[0]]
    problems = list(_header_problems(header))
    if problems:
        raise ManifestErrors(problems)
    rows: list[ManifestRow] = []
    seen: dict[str, set[str]] = {"video_id": set(), "file_name": set()}
    for number, values in enumerate(cells[1:], start=2):
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            problems.append(f"row {number}: {len(values)} values, expected {len(header)}, one for each column")
            continue
        row = _row(number, dict(zip(header, (value.strip() for value in values), strict=True)), problems)
        if row is not None:
            rows.append(row)
            for column, values_seen in seen.items():
                value = getattr(row, column)
                if value in values_seen:
                    problems.append(
                        f"row {number}, column {column}: {value!r} stands in an earlier row; give one a video"
                    )
                values_seen.add(value)
    if not rows and not problems:
        problems.append("no rows below the header: expected one for each video")
    if problems:
        raise ManifestErrors(problems)
    return rows


def _header_problems(header: list[str]) -> Iterator[str]:
    for name in REQUIRED:
        if name not in header:
            yield f"row 1: column {name} is missing; required are {', '.join(REQUIRED)}"
    for name in header:
        if name not in REQUIRED + OPTIONAL:
            yield f"row 1: column {name!r} is unknown; allowed are {', '.join(REQUIRED + OPTIONAL)}"
    for name in sorted({name for name in header if header.count(name) > 1}):
        yield f"row 1: column {name} stands there twice"


def _row(number: int, values: dict[str, str], problems: list[str]) -> ManifestRow | None:
    before = len(problems)

    def read(column: str, parse: Callable[[str], Value], default: Value, allowed: str) -> Value:
        value = values.get(column, "")
        if not value and column in OPTIONAL:
            return default
        try:
            return parse(value)
        except ValueError:
            problems.append(f"row {number}, column {column}: {value!r} is not {allowed}")
            return default

    row = ManifestRow(
        file_name=read("file_name", _file_name, "", "a relative path below the manifest's folder, without .. or a URL"),
        patient_id=read("patient_id", _identifier, "", "1 to 64 letters, digits, dots, underscores or hyphens"),
        video_id=read("video_id", _identifier, "", "1 to 64 letters, digits, dots, underscores or hyphens"),
        label=read("label", _label, "", f"{' or '.join(LABELS)} or empty"),
        recorded_at=read("recorded_at", _iso_time, "", "an ISO 8601 date or time such as 2024-03-01T22:15:00"),
        crop=read("crop", _crop, None, "four whole numbers x y w h, in pixels, w and h at least 16"),
        semiology=read("semiology", _tags, (), "tags of letters, digits and hyphens, separated by ;"),
        split=read("split", _identifier, "", "1 to 64 letters, digits, dots, underscores or hyphens"),
        camera=read("camera", _identifier, "", "1 to 64 letters, digits, dots, underscores or hyphens"),
    )
    return row if len(problems) == before else None


def _identifier(value: str) -> str:
    if not ID.fullmatch(value):
        raise ValueError
    return value


def _file_name(value: str) -> str:
    path = PurePosixPath(value)
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value)
    if not value or outside or "\\" in value or not value.isprintable():
        raise ValueError
    return str(path)  # `./x.mp4` and `x.mp4` are one file


def _label(value: str) -> str:
    if value not in LABELS:
        raise ValueError
    return value


def _iso_time(value: str) -> str:
    return datetime.fromisoformat(value).isoformat()


def _crop(value: str) -> Crop:
    x, y, w, h = (int(part) for part in value.split())
    if min(x, y) < 0 or min(w, h) < 16:
        raise ValueError
    return Crop(x, y, w, h)


def _tags(value: str) -> tuple[str, ...]:
    tags = tuple(sorted({tag.strip() for tag in value.split(";")}))
    if not all(TAG.fullmatch(tag) for tag in tags):
        raise ValueError
    return tags
