"""A folder's files without the patient: what goes, what stays, what people have to decide, and what can't be told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index.files import sync_folder, write_atomically
from index.traces.documents import PICTURES, Cleaned, cleaned
from index.traces.names import ERASED, Names, folded

GOES, DOUBTFUL, LEFT, NOT_LOOKED_INTO = "goes", "doubtful", "left", "not looked into"
_CACHE = ("clips.json", "frames.u8", "references.npz")
_PROJECTOR = ("clips.tsv", "vectors.tsv")


@dataclass(frozen=True, slots=True)
class Trace:
    """Something of the patient in a folder, or a file of which that can't be told.

    Attributes:
        path: of the file or folder.
        kind: `goes`; `doubtful`: an id that may mean something else stays until people have decided; `left`: it names
            the patient and can't be changed here; `not looked into`: a format that can't be read here.
        action: what is done about it, in words.
    """

    path: Path
    kind: str
    action: str


@dataclass(frozen=True, slots=True)
class Ways:
    """How a folder is gone through.

    Attributes:
        doubtful: what may name the patient goes too.
        whole_pictures: pictures and arrays that lie beside a text which names the patient go: those of a job may show
            them, and can be made again.
        named_after: folders are named by ids, as previews are.
        change: whether anything is done, or only told.
        skip: a folder that is not gone through, wherever it lies: the workspace has rules of its own.
    """

    doubtful: bool = False
    whole_pictures: bool = False
    named_after: bool = False
    change: bool = True
    skip: Path | None = None


def traces(folder: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    """Go through a folder and all below it; links are not followed.

    Args:
        folder: need not exist.
        names: of the patient.
        ways: how.
    """
    if not folder.is_dir():
        return
    for inner in sorted(folder.iterdir()) if ways.whole_pictures or ways.named_after else [folder]:
        if ways.named_after and names.is_theirs(_bare(inner.name)):
            yield _remove(inner, "removed: named after them", ways)
        elif inner.is_dir() and not inner.is_symlink():
            found = list(_tree(inner, names, ways))
            yield from found
            if ways.whole_pictures and any(trace.kind == GOES for trace in found):
                yield from _pictures(inner, ways)
            if inner != folder:
                yield from _named(inner, names, ways)
        else:
            yield from _entry(inner, names, ways)
    if ways.change:
        sync_folder(folder)


def _bare(name: str) -> str:
    """A name without what is put around it while the folder is made."""
    return name.removeprefix(".").removesuffix(".tmp").removesuffix(".lock")


def _tree(folder: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    for place, folders, files in os.walk(folder, topdown=False):
        inner = Path(place)
        if _skipped(inner, ways):
            continue
        touched = False
        for trace in _files(inner, sorted(files), names, ways):
            touched |= trace.kind == GOES
            yield trace
        for name in sorted(folders):
            for trace in () if _skipped(inner / name, ways) else _named(inner / name, names, ways):
                touched |= trace.kind == GOES
                yield trace
        if touched and ways.change and inner.is_dir():
            sync_folder(inner)


def _skipped(folder: Path, ways: Ways) -> bool:
    return ways.skip is not None and folder.resolve().is_relative_to(ways.skip)


def _files(folder: Path, files: list[str], names: Names, ways: Ways) -> Iterator[Trace]:
    if {*_CACHE[:2]} <= {*files} and _is_certain(folder / _CACHE[0], names):
        for name in (name for name in _CACHE if name in files):
            yield _remove(folder / name, "removed: a frame cache is one piece, and is made again", ways)
        files = [name for name in files if name not in _CACHE]
    for name in files:
        if not (folder / name).is_symlink() and not (folder / name).exists():
            continue  # it went with another one
        yield from _entry(folder / name, names, ways)


def _is_certain(path: Path, names: Names) -> bool:
    return cleaned(path, names).certain > 0


def _entry(path: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    """One file: its name, then what is in it."""
    mentions = names.find(path.name)
    certain = any(mention.certain for mention in mentions)
    chosen = certain or (bool(mentions) and ways.doubtful)
    if path.is_symlink() or not path.is_file():
        if chosen:
            yield _remove(path, "removed: a link named after them", ways)
        return
    whole = names.is_theirs(path.stem) or path.suffix.lower() in PICTURES
    if chosen and whole and not _names_another(path.name, names):
        yield _remove(path, "removed: named after them", ways)
        return
    if mentions and not chosen:
        yield Trace(path, DOUBTFUL, "its name may be theirs")
    yield from _content(path, names, ways)
    if chosen and path.exists():
        yield _rename(path, names, ways)


def _names_another(text: str, names: Names) -> bool:
    mentions = names.find(text)
    return folded(names.without(text, mentions)) != folded(ERASED)


def _content(path: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    found = cleaned(path, names, doubtful=ways.doubtful)
    if not found.looked_into and not found.certain:
        yield Trace(path, NOT_LOOKED_INTO, "a format that is not understood: look into it")
        return
    if not found.understood:
        yield Trace(path, LEFT, "names them, and can't be changed here: remove it, or take them out of it")
        return
    if found.changed:
        yield from _changed(path, found, ways)
    if found.doubtful and not ways.doubtful:
        yield Trace(path, DOUBTFUL, f"{found.doubtful} places may name them")


def _changed(path: Path, found: Cleaned, ways: Ways) -> Iterator[Trace]:
    for name in sorted(found.files):
        film = (path.parent / name).resolve()
        if film.is_file() and film.is_relative_to(path.parent.resolve()) and film != path.resolve():
            yield _remove(path.parent / name, "removed: only their rows name it", ways)
    if path.name == _PROJECTOR[0] and found.rows and (beside := path.with_name(_PROJECTOR[1])).is_file():
        yield _drop_lines(beside, set(found.rows), ways)
    if found.content is None:
        yield _remove(path, "removed: all of it is theirs", ways)
        return
    content = found.content
    if ways.change:
        write_atomically(path, lambda temporary: _write(temporary, content, path))
    rows = f"{len(found.rows)} rows removed" if found.rows else ""
    texts = found.certain + (found.doubtful if ways.doubtful else 0) - len(found.rows)
    yield Trace(path, GOES, ", ".join(filter(None, (rows, f"{texts} places blanked" if texts > 0 else ""))))


def _write(temporary: Path, content: bytes, path: Path) -> None:
    temporary.write_bytes(content)
    shutil.copymode(path, temporary)


def _drop_lines(path: Path, numbers: set[int], ways: Ways) -> Trace:
    """The vectors of a projector's rows: both files have one line for each clip."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = b"".join(line for number, line in enumerate(lines) if number not in numbers)
    if ways.change:
        write_atomically(path, lambda temporary: _write(temporary, kept, path))
    return Trace(path, GOES, f"{len(numbers)} rows removed")


def _pictures(run: Path, ways: Ways) -> Iterator[Trace]:
    """Whoever is in a contact sheet, or in rows of an array, can't be told: what a job left of several goes."""
    for path in sorted(run.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file() and not path.is_symlink():
            yield _remove(path, "removed: it may show them", ways)


def _named(folder: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    """A folder that is called by their id goes; one whose name holds it among other words gets another name."""
    if not folder.is_dir() or folder.is_symlink():
        if folder.is_symlink():
            yield from _entry(folder, names, ways)
        return
    mentions = names.find(folder.name)
    if names.is_theirs(folder.name) and (ways.doubtful or names.is_certain(folder.name)):
        yield _remove(folder, "removed: named after them", ways)
    elif any(mention.certain for mention in mentions) or (mentions and ways.doubtful):
        yield _rename(folder, names, ways)
    elif mentions:
        yield Trace(folder, DOUBTFUL, "its name may be theirs")


def _rename(path: Path, names: Names, ways: Ways) -> Trace:
    kept = path.name
    for mention in reversed(names.find(path.name)):
        kept = f"{kept[: mention.start]}erased{kept[mention.stop :]}"
    target, number = path.with_name(kept), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{Path(kept).stem}-{number}{Path(kept).suffix}")
    if ways.change:
        path.rename(target)
    return Trace(path, GOES, "named otherwise")


def _remove(path: Path, action: str, ways: Ways) -> Trace:
    if ways.change:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Trace(path, GOES, action)
