"""Generations on object storage, and copies of them where they are searched.

A generation never changes, so a copy that is whole stays right; its digests are checked when it is loaded. Which one
serves is said by two small objects, `CURRENT` and `PREVIOUS`, as it is in a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from index.errors import Locked
from index.files import sync_file, sync_folder, write_text_atomically
from index.generation import MANIFEST, building_lock, list_generations, remove_generation, remove_unfinished
from index.objects import Bucket, bucket
from index.workspace import Workspace

_FOLDER = "generations"
_POINTERS = ("PREVIOUS", "CURRENT")


def fetch(workspace: Workspace, *, everything: bool = False) -> None:
    """Bring the generation that serves here, or all; nothing to do where the workspace is a folder.

    While another process of this host is building, what is here stays as it is.
    """
    if not workspace.bucket:
        return
    place, folder = bucket(workspace.bucket), workspace.generations
    pointers = {name: (place.read(f"{_FOLDER}/{name}") or b"").decode().strip() for name in _POINTERS}
    wanted = _shared(place) if everything else {pointers["CURRENT"]} - {""}
    try:
        here = set(list_generations(folder))
        if wanted - here or (everything and here - wanted):
            folder.mkdir(parents=True, exist_ok=True)
            with building_lock(folder):
                remove_unfinished(folder)
                for name in sorted(wanted - here):
                    _download(place, workspace, name)
                if everything:
                    for name in here - wanted:
                        remove_generation(folder, name)
    except Locked:
        return
    for name, text in pointers.items():
        if text:
            folder.mkdir(parents=True, exist_ok=True)
        _point(workspace, name, text)


def share(workspace: Workspace, removed: Iterable[str] = ()) -> None:
    """Let the other hosts have what was built, published or removed here; nothing to do where it is a folder."""
    if not workspace.bucket:
        return
    place, folder = bucket(workspace.bucket), workspace.generations
    shared = _shared(place)
    for name in list_generations(folder):
        if name not in shared:
            files = sorted((folder / name).iterdir(), key=lambda path: path.name == MANIFEST)  # it comes last
            for path in files:
                place.upload(path, f"{_FOLDER}/{name}/{path.name}")
    for pointer in _POINTERS:
        path = folder / pointer
        if path.exists():
            place.write(f"{_FOLDER}/{pointer}", path.read_bytes())
        else:
            place.remove([f"{_FOLDER}/{pointer}"])
    for name in removed:
        objects = place.sizes(f"{_FOLDER}/{name}")
        place.remove([f"{_FOLDER}/{name}/{MANIFEST}"])
        place.remove(objects)


def _shared(place: Bucket) -> set[str]:
    """Names of all whole generations."""
    paths = (name.split("/") for name in place.sizes(_FOLDER))
    return {parts[1] for parts in paths if len(parts) == 3 and parts[2] == MANIFEST}


def _download(place: Bucket, workspace: Workspace, name: str) -> None:
    folder = workspace.generations
    building = folder / f".building-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for path in place.sizes(f"{_FOLDER}/{name}"):
        file = building / path.rsplit("/", 1)[1]
        place.download(path, file)
        sync_file(file)
    sync_folder(building)
    building.rename(folder / name)
    sync_folder(folder)


def _point(workspace: Workspace, pointer: str, name: str) -> None:
    """Say here what is said there, of generations that are here."""
    path = workspace.generations / pointer
    here = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if not name:
        path.unlink(missing_ok=True)
    elif here != name and (pointer == "PREVIOUS" or name in list_generations(workspace.generations)):
        write_text_atomically(path, name + "\n")
