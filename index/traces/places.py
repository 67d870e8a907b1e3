"""Where a patient may be named: in the files of a workspace, each folder by its own rule, and in folders outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from index.files.locks import TEMPORARY
from index.traces.folders import GOES, LEFT, Trace, Ways, entry, is_one_piece, traces
from index.traces.names import Names
from index.traces.scan import SCRATCH
from index.workspace import Workspace

_OWN_RULES = ("store", "generations", "models", "audit", "key", "erased", "erasures", "commit.lock", "feedback.sqlite")
"""Entries of a workspace that are not gone through as texts: each has a step of its own, or holds keyed hashes only."""
_LOCKS_AND_NOTES = ("-wal", "-shm", "-journal", ".lock")


def outside_of(workspace: Workspace, folders: Iterable[Path]) -> list[Path]:
    """Those of these folders that are there and not in the workspace, each once."""
    root = workspace.root.resolve()
    found = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    return [folder for folder in found if not folder.is_relative_to(root)]


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
        own = path.name in _OWN_RULES or path.name.startswith((SCRATCH, TEMPORARY))
        if own or path.name.endswith(_LOCKS_AND_NOTES):
            continue
        if path.is_dir() and not path.is_symlink():
            jobs, previews = path == workspace.runs, path == workspace.previews
            yield from traces(path, names, replace(plain, whole_pictures=jobs, named_after=previews))
        else:
            yield from entry(path, names, plain)
    for folder in (workspace.store, workspace.generations, workspace.root / "audit", workspace.root / "models"):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and _is_foreign(path, folder):
                for trace in entry(path, names, Ways(change=False)):
                    if trace.kind in (GOES, LEFT):
                        yield Trace(path, LEFT, "it names the patient among files of Semiome: remove it yourself")
    for folder in also:
        yield from traces(folder, names, replace(plain, skip=workspace.root.resolve()))


def _is_foreign(path: Path, folder: Path) -> bool:
    """Whether a file is none of those that Semiome itself keeps in a folder, which hold no names or are rewritten."""
    if any(parent.suffix == ".lance" for parent in path.parents):
        return False
    own = {"generations": ("manifest.json", ".arrow", ".npy", ".faiss", "CURRENT", "PREVIOUS", ".lock"), "store": ()}
    known = own.get(folder.name, (".jsonl", ".segments", ".safetensors", "CURRENT", "PREVIOUS", ".lock"))
    return not path.name.endswith(known) if known else True


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
