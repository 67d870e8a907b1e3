"""Changing what a workspace tells seizures apart into: never so that a stored label is none of the classes."""

from __future__ import annotations

import json
from collections import Counter

from index.errors import StateError
from index.semiology import Classes
from index.tables.store import Store
from index.words import counted
from index.workspace import CLASSES


def set_classes(store: Store, classes: Classes) -> None:
    """Make these the classes of a store's workspace.

    Raises:
        StateError: If videos are stored with a label that is none of them.
        Locked: If another process is writing.
    """
    with store.writing() as still_mine:
        if lost := lost_labels(store, classes):
            raise StateError(
                f"stored are {lost}: keep these names beside the new ones, encode the manifest with its new labels, "
                "and leave the old names out then"
            )
        still_mine()
        text = json.dumps({"names": classes.names, "positive": classes.positive}, indent=2)
        store.workspace.place.write(CLASSES, text.encode() + b"\n")


def lost_labels(store: Store, classes: Classes) -> str:
    """Say in words which stored labels are none of these classes; nothing where there is none."""
    videos = store.videos().values() if store.exists() else ()
    stored = Counter(video.label for video in videos if video.label)
    lost = sorted((label, count) for label, count in stored.items() if label not in classes.names)
    return ", ".join(f"{counted(count, 'video')} labelled {label}" for label, count in lost)
