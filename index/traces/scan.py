"""Looking for bytes in every file of a folder."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from index.files.place import Place

LEAST_NEEDLE_BYTES = 8
"""Shorter ones turn up in any large file by chance."""

SCRATCH = ".scan-"
"""Folders of this name are left by a scan that was killed."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What was looked through, and where something was found.

    Attributes:
        needles: how many different ones.
        files: number of files.
        size_bytes: their size together.
        files_with_finds: their places below the folders.
    """

    needles: int
    files: int
    size_bytes: int
    files_with_finds: tuple[str, ...]


def scan(
    folders: Iterable[Path],
    needles: Sequence[bytes],
    skip: frozenset[Path] | set[Path] = frozenset(),
    objects: Place | None = None,
    below: Path | None = None,
) -> Scan:
    """Look for any of these bytes, in names and in contents.

    Args:
        folders: with all that is below them; links are not followed.
        needles: at least `LEAST_NEEDLE_BYTES` long.
        skip: files, or names of objects, that are not looked into.
        objects: looked through too, brought into the first folder one by one.
        below: a folder that is not looked through again.
    """
    folders = list(folders)
    files = size = 0
    finds = []
    for folder in folders:
        for parent, inner, names in os.walk(folder):
            if below is not None:
                inner[:] = [name for name in inner if not Path(parent, name).samefile(below)]
            for name in names:
                path = Path(parent, name)
                if path in skip or path.is_symlink() or not path.is_file():
                    continue
                files += 1
                size += path.stat().st_size
                if any(needle in os.fsencode(name) for needle in needles) or _holds(path, needles):
                    finds.append(str(path.relative_to(folder)))
    if objects is not None:
        for name, length in objects.sizes("").items():
            if Path(name) in skip:
                continue
            files, size = files + 1, size + length
            with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folders[0]) as scratch:
                objects.download(name, Path(scratch, "object"))
                if any(needle in name.encode() for needle in needles) or _holds(Path(scratch, "object"), needles):
                    finds.append(name)
    return Scan(len(set(needles)), files, size, tuple(sorted(finds)))


def _holds(path: Path, needles: Sequence[bytes]) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content:
        return any(content.find(needle) >= 0 for needle in needles)
