"""Which generation serves, for all hosts of a workspace.

`CURRENT` and `PREVIOUS` in the workspace's place name it. Where that place is remote, each host searches copies: a
generation never changes, so a whole copy stays right, its digests are checked when it is loaded, and its pointers
follow those of the place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from index.errors import DamagedData, ErasedMeanwhile, Locked, StateError
from index.files.durable import sync_file, sync_folder, write_text_atomically
from index.files.place import Place
from index.tables.blocklist import erased_among
from index.vectors.generation import (
    MANIFEST,
    building_lock,
    check_publishable,
    list_generations,
    read_clips,
    remove_generation,
    remove_unfinished,
)
from index.workspace import GENERATIONS, Workspace, current, previous, read_pointer

_POINTERS = ("PREVIOUS", "CURRENT")
_SHARED = "shared"
"""An empty file in a copy, which goes when the generation has gone from the place."""


def fetch(workspace: Workspace, *, everything: bool = False) -> None:
    """Bring the generation that serves here, or all, and remove what is there no more.

    While another process of this host is building or fetching, what is here stays as it is.
    """
    place, folder = workspace.place, workspace.generations
    if not place.remote:
        return
    there, pointers = _whole(place), _pointers(place)
    wanted = there if everything else {pointers["CURRENT"]} & there
    here = set(list_generations(folder))
    gone = {name for name in here - there if (folder / name / _SHARED).exists()}
    changed = any(_said(folder, name) != text for name, text in pointers.items())
    if not (wanted - here or gone or changed):
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with building_lock(folder):
            remove_unfinished(folder)
            for name in sorted(wanted - here):
                _download(place, workspace, name)
            for name, text in pointers.items():
                if not text:
                    (folder / name).unlink(missing_ok=True)
                elif name == "PREVIOUS" or text in list_generations(folder):
                    write_text_atomically(folder / name, text + "\n")
            for name in gone:
                remove_generation(folder, name)
    except Locked:
        return


def release(workspace: Workspace, name: str, *, publish_it: bool, force: bool = False) -> None:
    """Let all hosts have a generation that was just built here, and let it serve.

    Raises:
        ErasedMeanwhile: If one of its patients was erased while it was built; it is removed.
        StateError: If its recall is below its target, and it is not forced; it is kept.
    """
    place, folder = workspace.place, workspace.generations
    if place.remote:
        with building_lock(folder):  # a server of this host fetches nothing meanwhile
            files = sorted((folder / name).iterdir(), key=lambda path: path.name == MANIFEST)  # it comes last
            for path in files:
                place.write(f"{GENERATIONS}/{name}/{path.name}", path)
            if set(place.sizes(f"{GENERATIONS}/{name}")) != {f"{GENERATIONS}/{name}/{path.name}" for path in files}:
                raise DamagedData(f"generation {name} is not whole where all hosts read it: build the index again")
            (folder / name / _SHARED).touch()
    # Now that it can be seen: an erasure that has not seen it, and so leaves it, has blocked its patient before.
    if erased_among(workspace, set(read_clips(folder, name).patient_ids)):
        remove(workspace, [name])
        raise ErasedMeanwhile
    if publish_it:
        publish(workspace, name, force=force)


def publish(workspace: Workspace, name: str, *, force: bool = False) -> None:
    """Make a generation the one that serves.

    Raises:
        NotFound: If there is none of that name.
        StateError: If its recall is below its target, and it is not forced.
    """
    check_publishable(workspace.generations, name, force=force)
    _point(workspace, name)


def roll_back(workspace: Workspace) -> str:
    """Make the generation that served before serve again; a second call undoes it.

    Returns:
        Its name.

    Raises:
        StateError: If none served before, or it is gone.
    """
    name = _pointers(workspace.place)["PREVIOUS"]
    if name not in list_generations(workspace.generations):
        raise StateError("there is no generation before the one that serves: name one with `semiome index activate`")
    _point(workspace, name)
    return name


def collect(workspace: Workspace, keep: int) -> list[str]:
    """Remove old generations: all but the one that serves, the one before it, and the newest `keep`.

    A server that still answers from a removed one is not disturbed: what it has mapped stays until it lets go.

    Returns:
        What was removed.

    Raises:
        Locked: If a build is running.
    """
    folder = workspace.generations
    if not folder.is_dir():
        return []
    with building_lock(folder):
        remove_unfinished(folder)
        names = list_generations(folder)
        kept = {current(folder), previous(folder), *names[max(0, len(names) - keep) :]}
    removed = [name for name in names if name not in kept]
    remove(workspace, removed)
    return removed


def remove(workspace: Workspace, names: Iterable[str]) -> None:
    """Remove generations everywhere, and what an upload that was killed has left."""
    place, folder, gone = workspace.place, workspace.generations, set(names)
    if folder.is_dir():
        with building_lock(folder):
            for name in gone & set(list_generations(folder)):
                remove_generation(folder, name)
            for pointer in _POINTERS:
                if _said(folder, pointer) not in list_generations(folder):
                    (folder / pointer).unlink(missing_ok=True)
            sync_folder(folder)
    if not place.remote:
        return
    place.remove(f"{GENERATIONS}/{name}/{MANIFEST}" for name in gone)
    whole = _whole(place)
    paths = [path for path in place.sizes(GENERATIONS) if path.count("/") == 2 and path.split("/")[1] not in whole]
    place.remove(paths)
    place.remove(f"{GENERATIONS}/{name}" for name, text in _pointers(place).items() if text and text not in whole)


def _point(workspace: Workspace, name: str) -> None:
    place = workspace.place
    old = _pointers(place)["CURRENT"]
    if old != name:
        if old in _whole(place):
            place.write(f"{GENERATIONS}/PREVIOUS", f"{old}\n".encode())
        place.write(f"{GENERATIONS}/CURRENT", f"{name}\n".encode())
    fetch(workspace)


def _whole(place: Place) -> set[str]:
    """Names of all whole generations."""
    paths = (name.split("/") for name in place.sizes(GENERATIONS))
    return {parts[1] for parts in paths if len(parts) == 3 and parts[2] == MANIFEST}


def _pointers(place: Place) -> dict[str, str]:
    """What the pointers say; empty where there is none, or none that can be read: it is written again."""
    return {name: _text(place, f"{GENERATIONS}/{name}") for name in _POINTERS}


def _text(place: Place, name: str) -> str:
    try:
        return (place.read(name) or b"").decode("utf-8", "replace").strip()
    except DamagedData:
        return ""


def _download(place: Place, workspace: Workspace, name: str) -> None:
    folder = workspace.generations
    building = folder / f".building-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        for path in place.sizes(f"{GENERATIONS}/{name}"):
            file = building / path.rsplit("/", 1)[1]
            place.download(path, file)
            sync_file(file)
        (building / _SHARED).touch()
        sync_folder(building)
        building.rename(folder / name)
        sync_folder(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _said(folder: Path, pointer: str) -> str:
    """What a pointer says here; empty where there is none, or none that can be read: it is written again."""
    try:
        return read_pointer(folder, pointer) or ""
    except DamagedData:
        return ""
