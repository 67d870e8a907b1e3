"""A first manifest from the names of a folder's videos, for a person to look over before anything is encoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from encoder.container.kinds import HEAD_BYTES, demuxer_of
from encoder.manifest import ManifestRow
from encoder.manifest_cells import read_cell
from index.errors import InvalidInput, VideoRefused
from index.records import ID

_MOMENT = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])"
    r"(?:[-_ T.]{1,2}([01]\d|2[0-3])[-_.:h]?([0-5]\d)(?:[-_.:m]?([0-5]\d))?)?(?!\d)"
)
"""A date, year first, with a time of day or without: 20240301_221500, 2024-03-01T22-15."""
_BIDS = re.compile(r"(?:^|/)sub-([A-Za-z0-9]+)")
_VIDEO_NAMES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".m2t", ".asf"),
        *(".wmv", ".flv", ".vob", ".3gp", ".dav"),
    }
)


@dataclass(frozen=True, slots=True)
class FirstManifest:
    """What a folder's names give.

    Attributes:
        rows: one for each video, sorted by file name.
        left_out: files with a video's name that are none that can be read, and why.
    """

    rows: tuple[ManifestRow, ...]
    left_out: tuple[tuple[str, str], ...]


def first_manifest(folder: Path, patient: str = "") -> FirstManifest:
    """Propose a row for each video in a folder and those below it.

    A patient's id is what `patient` finds, else that of a BIDS name (`sub-017_...`), else the folder that the file lies
    in, else the part of its name before the first date, underscore or blank. The time of recording is a date in the
    name that begins with the year.

    Args:
        folder: to look through; hidden files and folders are passed over.
        patient: regular expression that finds the patient's id in a path relative to the folder: its first group, or
            all of it.

    Raises:
        InvalidInput: If there is no such folder, no video in it, or the pattern is none or finds no id in some path.
    """
    if not folder.is_dir():
        raise InvalidInput("expected a folder with videos")
    try:
        pattern = re.compile(patient) if patient else None
    except re.error as error:
        raise InvalidInput(f"the pattern for patients is no regular expression: {error}") from None
    rows: list[ManifestRow] = []
    left_out: list[tuple[str, str]] = []
    taken: set[str] = set()
    without: list[str] = []
    sources: dict[str, dict[str, None]] = {}
    for name in _video_names(folder):
        if why := _unfit(name):
            left_out.append((name.encode("utf-8", "backslashreplace").decode(), why))
            continue
        try:
            with (folder / name).open("rb") as stream:
                demuxer_of(stream.read(HEAD_BYTES))
        except (VideoRefused, OSError) as error:
            left_out.append((name, error.strerror or "can't be read" if isinstance(error, OSError) else str(error)))
            continue
        source = _patient(name, pattern)
        who = _id(source)
        if not who:
            without.append(name)
            continue
        sources.setdefault(who, {})[source] = None
        rows.append(ManifestRow(name, who, _video_id(name, taken), recorded_at=_recorded_at(name)))
    if without:
        raise InvalidInput(
            f"no patient can be told from {len(without)} of the names, such as {without[0]!r}: give --patient, a "
            "regular expression whose first group is the patient's id"
        )
    if merged := [names for names in sources.values() if len(names) > 1]:
        raise InvalidInput(
            f"different patients would get one id: {' and '.join(map(repr, list(merged[0])[:3]))}; give --patient a "
            "pattern that tells them apart, or rename one"
        )
    if not rows:
        raise InvalidInput("no video in this folder that can be read")
    return FirstManifest(tuple(rows), tuple(left_out))


def _video_names(folder: Path) -> Sequence[str]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in _VIDEO_NAMES and path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts))


def _unfit(name: str) -> str:
    """Why no manifest can name a file of this name, or empty."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    try:
        return "" if read_cell("file_name", name) == name == name.strip() else "its name begins or ends with a blank"
    except ValueError:
        return "its name has a backslash, a colon or a letter that can't be printed: rename it"


def _patient(name: str, pattern: re.Pattern[str] | None) -> str:
    """What a path relative to the folder says of its patient, or empty."""
    path = PurePosixPath(name)
    if pattern is not None:
        found = pattern.search(name)
        return (found[1] or "" if pattern.groups else found[0]) if found else ""
    if bids := _BIDS.search(name):
        return bids[1]
    if len(path.parts) > 1:
        return path.parts[0]
    stem = path.stem[: moment.start()] if (moment := _MOMENT.search(path.stem)) else path.stem
    return re.split(r"[_ ]", stem.strip("_ -.") or "")[0]


def _video_id(name: str, taken: set[str]) -> str:
    """Id of a video after its file's name, another one for each."""
    base = _id(PurePosixPath(name).stem) or "video"
    name_in_use = base
    if name_in_use in taken:
        name_in_use = _id(PurePosixPath(name).with_suffix("").as_posix()) or base
    number = 2
    while name_in_use in taken:
        name_in_use, number = f"{base[:60]}-{number}", number + 1
    taken.add(name_in_use)
    return name_in_use


def _recorded_at(name: str) -> str:
    for year, month, day, hour, minute, second in _MOMENT.findall(PurePosixPath(name).stem):
        try:
            time = f"T{hour}:{minute}:{second or '00'}" if hour else ""
            moment = datetime.fromisoformat(f"{year}-{month}-{day}{time}")
            return moment.isoformat() if hour else moment.date().isoformat()
        except ValueError:
            continue
    return ""


def _id(text: str) -> str:
    """An id made of a text, or empty where nothing of it can stand in one."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64].strip("-._")
    return plain if ID.fullmatch(plain) else ""
