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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from index.errors import DamagedData, InvalidInput, Locked, NotFound
from index.feedback.statement import Feedback, FeedbackPage, check
from index.files.durable import is_plain
from index.files.failures import naming_failed_writes
from index.records import ID
from index.tables.blocklist import erased_among
from index.traces.names import ERASED, Names
from index.workspace import Workspace, classes_of

MAX_PAGE = 1000
_PAGE_BYTES = 2**20
_TOKEN = re.compile(r"[0-9T:.+-]{1,40}/[0-9a-f]{16}")
_IDS = re.compile(rf"(?<![A-Za-z0-9]){ID.pattern}(?<![._-])")
"""Words of a note that may be ids."""
_WAIT_S = 10.0


_COLUMNS = tuple(field.name for field in fields(Feedback))
_TABLE = "create table if not exists feedback (" + ", ".join(_COLUMNS) + ", primary key (feedback_id))"
_LOOK_UPS = (
    "create index if not exists in_time on feedback (at, feedback_id)",
    "create index if not exists of_video on feedback (video_id)",
    "create index if not exists of_query_video on feedback (query_video_id)",
    "create index if not exists of_author on feedback (author, at)",
)
_ALL = f"select {', '.join(_COLUMNS)} from feedback"  # noqa: S608  our own names; a later version may have more
_INSERT = f"insert into feedback ({', '.join(_COLUMNS)}) values ({', '.join(f':{name}' for name in _COLUMNS)})"  # noqa: S608  our own names


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
            InvalidInput: If it says nothing, or something that can't be.
            NotFound: If a patient whom it concerns was erased.
            DiskFull: If no space is left; it is not kept.
        """
        check(said, classes_of(self._workspace))
        at = datetime.now(UTC).isoformat(timespec="microseconds")  # pages go by it
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
        if self._there():
            with self._database() as database, closing(sqlite3.connect(path)) as copy:
                database.backup(copy)

    def page(self, video_ids: Iterable[str] = (), size: int = MAX_PAGE, token: str = "") -> FeedbackPage:
        """A page of what was said, oldest first: of these videos, on either side of a judgement, or of all.

        Args:
            video_ids: videos to list; all where none is given.
            size: most pieces; a page ends before that where its notes are long.
            token: of the page before; empty: the first.

        Raises:
            InvalidInput: If the size or the token is out of bounds.
        """
        if not 1 <= size <= MAX_PAGE:
            raise InvalidInput(f"expected pages of 1 to {MAX_PAGE}, got {size}", field="page_size")
        if token and not _TOKEN.fullmatch(token):
            raise InvalidInput("expected the token of a page before, got something else", field="page_token")
        if not self._there():
            return FeedbackPage((), "")
        wanted, after = sorted(set(video_ids)), tuple(token.split("/")) if token else ("", "")
        marks = ", ".join("?" * len(wanted))
        where = f" and (video_id in ({marks}) or query_video_id in ({marks}))" if wanted else ""
        asked = f"{_ALL} where (at, feedback_id) > (?, ?){where} order by at, feedback_id limit ?"
        with self._database() as database:
            rows = [_read(row) for row in database.execute(asked, (*after, *wanted, *wanted, size + 1))]
        page, length = rows[:size], 0
        for number, one in enumerate(page):
            length += len(one.note.encode())
            if number and length > _PAGE_BYTES:
                del page[number:]
                break
        more = len(page) < len(rows)
        last = f"{page[-1].at}/{page[-1].feedback_id}" if more else ""
        sides = {name for one in page for name in (one.patient_id, one.query_patient_id)} - {""}
        erased = erased_among(self._workspace, sides)
        kept = tuple(one for one in page if erased.isdisjoint({one.patient_id, one.query_patient_id}))
        return FeedbackPage(kept, last)

    def each(self, video_ids: Iterable[str] = ()) -> Iterator[Feedback]:
        """Everything that was said, oldest first, a page at a time in memory."""
        wanted, token = set(video_ids), ""
        while True:
            page = self.page(wanted, token=token)
            yield from page.feedback
            if not (token := page.next_page_token):
                return

    def all(self, video_ids: Iterable[str] = ()) -> tuple[Feedback, ...]:
        """Everything that was said, oldest first, in memory at once."""
        return tuple(self.each(video_ids))

    def video_ids(self) -> list[str]:
        """Ids of the videos of which something was said."""
        if not self._there():
            return []
        with self._database() as database:
            return [str(name) for (name,) in database.execute("select distinct video_id from feedback order by 1")]

    def said_since(self, author: str, at: str) -> int:
        """How much one author has said since a time, UTC, ISO 8601."""
        if not self._there():
            return 0
        asked = "select count(*) from feedback where author = ? and at >= ?"
        with self._database() as database:
            return int(database.execute(asked, (author, at)).fetchone()[0])

    def remove(self, feedback_id: str, author: str = "") -> Feedback:
        """Take one thing back.

        Args:
            feedback_id: the statement's.
            author: who must have said it; empty: anybody.

        Raises:
            NotFound: If there is none of that id, or another author said it.
        """
        found: list[Feedback] = []
        if self._there():
            with self._database() as database, database:
                rows = database.execute(f"{_ALL} where feedback_id = ?", (feedback_id,)).fetchall()
                found = [one for one in map(_read, rows) if author in {"", one.author}]
                if found:
                    database.execute("delete from feedback where feedback_id = ?", (feedback_id,))
        if not found or erased_among(self._workspace, {found[0].patient_id, found[0].query_patient_id} - {""}):
            raise NotFound("no feedback of yours has that id")
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
            patient_id: the patient to erase.
            video_ids: the patient's videos.
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
                if not (one.relevance or one.event or one.label or one.semiology or kept):
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

        The list of the erased holds only hashes, so a note is known to name them by a word that is their id.

        Returns:
            How many rows were theirs, and how many notes named them.
        """
        rows = self._rows()
        said = {patient for one in rows for patient in (one.patient_id, one.query_patient_id)} - {""}
        said |= {word for one in rows for word in _IDS.findall(one.note)}
        erased = sorted(erased_among(self._workspace, said))
        return sum(sum(self.erase(patient, (), Names({patient}))[:2]) for patient in erased)

    def _erase(self, concerned: Callable[[Feedback], bool]) -> int:
        if not self._there():
            return 0
        with self._database() as database:
            with database:
                database.execute("begin immediate")
                rows = map(_read, database.execute(_ALL).fetchall())
                gone = [(one.feedback_id,) for one in rows if concerned(one)]
                database.executemany("delete from feedback where feedback_id = ?", gone)
            database.execute("vacuum")
        return len(gone)

    def _rows(self) -> list[Feedback]:
        if not self._there():
            return []
        with self._database() as database:
            return list(map(_read, database.execute(f"{_ALL} order by at, rowid").fetchall()))

    def _there(self) -> bool:
        return os.path.lexists(self._path)  # what a broken link stands for is damage, not a workspace without a word

    @contextmanager
    def _database(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        if make:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._there() and not is_plain(self._path):
            raise DamagedData("feedback.sqlite is no plain file: bring what people have said back from a backup")
        with naming_failed_writes(), closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as database:
            try:
                database.execute("pragma secure_delete = on")
                database.execute("pragma synchronous = full")
                database.execute(_TABLE)
                there = {str(row[1]) for row in database.execute("pragma table_info(feedback)")}
                for name in set(_COLUMNS) - there:  # of a workspace of Semiome 0.3
                    database.execute(f"alter table feedback add column {name} default ''")
                for look_up in _LOOK_UPS if make else ():
                    database.execute(look_up)
                yield database
            except sqlite3.DatabaseError as error:
                if code := _errno_of(error):
                    raise OSError(code, os.strerror(code), str(self._path)) from None  # as every other writer has it
                if "locked" in str(error):
                    raise Locked("other feedback is being stored: try again in a moment") from None
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


def _read(row: tuple[object, ...]) -> Feedback:
    """What a row says; of one that something else has written, all but its signs."""
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        said = json.loads(str(values["semiology"]))
        signs = tuple(map(str, said)) if isinstance(said, list) else ()
    except ValueError:
        signs = ()
    return Feedback(**{**values, "semiology": signs})  # type: ignore[arg-type]
