"""From one encoder to another, and back: encoder, index and head change together.

Both encoders' clips stay side by side in the store, so that going back needs nothing but this again.
"""

from __future__ import annotations

from dataclasses import dataclass

from encoder.head import load_head
from encoder.weights import current_encoder
from index.errors import DamagedData, StateError
from index.generation import list_generations, load_generation, publish, read_manifest
from index.store import Store
from index.workspace import Workspace, current, previous, set_current


@dataclass(frozen=True, slots=True)
class Switched:
    """What is in use now.

    Attributes:
        encoder_id: that embeds.
        generation: that serves.
        head_id: that classifies; empty where this encoder has none yet.
        left_behind: the encoder that was in use before.
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
        workspace: where.
        encoder_id: of an installed encoder whose clips are stored and indexed.
        force: also when it has not embedded all clips of the one in use.

    Raises:
        NotFound: no such encoder, or it has no clips.
        StateError: it has no index, or fewer clips than the one in use and nobody insists.
        DamagedData: a file of it is not what was saved.
    """
    current_encoder(workspace.encoders, encoder_id)
    old, store = current(workspace.encoders) or "", Store(workspace)
    has = set(store.clips(encoder_id).clips.clip_ids.to_pylist())
    missing = 0
    if old and old in store.encoder_ids():
        missing = len(set(store.clips(old).clips.clip_ids.to_pylist()) - has)
    if missing and not force:
        raise StateError(
            f"encoder {encoder_id} has not embedded {missing} clips of the one in use: run `semiome encode --encoder "
            f"{encoder_id}`, or insist with --force"
        )
    generation = _generation_of(workspace, encoder_id)
    load_generation(workspace.generations, generation)
    head_id = _head_of(workspace, encoder_id)
    publish(workspace.generations, generation, force=force)
    if head_id and current(workspace.heads) != head_id:
        set_current(workspace.heads, head_id)
    if old != encoder_id:
        set_current(workspace.encoders, encoder_id)
    return Switched(encoder_id, generation, head_id, old, missing)


def switch_back(workspace: Workspace) -> Switched:
    """Use the encoder that was in use before; a second call undoes it.

    Raises:
        StateError: there is none.
    """
    before = previous(workspace.encoders)
    if before is None:
        raise StateError("no encoder was in use before: name one with `semiome encoder use`")
    return switch(workspace, before, force=True)


def _generation_of(workspace: Workspace, encoder_id: str) -> str:
    """The one that served last of this encoder, or else its newest."""
    folder = workspace.generations
    names = list_generations(folder)
    of_it = [name for name in names if read_manifest(folder, name).encoder_id == encoder_id]
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
