"""What people say of stored videos: alike or not, label, signs, notes. Who said it and when; erased with the patient.

A small SQLite database in the workspace, apart from LanceDB, whose one committer may be busy for hours: what a
clinician says is kept at once. Nothing is changed: who thinks otherwise later says so, and the newest word counts.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from index.erased import erased_among
from index.errors import DamagedData, InvalidInput, Locked, NotFound
from index.files import naming_failed_writes
from index.records import ID, LABELS, TAG, Video
from index.traces.names import ERASED, Names
from index.workspace import Workspace

RELEVANCES = ("relevant", "not_relevant")
MAX_NOTE = 2000
_CLIP = re.compile(r"[0-9a-f]{32}")
_MAX_TAGS = 32
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Feedback:
    """One thing that somebody said.

    Attributes:
        video_id: the video it is about.
        patient_id: whose that is.
        query_video_id: of a judgement: the video that was asked about; empty otherwise, and where an upload was.
        query_patient_id: whose that is.
        clip_id: the clip of the video that was shown, or empty.
        query_clip_id: the clip that was asked about, or empty.
        relevance: whether the video resembles what was asked about: `relevant`, `not_relevant`, or empty.
        label: what the video is: `TLE`, `exTLE`, or empty where nothing is said of it.
        semiology: signs seen in it, HED-SCORE names.
        start_s: where in the video the signs begin.
        end_s: where they end; 0 with `start_s` 0: they are of the whole video.
        note: in words.
        feedback_id: 16 hex digits, given when it is saved.
        author: identity of who said it.
        at: UTC, ISO 8601.
    """

    video_id: str
    patient_id: str
    query_video_id: str = ""
    query_patient_id: str = ""
    clip_id: str = ""
    query_clip_id: str = ""
    relevance: str = ""
    label: str = ""
    semiology: tuple[str, ...] = ()
    start_s: float = 0.0
    end_s: float = 0.0
    note: str = ""
    feedback_id: str = ""
    author: str = ""
    at: str = ""


_COLUMNS = tuple(field.name for field in fields(Feedback))
_TABLE = "create table if not exists feedback (" + ", ".join(_COLUMNS) + ", primary key (feedback_id))"
_INSERT = f"insert into feedback values ({', '.join(f':{name}' for name in _COLUMNS)})"  # noqa: S608  our own names


class FeedbackStore:
    """All that was said in a workspace. Threads and processes may share it.

    On a shared workspace each host keeps its own.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._path = path_of(workspace)

    def save(self, said: Feedback, author: str) -> Feedback:
        """Keep it; when this returns it survives a power cut.

        Returns:
            The same with id, author and time.

        Raises:
            InvalidInput: it says nothing, or something that can't be.
            NotFound: a patient whom it concerns was erased.
            DiskFull: it is not kept.
        """
        check(said)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        saved = replace(said, feedback_id=secrets.token_hex(8), author=author, at=at)
        values = {**asdict(saved), "semiology": json.dumps(saved.semiology)}
        with self._database(make=True) as database, database:
            database.execute("begin immediate")  # what an erasure under way will not see is refused by now
            if erased_among(self._workspace, {said.patient_id, said.query_patient_id} - {""}):
                raise NotFound("that video is not stored any more")
            database.execute(_INSERT, values)
        return saved

    def copy_to(self, path: Path) -> None:
        """A copy of all of it, as it is at one moment; none where nothing was said."""
        if self._path.exists():
            with self._database() as database, closing(sqlite3.connect(path)) as copy:
                database.backup(copy)

    def all(self, video_ids: Iterable[str] = ()) -> tuple[Feedback, ...]:
        """What was said, oldest first: of these videos, or of all where none is named."""
        wanted, rows = set(video_ids), self._rows()
        erased = erased_among(
            self._workspace, {name for one in rows for name in (one.patient_id, one.query_patient_id)}
        )
        return tuple(
            one
            for one in rows
            if (not wanted or one.video_id in wanted or one.query_video_id in wanted)
            and erased.isdisjoint({one.patient_id, one.query_patient_id})
        )

    def remove(self, feedback_id: str, author: str = "") -> Feedback:
        """Take one thing back.

        Args:
            feedback_id: which.
            author: who must have said it; empty: anybody.

        Raises:
            NotFound: there is none of that id, or it is somebody else's.
        """
        found = [one for one in self.all() if one.feedback_id == feedback_id and author in {"", one.author}]
        if not found:
            raise NotFound("no feedback of yours has that id")
        with self._database() as database, database:
            database.execute("delete from feedback where feedback_id = ?", (feedback_id,))
        return found[0]

    def erase(
        self,
        patient_id: str,
        video_ids: Iterable[str],
        names: Names,
        *,
        doubtful: bool = False,
        change: bool = True,
    ) -> tuple[int, int, int]:
        """Remove all that concerns a patient, on either side of a judgement or in a note, out of the file's bytes too.

        Of what others said of others, only the note goes in which the patient is named.

        Args:
            patient_id: whom.
            video_ids: theirs.
            names: what they are called, in notes.
            doubtful: whether notes that may name them go too.
            change: whether anything is removed, or only counted.

        Returns:
            How many rows were theirs, how many notes named them, and how many may.
        """
        videos, gone, blanked, asked = set(video_ids), [], [], 0
        for one in self._rows():
            sides = {one.patient_id, one.query_patient_id}, {one.video_id, one.query_video_id}
            mentions = names.find(one.note)
            chosen = [mention for mention in mentions if mention.certain or doubtful]
            if patient_id in sides[0] or not videos.isdisjoint(sides[1]):
                gone.append(one.feedback_id)
            elif chosen:
                kept = names.without(one.note, chosen)
                kept = "" if kept.strip() == ERASED else kept
                blanked.append((kept, one.feedback_id))
                if not (one.relevance or one.label or one.semiology or kept):
                    blanked.pop()
                    gone.append(one.feedback_id)
            if mentions and not chosen:
                asked += one.feedback_id not in gone
        if change and (gone or blanked):
            with self._database() as database:
                with database:
                    database.executemany("update feedback set note = ? where feedback_id = ?", blanked)
                    database.executemany("delete from feedback where feedback_id = ?", [(one,) for one in gone])
                database.execute("vacuum")
        return len(gone), len(blanked), asked

    def remove_videos(self, video_ids: Iterable[str]) -> int:
        """Remove the feedback on videos, on either side of a judgement.

        Returns:
            How much that was.
        """
        videos = set(video_ids)
        return self._erase(lambda one: not videos.isdisjoint({one.video_id, one.query_video_id}))

    def let_go_of_the_erased(self) -> int:
        """Remove what concerns patients that were erased from another host of a shared workspace.

        Returns:
            How much that was.
        """
        patients = {patient for one in self._rows() for patient in (one.patient_id, one.query_patient_id)}
        erased = erased_among(self._workspace, patients - {""})
        return self._erase(lambda one: not erased.isdisjoint({one.patient_id, one.query_patient_id})) if erased else 0

    def _erase(self, concerned: Callable[[Feedback], bool]) -> int:
        if not self._path.exists():
            return 0
        with self._database() as database:
            with database:
                database.execute("begin immediate")
                rows = map(_read, database.execute("select * from feedback").fetchall())
                gone = [(one.feedback_id,) for one in rows if concerned(one)]
                database.executemany("delete from feedback where feedback_id = ?", gone)
            database.execute("vacuum")
        return len(gone)

    def _rows(self) -> list[Feedback]:
        if not self._path.exists():
            return []
        with self._database() as database:
            return list(map(_read, database.execute("select * from feedback order by at, rowid").fetchall()))

    @contextmanager
    def _database(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        if make:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with naming_failed_writes(), closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as database:
            try:
                database.execute("pragma secure_delete = on")
                database.execute("pragma synchronous = full")
                database.execute(_TABLE)
                yield database
            except sqlite3.DatabaseError as error:
                if code := _errno_of(error):
                    raise OSError(code, os.strerror(code), str(self._path)) from None  # as every other writer has it
                if "locked" in str(error):
                    raise Locked("somebody else's word is being kept: try again in a moment") from None
                raise DamagedData("what people have said can't be read: bring feedback.sqlite back") from None


def _errno_of(error: sqlite3.DatabaseError) -> int:
    """The system's number for why SQLite can't write; 0 where it is anything else."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    named = {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
        sqlite3.SQLITE_PERM: errno.EACCES,
        sqlite3.SQLITE_IOERR: errno.EIO,
    }
    return named.get(code, 0)


def path_of(workspace: Workspace) -> Path:
    """Where a workspace keeps it."""
    return workspace.root / "feedback.sqlite"


def check(said: Feedback) -> None:
    """Refuse what can't be kept.

    Raises:
        InvalidInput: naming the field.
    """
    for name in ("video_id", "query_video_id"):
        if (value := getattr(said, name)) and not ID.fullmatch(value):
            raise InvalidInput("expected an id of a stored video", field=name)
    for name in ("clip_id", "query_clip_id"):
        if (value := getattr(said, name)) and not _CLIP.fullmatch(value):
            raise InvalidInput("expected an id of a stored clip", field=name)
    if said.relevance and said.relevance not in RELEVANCES:
        raise InvalidInput(f"expected {' or '.join(RELEVANCES)}, or nothing", field="relevance")
    if said.label and said.label not in LABELS:
        raise InvalidInput(f"expected {' or '.join(LABELS)}, or nothing", field="label")
    if len(said.semiology) > _MAX_TAGS or not all(map(TAG.fullmatch, said.semiology)):
        raise InvalidInput(f"expected at most {_MAX_TAGS} tags of letters, digits and hyphens", field="semiology")
    if not (said.start_s == said.end_s == 0 or 0 <= said.start_s < said.end_s < 1e6):
        raise InvalidInput("expected a beginning before its end, in seconds of the video", field="start_s")
    if len(said.note) > MAX_NOTE or not all(letter.isprintable() or letter == "\n" for letter in said.note):
        raise InvalidInput(f"expected a note of at most {MAX_NOTE} printable characters", field="note")
    if not (said.relevance or said.label or said.semiology or said.note.strip()):
        raise InvalidInput("expected a judgement, a label, tags or a note, got none of them", field="feedback")


def newest_labels(all_of_it: Iterable[Feedback]) -> tuple[dict[str, str], list[str]]:
    """What people say the videos are.

    Each author's newest word on a video counts.

    Returns:
        Labels of the videos on which all who spoke agree, and the ids of those on which they do not.
    """
    newest: dict[tuple[str, str], str] = {}
    for one in all_of_it:
        if one.label:
            newest[one.video_id, one.author] = one.label
    said: dict[str, set[str]] = {}
    for (video_id, _), label in newest.items():
        said.setdefault(video_id, set()).add(label)
    agreed = {video_id: next(iter(labels)) for video_id, labels in said.items() if len(labels) == 1}
    return agreed, sorted(video_id for video_id, labels in said.items() if len(labels) > 1)


def with_labels(videos: Mapping[str, Video], labels: Mapping[str, str]) -> dict[str, Video]:
    """The same videos, those that people have labelled with their label."""
    return {name: replace(video, label=labels.get(name, video.label)) for name, video in videos.items()}


def _read(row: tuple[object, ...]) -> Feedback:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Feedback(**{**values, "semiology": tuple(json.loads(str(values["semiology"])))})  # type: ignore[arg-type]
