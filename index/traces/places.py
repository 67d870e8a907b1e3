"""Where a patient may be named: in the files of a workspace, each folder by its own rule, and in folders outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from index.files.locks import TEMPORARY
from index.traces.folders import GOES, LEFT, Trace, Ways, entry, is_one_piece, traces
from index.traces.names import Names
from index.traces.scan import SCRATCH
from index.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Rule:
    """How an erasure cleans one entry of a workspace.

    Attributes:
        step: what takes the patient out; "as text" where its files are read and cleaned one by one.
        own: endings of the files that Semiome keeps in it, which that step rewrites or which hold keyed hashes only.
            Anything else in it is looked at, and reported if it names the patient. None where nothing else can be
            in it.
        whole_pictures: pictures go with the text beside them that names the patient (a job's charts).
        named_after: an entry that is named after a video goes as a whole (previews).
    """

    step: str
    own: tuple[str, ...] | None = None
    whole_pictures: bool = False
    named_after: bool = False

    @property
    def as_text(self) -> bool:
        """Whether its files are gone through as text."""
        return self.step == _AS_TEXT


_AS_TEXT = "as text"
_KEYED_HASHES = "nothing to take out: it holds keyed hashes only"
RULES = {
    "store": Rule("rows are deleted, and all files rewritten", own=()),
    "generations": Rule(
        "built again without the patient",
        own=("manifest.json", ".arrow", ".npy", ".faiss", "CURRENT", "PREVIOUS", ".lock"),
    ),
    "models": Rule(_KEYED_HASHES, own=(".jsonl", ".segments", ".safetensors", "CURRENT", "PREVIOUS", ".lock")),
    "audit": Rule(_KEYED_HASHES, own=(".jsonl", ".segments", ".safetensors", "CURRENT", "PREVIOUS", ".lock")),
    "unfinished.sqlite": Rule("removed as a whole: what is missing is embedded again"),
    "digests.sqlite": Rule("removed as a whole: files are read again"),
    "feedback.sqlite": Rule("rows are deleted, and the file rewritten"),
    "erasures": Rule("receipts are signed, and hold a keyed hash; an erasure's own note goes at its end"),
    **dict.fromkeys(("key", "erased", "commit.lock"), Rule(_KEYED_HASHES)),
    "classes.json": Rule("nothing to take out: names of classes"),
    "runs": Rule(_AS_TEXT, whole_pictures=True),
    "previews": Rule(_AS_TEXT, named_after=True),
}
"""Each entry of a workspace with its rule. Whatever else lies there is gone through as text."""
_OTHERWISE = Rule(_AS_TEXT)
_LOCKS_AND_NOTES = ("-wal", "-shm", "-journal", ".lock")


def outside_of(workspace: Workspace, folders: Iterable[Path]) -> list[Path]:
    """Those of these folders that are there and not in the workspace, each once."""
    root = workspace.root.resolve()
    existing = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    return [folder for folder in existing if not folder.is_relative_to(root)]


def gone_through(
    workspace: Workspace,
    also: Iterable[Path],
    names: Names,
    sources: frozenset[str],
    *,
    texts: bool | None,
    change: bool,
    waiting: frozenset[Path] = frozenset(),
) -> Iterator[Trace]:
    """Everything that is gone through as text, inside the workspace and out."""
    plain = Ways(doubtful=texts is True, change=change, sources=sources, asks=texts is None, waiting=waiting)
    for path in sorted(workspace.root.iterdir()) if workspace.root.is_dir() else ():
        rule = RULES.get(path.name, _OTHERWISE)
        if path.name.startswith((SCRATCH, TEMPORARY)) or path.name.endswith(_LOCKS_AND_NOTES):
            continue
        if not rule.as_text:
            yield from _foreign(path, rule, names)
        elif path.is_dir() and not path.is_symlink():
            ways = replace(plain, whole_pictures=rule.whole_pictures, named_after=rule.named_after)
            yield from traces(path, names, ways)
        else:
            yield from entry(path, names, plain)
    for folder in also:
        yield from traces(folder, names, replace(plain, skip=workspace.root.resolve()))


def _foreign(folder: Path, rule: Rule, names: Names) -> Iterator[Trace]:
    """Files that are none of Semiome's own in a folder of its own, as far as they name the patient."""
    if rule.own is None:
        return
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        own = path.name.endswith(rule.own) or any(parent.suffix == ".lance" for parent in path.parents)
        if own or not path.is_file():
            continue
        for trace in entry(path, names, Ways(change=False)):
            if trace.kind in (GOES, LEFT):
                yield Trace(path, LEFT, "it names the patient among files of Semiome: remove it yourself")


def shown(path: Path, workspace: Workspace, also: Iterable[Path], names: Names) -> str:
    """A place as a receipt shows it: without the patient's names, below the folder that was given."""
    place = path.name
    for folder in (workspace.root, *also):
        if path.resolve().is_relative_to(folder.resolve()):
            place = str(path.resolve().relative_to(folder.resolve()))
            place = place if folder == workspace.root else f"{folder.name}/{place}"
            break
    return names.cut(place, names.find(place), "(theirs)")


def piece_of(folder: Path, name: str) -> Path:
    """A find within a backup or another workspace is reported as that: its files hold other patients too."""
    path = folder / name
    return next((parent for parent in reversed(path.parents) if is_one_piece(parent)), path)
