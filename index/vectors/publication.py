"""Generations for all hosts of a workspace: on object storage with copies where they are searched, or in one folder.

A generation never changes, so a copy that is whole stays right; its digests are checked when it is loaded. Which one
serves is said by two small objects, `CURRENT` and `PREVIOUS`, as it is in a folder; what these say here follows what
they say there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from index.errors import DamagedData, ErasedMeanwhile, Locked, StateError
from index.files.bucket import Bucket, bucket
from index.files.durable import sync_file, sync_folder, write_text_atomically
from index.tables.blocklist import erased_among
from index.vectors import generation
from index.vectors.generation import (
    MANIFEST,
    building_lock,
    check_publishable,
    list_generations,
    read_clips,
    remove_generation,
    remove_unfinished,
)
from index.workspace import Workspace, named

_FOLDER = "generations"
_POINTERS = ("PREVIOUS", "CURRENT")
_SHARED = "shared"
"""An empty file in the folder of a generation that is, or was, on object storage."""


def fetch(workspace: Workspace, *, everything: bool = False) -> None:
    """Bring the generation that serves here, or all, and remove what is there no more.

    While another process of this host is building or fetching, what is here stays as it is.
    """
    if not workspace.bucket:
        return
    place, folder = bucket(workspace.bucket), workspace.generations
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
    folder = workspace.generations
    if workspace.bucket:
        place = bucket(workspace.bucket)
        with building_lock(folder):  # a server of this host fetches nothing meanwhile
            files = sorted((folder / name).iterdir(), key=lambda path: path.name == MANIFEST)  # it comes last
            for path in files:
                place.write(f"{_FOLDER}/{name}/{path.name}", path)
            if set(place.sizes(f"{_FOLDER}/{name}")) != {f"{_FOLDER}/{name}/{path.name}" for path in files}:
                raise DamagedData(f"generation {name} is not whole on the object storage: build the index again")
            (folder / name / _SHARED).touch()
    # Now that it can be seen: an erasure that has not seen it, and so leaves it, has blocked its patient before.
    if erased_among(workspace, set(read_clips(folder, name).patient_ids)):
        remove(workspace, [name])
        raise ErasedMeanwhile
    if publish_it:
        publish(workspace, name, force=force)


def publish(workspace: Workspace, name: str, *, force: bool = False) -> None:
    """As `index.vectors.generation.publish`, for all hosts."""
    if not workspace.bucket:
        generation.publish(workspace.generations, name, force=force)
        return
    check_publishable(workspace.generations, name, force=force)
    _point(workspace, name)


def roll_back(workspace: Workspace) -> None:
    """As `index.vectors.generation.roll_back`, for all hosts."""
    if not workspace.bucket:
        generation.roll_back(workspace.generations)
        return
    name = _pointers(bucket(workspace.bucket))["PREVIOUS"]
    if name not in list_generations(workspace.generations):
        raise StateError("there is no generation before the one that serves: name one with `semiome index activate`")
    _point(workspace, name)


def collect(workspace: Workspace, keep: int) -> list[str]:
    """As `index.vectors.generation.collect`, for all hosts."""
    removed = generation.collect(workspace.generations, keep)
    remove(workspace, removed)
    return removed


def remove(workspace: Workspace, names: Iterable[str]) -> None:
    """Remove generations everywhere, and on object storage what an upload that was killed has left."""
    folder, gone = workspace.generations, set(names)
    if folder.is_dir():
        with building_lock(folder):
            for name in gone & set(list_generations(folder)):
                remove_generation(folder, name)
            for pointer in _POINTERS:
                if _said(folder, pointer) not in list_generations(folder):
                    (folder / pointer).unlink(missing_ok=True)
            sync_folder(folder)
    if not workspace.bucket:
        return
    place = bucket(workspace.bucket)
    place.remove(f"{_FOLDER}/{name}/{MANIFEST}" for name in gone)
    whole = _whole(place)
    paths = [path for path in place.sizes(_FOLDER) if path.count("/") == 2 and path.split("/")[1] not in whole]
    place.remove(paths)
    place.remove(f"{_FOLDER}/{name}" for name, text in _pointers(place).items() if text and text not in whole)


def _point(workspace: Workspace, name: str) -> None:
    place = bucket(workspace.bucket)
    old = _pointers(place)["CURRENT"]
    if old != name:
        if old:
            place.write(f"{_FOLDER}/PREVIOUS", f"{old}\n".encode())
        place.write(f"{_FOLDER}/CURRENT", f"{name}\n".encode())
    fetch(workspace)


def _whole(place: Bucket) -> set[str]:
    """Names of all whole generations."""
    paths = (name.split("/") for name in place.sizes(_FOLDER))
    return {parts[1] for parts in paths if len(parts) == 3 and parts[2] == MANIFEST}


def _pointers(place: Bucket) -> dict[str, str]:
    return {name: (place.read(f"{_FOLDER}/{name}") or b"").decode().strip() for name in _POINTERS}


def _download(place: Bucket, workspace: Workspace, name: str) -> None:
    folder = workspace.generations
    building = folder / f".building-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        for path in place.sizes(f"{_FOLDER}/{name}"):
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
        return named(folder, pointer) or ""
    except DamagedData:
        return ""
