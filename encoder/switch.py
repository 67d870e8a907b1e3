"""From one encoder to another, and back: encoder, index and head change together.

Both encoders' clips stay side by side in the store, so that going back needs nothing but this again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from encoder.head import load_head
from encoder.model.folder import current_encoder
from index.errors import DamagedData, StateError
from index.files.durable import write_text_atomically
from index.tables.store import Store
from index.vectors.generation import list_generations, load_generation, read_manifest
from index.vectors.publication import fetch, publish
from index.workspace import Workspace, current, previous, set_current


@dataclass(frozen=True, slots=True)
class Switched:
    """What is in use now.

    Attributes:
        encoder_id: the encoder in use.
        generation: the index in use.
        head_id: that classifies; empty where this encoder has none yet.
        left_behind: the encoder that served before; empty where none did.
        missing_clips: clips of that one that the new encoder has not embedded.
    """

    encoder_id: str
    generation: str
    head_id: str
    left_behind: str
    missing_clips: int


def switch(workspace: Workspace, encoder_id: str, *, force: bool = False) -> Switched:
    """Use another encoder, with its index and its head.

    Args:
        workspace: the workspace.
        encoder_id: of an installed encoder whose clips are stored and indexed.
        force: also when it has not embedded all clips of the one that serves.

    Raises:
        NotFound: If there is no such encoder, or it has no clips.
        StateError: If it has no index, or lacks clips of the one that serves and is not forced.
        DamagedData: If a file of it is not what was saved.
    """
    current_encoder(workspace.encoders, encoder_id)
    fetch(workspace, everything=True)
    old, store = _serving(workspace), Store(workspace)
    has = store.clip_ids(encoder_id)
    missing = len(store.clip_ids(old) - has) if old in store.encoder_ids() else 0
    if missing and not force:
        raise StateError(
            f"encoder {encoder_id} has not embedded {missing} clips of the one that serves: run `semiome encode` with "
            f"--encoder {encoder_id}, or insist with --force"
        )
    generation = _generation_of(workspace, encoder_id)
    load_generation(workspace.generations, generation)
    head_id = _head_of(workspace, encoder_id)
    publish(workspace, generation, force=force)
    if head_id and current(workspace.heads) != head_id:
        set_current(workspace.heads, head_id)
    if old and old != encoder_id:
        write_text_atomically(workspace.encoders / "PREVIOUS", old + "\n")  # not one that was only imported since
    write_text_atomically(workspace.encoders / "CURRENT", encoder_id + "\n")
    return Switched(encoder_id, generation, head_id, old, missing)


def switch_back(workspace: Workspace) -> Switched:
    """Use the encoder that was in use before; a second call undoes it.

    Raises:
        StateError: If there is none.
    """
    before = previous(workspace.encoders)
    if before is None:
        raise StateError("no encoder was in use before: name one with `semiome encoder use`")
    return switch(workspace, before, force=True)


def _serving(workspace: Workspace) -> str:
    """The encoder whose index serves: one that was just imported is in use for encoding already."""
    name = current(workspace.generations)
    return _encoder_of(workspace.generations, name) if name else ""


def _encoder_of(folder: Path, generation: str) -> str:
    """Whose clips a generation holds; empty where it can't be read, which must not keep others from serving."""
    try:
        return read_manifest(folder, generation).encoder_id
    except DamagedData:
        return ""


def _generation_of(workspace: Workspace, encoder_id: str) -> str:
    """The one that served last of this encoder, or else its newest."""
    folder = workspace.generations
    names = list_generations(folder)
    of_it = [name for name in names if _encoder_of(folder, name) == encoder_id]
    for name in (current(folder), previous(folder), *reversed(of_it)):
        if name in of_it:
            return str(name)
    raise StateError(
        f"encoder {encoder_id} has no index: build one with `semiome index build --encoder {encoder_id} --no-publish`"
    )


def _head_of(workspace: Workspace, encoder_id: str) -> str:
    """The one that was in use last of this encoder, or else the newest; empty where there is none."""
    folder = workspace.heads
    if not folder.is_dir():
        return ""
    there = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for name in (current(folder), previous(folder), *(path.name for path in reversed(there))):
        if name is None:
            continue
        try:
            if load_head(folder, name).card.encoder_id == encoder_id:
                return name
        except DamagedData:
            continue
    return ""
