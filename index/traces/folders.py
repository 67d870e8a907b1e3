"""A folder's files without the patient: what goes, what stays, what people have to decide, and what can't be told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from index.files.durable import sha256_of_file, sync_folder, write_atomically
from index.traces.documents import PICTURES, Cleaned, cleaned
from index.traces.names import Names
from index.words import counted

GOES, DOUBTFUL, LEFT, NOT_LOOKED_INTO = "goes", "doubtful", "left", "not looked into"
_CACHE = ("clips.json", "frames.u8", "references.npz")
_PROJECTOR = {"clips.tsv": "vectors.tsv", "metadata.tsv": "tensors.tsv"}
_NOT_UNDERSTOOD = "this format can't be read here: look into it"


@dataclass(frozen=True, slots=True)
class Trace:
    """Something of the patient in a folder, or a file of which that can't be told.

    Attributes:
        path: of the file or folder.
        kind: `goes`; `doubtful`: an id that may mean something else stays until people have decided; `left`: it names
            the patient and can't be changed here; `not looked into`: a format that can't be read here.
        action: what is done about it, in words.
        inferred: from what stands around the file, which may be gone the next time.
    """

    path: Path
    kind: str
    action: str
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Ways:
    """How a folder is gone through.

    Attributes:
        doubtful: what may name the patient goes too.
        whole_pictures: pictures and arrays that lie beside a text which names the patient go: those of a job may show
            them, and can be made again.
        named_after: folders are named by ids of videos, as previews are.
        change: whether anything is done, or only told.
        skip: a folder that is not gone through, wherever it lies: the workspace has rules of its own.
        waiting: films about which a question is open, and that keep their place until it is answered.
        asks: whether questions are still open.
        sources: digests of files that are the patient's alone: a film of theirs goes, whatever it is called.
    """

    doubtful: bool = False
    whole_pictures: bool = False
    named_after: bool = False
    change: bool = True
    skip: Path | None = None
    sources: frozenset[str] = frozenset()
    waiting: frozenset[Path] = frozenset()
    asks: bool = True


@dataclass(slots=True)
class _Films:
    """Films that rows name: of the patient, and of others, wherever in the folder these rows stand."""

    theirs: set[Path] = field(default_factory=set)
    others: set[Path] = field(default_factory=set)

    def note(self, path: Path, found: Cleaned) -> None:
        """Take what a file names."""
        self.theirs |= {(path.parent / name).resolve() for name in found.files if _is_name(name)}
        self.others |= {(path.parent / name).resolve() for name in found.kept_files if _is_name(name)}


def traces(folder: Path, names: Names, ways: Ways) -> Iterator[Trace]:
    """Go through a folder and all below it; links are not followed.

    Args:
        folder: need not exist.
        names: the patient's.
        ways: how to treat what is found.
    """
    if not folder.is_dir() or _skipped(folder, ways):
        return
    films = _Films()
    inside: list[Path] = []
    for inner in sorted(folder.iterdir()) if ways.whole_pictures or ways.named_after else [folder]:
        if ways.named_after and names.videos.hold(_bare(inner.name)):
            yield _remove(inner, "removed: named after them", ways)
        elif inner.is_dir() and not inner.is_symlink():
            found = list(_tree(inner, names, ways, films, inside))
            yield from found
            if ways.whole_pictures and any(trace.kind == GOES for trace in found):
                yield from _pictures(inner, ways)
            inside += [inner] if inner != folder else []
        else:
            yield from entry(inner, names, ways)
    waiting = set(ways.waiting)
    for trace in _remove_films(folder, films, ways):
        waiting |= {trace.path} if trace.inferred else set()
        yield trace
    for inner in inside:  # the deepest first, and films by the names that rows give them
        yield from _named(inner, names, ways, waiting)
    if any(mention.certain for mention in names.find(folder.name)) and ways.skip is not None:
        yield Trace(folder, LEFT, "its own name is theirs: rename it")
    if ways.change:
        sync_folder(folder)


def entry(path: Path, names: Names, ways: Ways, films: _Films | None = None) -> Iterator[Trace]:
    """Go through one file: whose film it is, its name, then what is in it."""
    mentions = names.find(path.name)
    certain = any(mention.certain for mention in mentions)
    chosen = certain or (bool(mentions) and ways.doubtful)
    is_picture = path.suffix.lower() in PICTURES
    if path.is_symlink() or not path.is_file():
        if chosen:
            target = path.resolve()
            yield _remove(path, "removed: a link named after them", ways)
            if target.exists():
                yield Trace(target, LEFT, "a link named after them led to it: is it theirs?")
        return
    if is_picture and ways.sources and sha256_of_file(path) in ways.sources:
        yield _remove(path, "removed: it is their film", ways)
        return
    if chosen and (is_picture or names.is_certain(path.stem)) and not names.name_others(path.name, shapes=False):
        if certain and mentions[0].start == 0:
            yield _remove(path, "removed: named after them", ways)
        else:
            yield _perhaps(path, "its name holds theirs", ways)
        return
    if mentions and not chosen:
        yield Trace(path, DOUBTFUL, "its name may be theirs")
    yield from _content(path, names, ways, films)
    if chosen and path.exists():
        yield _rename(path, names, ways)


def _is_name(name: str) -> bool:
    return "\0" not in name and len(name) < 1024


def _bare(name: str) -> str:
    """A name without what is put around it while the folder is made."""
    return name.removeprefix(".").removesuffix(".tmp").removesuffix(".lock")


def _tree(folder: Path, names: Names, ways: Ways, films: _Films, inside: list[Path]) -> Iterator[Trace]:
    """All files below a folder; the folders are added to `inside`, the deepest first."""
    closed: list[Path] = []
    for place, folders, _ in os.walk(folder):  # what is one piece is not gone into
        if is_one_piece(Path(place)) and not _skipped(Path(place), ways):
            closed.append(Path(place))
            folders.clear()
    for one in closed:
        yield Trace(
            one, NOT_LOOKED_INTO, "a backup or a workspace of its own: erase the patient there, or make it again"
        )
    for parent, folders, files in os.walk(folder, topdown=False):
        inner = Path(parent)
        if _skipped(inner, ways) or any(inner.is_relative_to(one) for one in closed):
            continue
        touched = False
        for trace in _files(inner, sorted(files), names, ways, films):
            touched |= trace.kind == GOES
            yield trace
        inside += [inner / name for name in sorted(folders) if not _skipped(inner / name, ways)]
        if touched and ways.change:
            sync_folder(inner)


def is_one_piece(folder: Path) -> bool:
    """Whether a folder is a backup, or another workspace: nothing of it can be changed by itself."""
    return (folder / "backup.json").is_file() or ((folder / "store").is_dir() and (folder / "key").is_file())


def _skipped(folder: Path, ways: Ways) -> bool:
    return ways.skip is not None and folder.resolve().is_relative_to(ways.skip)


def _files(folder: Path, files: list[str], names: Names, ways: Ways, films: _Films) -> Iterator[Trace]:
    if {*_CACHE[:2]} <= {*files} and cleaned(folder / _CACHE[0], names).certain:
        for name in (name for name in _CACHE if name in files):
            yield _remove(folder / name, "removed: a frame cache is one piece, and is made again", ways)
        files = [name for name in files if name not in _CACHE]
    for name in files:
        if (folder / name).is_symlink() or (folder / name).exists():
            yield from entry(folder / name, names, ways, films)


def _content(path: Path, names: Names, ways: Ways, films: _Films | None) -> Iterator[Trace]:
    found = cleaned(path, names, doubtful=ways.doubtful)
    if films is not None:
        films.note(path, found)
    if not found.looked_into and not found.certain:
        yield Trace(path, NOT_LOOKED_INTO, _NOT_UNDERSTOOD)
        return
    if not found.understood:
        yield Trace(path, LEFT, "it names the patient and can't be changed here: remove it, or correct it yourself")
        return
    if found.changed:
        yield from _changed(path, found, ways)
    if found.doubtful and not ways.doubtful:
        yield Trace(path, DOUBTFUL, f"{counted(found.doubtful, 'place')} may name them")


def _changed(path: Path, found: Cleaned, ways: Ways) -> Iterator[Trace]:
    beside = path.with_name(_PROJECTOR.get(path.name, path.name))
    if found.rows and beside != path and beside.is_file():
        yield _drop_lines(beside, set(found.rows), ways)
    elif found.rows and (array := _goes_with(path)) is not None:
        yield Trace(path, LEFT, f"its rows may go with those of {array.name}: take the patient out of both")
        return
    if found.content is None:
        yield _remove(path, "removed: all of it is theirs", ways)
        return
    content = found.content
    if ways.change:
        write_atomically(path, lambda temporary: _write(temporary, content, path))
    texts = found.certain + (found.doubtful if ways.doubtful else 0) - len(found.rows)
    rows = f"{counted(len(found.rows), 'row')} removed" if found.rows else ""
    places = f"{counted(texts, 'place')} blanked" if texts > 0 else ""
    yield Trace(path, GOES, ", ".join(filter(None, (rows, places))))


def _goes_with(path: Path) -> Path | None:
    """An array beside a table: without a row of one, the rows of the other would belong to other patients."""
    return next((other for other in sorted(path.parent.iterdir()) if other.suffix.lower() in (".npy", ".npz")), None)


def _remove_films(folder: Path, films: _Films, ways: Ways) -> Iterator[Trace]:
    """Films that only the patient's rows name, in whatever table of the folder."""
    inside = folder.resolve()
    for film in sorted(films.theirs - films.others):
        if (
            film.suffix.lower() in PICTURES
            and film.is_relative_to(inside)
            and film.is_file()
            and not _skipped(film, ways)
        ):
            yield _perhaps(film, "only rows of the patient name it", ways)


def _perhaps(path: Path, why: str, ways: Ways) -> Trace:
    """What is theirs by what stands around it, and by no mark of its own, goes when people have said so."""
    return _remove(path, f"removed: {why}", ways) if ways.doubtful else Trace(path, DOUBTFUL, why, inferred=True)


def _write(temporary: Path, content: bytes, path: Path) -> None:
    temporary.write_bytes(content)
    shutil.copymode(path, temporary)


def _drop_lines(path: Path, numbers: set[int], ways: Ways) -> Trace:
    """The vectors of a projector's rows: both files have one line for each clip."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = b"".join(line for number, line in enumerate(lines) if number not in numbers)
    if ways.change:
        write_atomically(path, lambda temporary: _write(temporary, kept, path))
    return Trace(path, GOES, f"{counted(len(numbers), 'row')} removed")


def _pictures(run: Path, ways: Ways) -> Iterator[Trace]:
    """Remove what may show the patient: whose a picture or an array of a job is can't be told."""
    for path in sorted(run.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file() and not path.is_symlink():
            yield _remove(path, "removed: it may show them", ways)


def _named(folder: Path, names: Names, ways: Ways, waiting: set[Path]) -> Iterator[Trace]:
    """A folder called by their id: pictures in it are asked about, unless others are named; the folder is renamed.

    Films about which a question is open are added to `waiting`, and keep their place.
    """
    if folder.is_symlink():
        yield from entry(folder, names, ways)
        return
    if not folder.is_dir():
        return
    mentions = names.find(folder.name)
    if names.is_certain(folder.name) and not names.is_of_another(folder.name):
        for path in sorted(folder.rglob("*")):
            below = str(path.relative_to(folder))
            if path.suffix.lower() in PICTURES and path.is_file() and not names.name_others(below):
                trace = _perhaps(path, "in a folder named after them", ways)
                if trace.inferred:
                    waiting.add(path.resolve())
                yield trace
    held = ways.asks and any(path.is_relative_to(folder.resolve()) for path in waiting)  # a question names its place
    if not held and (any(mention.certain for mention in mentions) or (mentions and ways.doubtful)):
        yield _rename(folder, names, ways)
    elif mentions:
        yield Trace(folder, DOUBTFUL, "its name may be theirs")


def _rename(path: Path, names: Names, ways: Ways) -> Trace:
    kept = names.cut(path.name, names.find(path.name), "erased")
    target, number = path.with_name(kept), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{Path(kept).stem}-{number}{Path(kept).suffix}")
    if ways.change:
        path.rename(target)
    return Trace(path, GOES, "renamed")


def _remove(path: Path, action: str, ways: Ways) -> Trace:
    if ways.change:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Trace(path, GOES, action)
