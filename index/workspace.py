"""One folder with everything: where in it each thing lies. Of a shared one, a part lies on object storage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from index.errors import CannotWrite, DamagedData, InvalidInput, StateError
from index.files.durable import small_file, write_text_atomically
from index.files.failures import unreadable
from index.files.place import Place, place_of
from index.semiology import PAPER, Classes

STORE, GENERATIONS = "store", "generations"
KEY, ERASED, ERASURES, COMMIT_LOCK, CLASSES = "key", "erased", "erasures", "commit.lock", "classes.json"
"""Names of what lies in a workspace's place, as `Place` takes them."""
_MOST_NAME_BYTES = 256
_MEND = "remove it, and publish one again"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The layout of a workspace folder.

    Attributes:
        root: the folder; made when something is first written.
        bucket: `s3://bucket/prefix` of a shared workspace: there are the tables, the generations, the key and the list
            of the erased; in `root` are this host's copies of generations, and all the rest.
    """

    root: Path
    bucket: str = ""

    @classmethod
    def at(cls, address: str | Path) -> Workspace:
        """The workspace that a user names: a folder, or `s3://bucket/prefix`.

        What a shared one keeps on this host lies in `$SEMIOME_LOCAL`, by default `~/.local/share/semiome`, in a folder
        named after it.

        Raises:
            CannotWrite: If what this host keeps of a shared one can lie nowhere.
            InvalidInput: If it is any other address.
        """
        address = str(address)
        if not address:
            raise InvalidInput("expected a folder or s3://bucket/prefix as the workspace, got nothing")
        if "://" not in address:
            return cls(Path(address))
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/(?!\.+(/|$))[\w.-]+)*/?", address):
            raise InvalidInput("expected a folder or s3://bucket/prefix as the workspace")
        url = address.rstrip("/")
        local = Path(os.environ.get("SEMIOME_LOCAL") or Path.home() / ".local" / "share" / "semiome")
        bucket_name = url.removeprefix("s3://").replace("/", "-")
        root = local / f"{bucket_name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"SEMIOME_LOCAL names no folder that can be used ({os.strerror(error.errno or 0)})"
            raise CannotWrite(why, str(local)) from None
        return cls(root, url)

    @property
    def place(self) -> Place:
        """Where the part lies that all hosts share: of a workspace in a folder, that folder.

        Raises:
            StateError: If it is object storage that can't be reached.
        """
        return place_of(self.root, self.bucket)

    @property
    def address(self) -> str:
        """What `at` takes, from whatever working directory."""
        return self.bucket or str(self.root.absolute())

    @property
    def store(self) -> Path:
        """LanceDB, of a workspace in a folder."""
        return self.root / STORE

    @property
    def generations(self) -> Path:
        """FAISS generations, a folder each, and `CURRENT`."""
        return self.root / GENERATIONS

    @property
    def encoders(self) -> Path:
        """Encoder folders, named by encoder id, and `CURRENT`."""
        return self.root / "models" / "encoders"

    @property
    def heads(self) -> Path:
        """Head folders, named by head id, and `CURRENT`."""
        return self.root / "models" / "heads"

    @property
    def signs(self) -> Path:
        """Folders of sign heads, named by their id, and `CURRENT`."""
        return self.root / "models" / "signs"

    @property
    def runs(self) -> Path:
        """What each job did: a folder a run."""
        return self.root / "runs"

    def new_run(self, kind: str) -> Path:
        """A folder for what a job of this kind will write; it is not made yet."""
        return self.runs / f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

    @property
    def unfinished(self) -> Path:
        """Embedded clips of long videos that are not stored yet."""
        return self.root / "unfinished.sqlite"

    @property
    def digests(self) -> Path:
        """Digests of files that were encoded, so that they need not be read again."""
        return self.root / "digests.sqlite"

    @property
    def previews(self) -> Path:
        """Small videos and thumbnails made for looking at."""
        return self.root / "previews"

    @property
    def key(self) -> Path:
        """The workspace's secret: signs receipts, and hides who was erased."""
        return self.root / KEY

    @property
    def erased(self) -> Path:
        """Keyed hashes of erased patients, a line each."""
        return self.root / ERASED

    @property
    def erasures(self) -> Path:
        """Receipts of erasures, and what an interrupted one still has to do."""
        return self.root / ERASURES

    @property
    def classes(self) -> Path:
        """What seizures are told apart into, where that is not the paper's; see `classes_of`."""
        return self.root / CLASSES

    @property
    def commit_lock(self) -> Path:
        """Held by the one process that may write to the store."""
        return self.root / COMMIT_LOCK


def set_current(folder: Path, name: str) -> None:
    """Make the entry `name` of a folder of versions the one in use, atomically; the old one is remembered."""
    try:
        old = current(folder)
    except (StateError, DamagedData):  # nothing to go back to
        old = None
    if old is not None and old != name:
        write_text_atomically(folder / "PREVIOUS", old + "\n")
    write_text_atomically(folder / "CURRENT", name + "\n")


def current(folder: Path) -> str | None:
    """The name of the entry in use, or None when none is.

    Raises:
        StateError: If `CURRENT` names something that is missing.
        DamagedData: If it can't be read.
    """
    name = read_pointer(folder, "CURRENT")
    if name is not None and not _is_entry(folder, name):
        raise StateError(f"CURRENT in {folder.name}/ names {name!r}, which is missing: publish one again")
    return name


def previous(folder: Path) -> str | None:
    """The name of the entry that was in use before, or None when none was or it is gone."""
    try:
        name = read_pointer(folder, "PREVIOUS")
    except DamagedData:
        return None
    return name if name is not None and _is_entry(folder, name) else None


def read_pointer(folder: Path, file: str) -> str | None:
    """What `CURRENT` or `PREVIOUS` of a folder of versions says, whether or not that is there.

    Raises:
        DamagedData: If it is none of the small files that are written there.
    """
    try:
        return small_file(folder / file, _MOST_NAME_BYTES).decode("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        said = f"{file} in {folder.name}/ can't be read ({type(error).__name__}): {_MEND}"
        raise unreadable(error, said) from None


def _is_entry(folder: Path, name: str) -> bool:
    """Whether it names a plain entry: the name becomes a path, and any other is never followed."""
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".") and (folder / name).is_dir()


def classes_of(workspace: Workspace) -> Classes:
    """Give the classes of a workspace.

    Raises:
        DamagedData: If they can't be read.
    """
    data = workspace.place.read(CLASSES)
    if data is None:
        return PAPER
    try:
        values = json.loads(data)
        return Classes(tuple(values["names"]), values["positive"])
    except (ValueError, TypeError, KeyError, InvalidInput):
        raise DamagedData(f"{CLASSES} can't be read: name the classes again with `semiome classes`") from None
