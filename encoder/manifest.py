"""The manifest: a CSV, one row a video. Everything wrong with it is reported at once, by row and column."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from encoder.clips import LEAST_STRIDE_S, MIN_CLIP_SECONDS, Continuation, Segment, Source
from encoder.manifest_cells import Cell, is_spreadsheet_error, read_cell
from encoder.picture import Crop
from encoder.spreadsheet import Table, read_table
from index.errors import InvalidInput, ManifestErrors, VideoRefused
from index.files.durable import write_text_atomically
from index.near_misses import likeness, resembles
from index.records import CLIP_SECONDS, METADATA_NAME, METADATA_VALUE
from index.semiology import PAPER, Classes

REQUIRED = ("file_name", "patient_id", "video_id")
OPTIONAL = (
    *("label", "recorded_at", "crop", "semiology", "split", "camera", "track"),
    *("start_s", "end_s", "onset_s", "seizure_end_s"),
    *("continues_in", "continues_at_s"),
)
NOT_READ = ("reason",)
"""What `write_manifest` says of refused videos."""
_IDENTIFYING = frozenset(
    {
        *("surname", "firstname", "forename", "givenname", "lastname", "familyname", "fullname", "patientname"),
        *("vorname", "nachname", "prenom", "nom", "nome", "cognome", "nombre", "apellido", "apellidos", "naam"),
        *("voornaam", "achternaam", "fornamn", "efternamn", "imie", "nazwisko", "initials", "dob", "birth"),
        *("birthdate", "birthday", "dateofbirth", "geburtsdatum", "geb", "geboortedatum", "naissance", "nascita"),
        *("nacimiento", "mrn", "medicalrecordnumber", "ssn", "nhs", "cpr", "personnummer", "phone", "telephone"),
        *("telefon", "telefono", "email", "mail", "address", "adresse", "indirizzo"),
    }
)
"""Words that, as a column's name or within it, say that it tells who a patient is."""
_NAMES = frozenset({"name", "names"})
_NOT_OF_PEOPLE = frozenset(
    {"file", "camera", "room", "ward", "study", "project", "site", "device", "model", "protocol"}
)
"""What may have a name in a manifest."""
_TIMES = ("start_s", "end_s", "onset_s", "seizure_end_s", "continues_in", "continues_at_s")
_MOST_METADATA = 64
_ROW = re.compile(r"\d+")
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One video of a manifest, checked.

    Attributes:
        file_name: relative to the manifest's folder.
        patient_id: study pseudonym.
        video_id: unique in the manifest.
        label: its class, or empty.
        recorded_at: ISO 8601, or empty.
        crop: fixed part of the picture to use.
        semiology: tags.
        split: data split, or empty.
        camera: room or camera, or empty.
        track: FFmpeg's number of the video track, where the file has several films.
        start_s: where in the file the video begins, in seconds after the file's first frame.
        end_s: where it ends; None at the end of the file.
        onset_s: clinical onset of the seizure, in the same time; None where it is not known.
        seizure_end_s: clinical end of the seizure, in the same time; None where it is not known.
        continues_in: file that the video goes on in, relative to the manifest's folder; empty where it is in one file.
        continues_at_s: when that file's first frame was taken, in seconds after the first frame of `file_name`.
        metadata: values of all other columns that have one, by name, sorted.
        stride_s: seconds from one clip to the next; None for those of clips that are stored, and for 10 s of new ones.
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
    track: int | None = None
    start_s: float = 0.0
    end_s: float | None = None
    onset_s: float | None = None
    seizure_end_s: float | None = None
    continues_in: str = ""
    continues_at_s: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    stride_s: float | None = None

    @property
    def segment(self) -> Segment:
        """The part of the file that is the video."""
        return Segment(self.start_s, self.end_s)


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

    def every(self, stride_s: float | None) -> Manifest:
        """The same, to be cut into clips with this stride.

        Raises:
            InvalidInput: If it is not a number of seconds from 0.5 to 10, of at most three decimals.
        """
        if stride_s is None:
            return self
        if not LEAST_STRIDE_S <= stride_s <= CLIP_SECONDS or round(stride_s, 3) != stride_s:
            raise InvalidInput(
                f"expected a stride of {LEAST_STRIDE_S} to {CLIP_SECONDS} s with at most three decimals, "
                f"got {stride_s:g}",
                field="stride",
            )
        return replace(self, rows=tuple(replace(row, stride_s=float(stride_s)) for row in self.rows))

    def source(self, row: ManifestRow) -> Source:
        """What a decoder reads.

        Raises:
            VideoRefused: If a file of it is missing, not a plain file, or outside the manifest's folder.
        """
        then = None
        if row.continues_in:
            then = Continuation(self._path(row.continues_in, "the file it continues in"), row.continues_at_s or 0.0)
        return Source(self.path_of(row), row.track, row.segment, row.stride_s or CLIP_SECONDS, then=then)

    def path_of(self, row: ManifestRow) -> Path:
        """The row's file, with symbolic links followed.

        Raises:
            VideoRefused: If it is missing, not a plain file, or outside the manifest's folder.
        """
        return self._path(row.file_name, "the file")

    def _path(self, name: str, what: str) -> Path:
        if self.opened:
            return self.folder / name
        try:
            path = _in_any_form(self.folder, name).resolve(strict=True)
        except (OSError, RuntimeError):
            raise VideoRefused(f"{what} is missing, or may not be read") from None
        if not path.is_relative_to(self.folder):
            raise VideoRefused("a symbolic link leads out of the manifest's folder")
        if not path.is_file():
            raise VideoRefused("not a plain file")
        return path


def read_manifest(path: Path, media_root: Path | None = None, classes: Classes | None = PAPER) -> Manifest:
    """Read and check a manifest.

    Args:
        path: the CSV file.
        media_root: the folder its files lie in or below; its own folder by default.
        classes: what its labels may be; None where they do not matter.

    Raises:
        InvalidInput: If it does not exist, is no text or no table; or there is no such folder.
        ManifestErrors: If columns or rows are wrong; it lists every problem.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInput(f"the manifest is larger than {_MAX_BYTES >> 20} MiB: give a CSV, one row a video")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"the manifest {path.name} can't be read ({error.strerror}): give the path of a CSV file"
        ) from None
    table = read_table(data, REQUIRED)
    folder = (media_root or path.parent).resolve()
    if not folder.is_dir():
        raise InvalidInput("the media root is not a folder: give the one that file_name is relative to")
    return Manifest(folder, tuple(_rows(table, classes)))


def write_manifest(path: Path, rows: Sequence[tuple[ManifestRow, str]]) -> None:
    """Write rows, each with a reason in a column of its own, so that `read_manifest` reads them again."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = sorted({name for row, _ in rows for name, _ in row.metadata})
    writer.writerow((*REQUIRED, *OPTIONAL, *names, *NOT_READ))
    for row, reason in rows:
        described = (row.label, row.recorded_at, str(row.crop or ""), ";".join(row.semiology), row.split, row.camera)
        times = (row.start_s or None, row.end_s, row.onset_s, row.seizure_end_s)
        numbers = ["" if value is None else format(value, ".12g") for value in (row.track, *times, row.continues_at_s)]
        others = dict(row.metadata)
        more = (*numbers[:-1], row.continues_in, numbers[-1], *(others.get(name, "") for name in names), reason)
        writer.writerow((row.file_name, row.patient_id, row.video_id, *described, *more))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, text.getvalue())


def _in_any_form(folder: Path, file_name: str) -> Path:
    """A file's path, also where its name has another Unicode form: macOS and Linux write an accent differently."""
    path = folder
    for name in PurePosixPath(file_name).parts:
        parent, path = path, path / name
        if not name.isascii() and not path.exists():
            wanted = unicodedata.normalize("NFC", name)
            same = [other for other in parent.iterdir() if unicodedata.normalize("NFC", other.name) == wanted]
            path = same[0] if len(same) == 1 else path
    return path


def _rows(table: Table, classes: Classes | None) -> list[ManifestRow]:
    problems = [*column_problems(table.columns, REQUIRED, (*OPTIONAL, *NOT_READ)), *table.problems]
    if any(problem.startswith("row 1:") for problem in problems):
        raise ManifestErrors(problems)
    rows: list[ManifestRow] = []
    for number, values in table.rows:
        row = _row(number, values, problems, classes)
        if row is not None:
            rows.append(row)
    problems += _duplicates(table)
    if not table.rows and not problems:
        problems.append("row 1: no rows below the header: expected one for each video")
    if problems:
        raise ManifestErrors(sorted(problems, key=lambda problem: int(_ROW.findall(problem)[0])))
    return rows


def column_problems(columns: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """What is wrong with the header of a table whose other columns are kept as metadata, row by row of text."""
    known = (*required, *optional)
    problems = []
    for name in columns:
        if name in known:
            continue
        if meant := [other for other in known if resembles(name, other) and other not in columns]:
            problems.append(f"row 1: column {name!r} looks like {meant[0]}: rename it, to one or the other thing")
        elif _tells_who(name):
            problems.append(
                f"row 1: column {name!r} tells who a patient is: leave it out of the manifest, where patients have "
                "pseudonyms"
            )
        elif not METADATA_NAME.fullmatch(name):
            problems.append(
                f"row 1: column {name[:64]!r} can't be kept as metadata: expected a name of up to 64 letters, digits, "
                "blanks, dots, underscores and hyphens, beginning with a letter"
            )
    if len(others := [name for name in columns if name not in known]) > _MOST_METADATA:
        problems.append(f"row 1: {len(others)} columns of metadata, expected at most {_MOST_METADATA}")
    missing = [name for name in required if name not in columns]
    if missing and not problems:
        problems.append(f"row 1: column {missing[0]} is missing; required are {', '.join(required)}")
    elif missing:
        problems += [f"row 1: column {name} is missing" for name in missing]
    return problems


def _tells_who(name: str) -> bool:
    """Whether a column of this name would hold what tells who a patient is."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    words = {word for word in likeness(plain) if not word.isdigit()}
    if words & _NAMES and not words & _NOT_OF_PEOPLE:
        return True
    return not _IDENTIFYING.isdisjoint({*words, "".join(likeness(plain))})


def _duplicates(table: Table) -> list[str]:
    """Ids and files that stand in two rows, faulty rows included; two tracks or segments of one file are two videos."""
    problems = []
    for columns in (("video_id",), ("file_name", "track", "start_s", "end_s")):
        seen: dict[tuple[str, ...], int] = {}
        for number, values in table.rows:
            value = tuple(_plain(column, values.get(column, "")) for column in columns)
            if not value[0]:
                continue
            if value in seen:
                problems.append(
                    f"row {number}, column {columns[0]}: {value[0]!r} stands in row {seen[value]} too; each video has "
                    + _ITS_OWN[columns[0]]
                )
            seen.setdefault(value, number)
    return problems


_ITS_OWN = {"video_id": "its own", "file_name": "its own file, or its own part of one by start_s and end_s"}


def _plain(column: str, value: str) -> str:
    """`./x.mp4` and `x.mp4` are one file, 10.0 and 10 one time, and a video without a start begins at 0."""
    if column == "start_s" and not value:
        return "0"
    try:
        return format(float(value), ".12g") if column in {"start_s", "end_s"} and value else value.removeprefix("./")
    except ValueError:
        return value


def _times_wrong(cells: dict[str, Cell]) -> Iterator[tuple[str, str]]:
    """What is wrong with a segment and its seizure: a column, and in words."""
    start, end, onset, seizure_end = (cells.get(name) for name in ("start_s", "end_s", "onset_s", "seizure_end_s"))
    begins = start if isinstance(start, float) else 0.0
    if isinstance(end, float) and end < begins + MIN_CLIP_SECONDS:
        yield "end_s", f"{end:.12g} s is less than {MIN_CLIP_SECONDS} s after the segment begins, at {begins:.12g} s"
    last = end if isinstance(end, float) else float("inf")
    for name, value in (("onset_s", onset), ("seizure_end_s", seizure_end)):
        if isinstance(value, float) and not (begins <= value < last or (value == last and name == "seizure_end_s")):
            until = f"{last:.12g} s" if end is not None else "the end of the file"
            yield name, f"{value:.12g} s is outside the segment, {begins:.12g} s to {until}"
    then = cells.get("continues_at_s")
    if isinstance(then, float) and (then <= begins or then >= last):
        until = f"{last:.12g} s" if end is not None else "the end of that file"
        yield "continues_at_s", f"{then:.12g} s is outside the segment, {begins:.12g} s to {until}"
    if ("continues_in" in cells) != ("continues_at_s" in cells):
        missing = "continues_at_s" if "continues_in" in cells else "continues_in"
        yield missing, "a video in two files needs both continues_in and continues_at_s"
    if "continues_in" in cells and cells.get("file_name") == cells["continues_in"]:
        yield "continues_in", f"{cells['continues_in']} is the file that the video begins in"
    if isinstance(onset, float) and isinstance(seizure_end, float) and seizure_end <= onset:
        yield "seizure_end_s", f"{seizure_end:.12g} s is not after the onset, at {onset:.12g} s"


def _row(number: int, values: dict[str, str], problems: list[str], classes: Classes | None) -> ManifestRow | None:
    before = len(problems)
    cells: dict[str, Cell] = {}
    for column in (*REQUIRED, *OPTIONAL):
        value = values.get(column, "")
        if not value and column in OPTIONAL:
            continue
        try:
            cells[column] = read_cell(column, value, classes)
        except ValueError as wrong:
            problems.append(f"row {number}, column {column}: {value[:200]!r} is not {wrong}")
    metadata = []
    for name, value in values.items():
        if name not in (*REQUIRED, *OPTIONAL, *NOT_READ) and value:
            if is_spreadsheet_error(value):
                problems.append(
                    f"row {number}, column {name}: {value!r} is an error of the spreadsheet's: correct it there"
                )
            elif not METADATA_VALUE.fullmatch(value):
                problems.append(f"row {number}, column {name}: expected one line of up to 200 characters")
            metadata.append((name, value))
    if not any(f"column {name}:" in problem for problem in problems[before:] for name in _TIMES):
        problems += (f"row {number}, column {name}: {wrong}" for name, wrong in _times_wrong(cells))
    if len(problems) > before:
        return None
    return ManifestRow(**cells, metadata=tuple(sorted(metadata)))  # type: ignore[arg-type]
