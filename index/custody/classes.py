"""Changing what a workspace tells seizures apart into: never so that a stored label is none of the classes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from index.errors import StateError
from index.feedback.store import FeedbackStore
from index.semiology import Classes
from index.tables.store import Store
from index.words import counted
from index.workspace import CLASSES


def set_classes(store: Store, classes: Classes) -> None:
    """Make these the classes of a store's workspace.

    Raises:
        StateError: If videos are stored, or called by a person, with a label that is none of them.
        Locked: If another process is writing.
    """
    with store.writing() as still_mine:
        if lost := lost_labels(store, classes):
            raise StateError(
                f"stored are {lost}: keep these names beside the new ones, encode the manifest with its new labels, "
                "take back statements with the old ones on the review page, and leave the old names out then"
            )
        still_mine()
        text = json.dumps({"names": classes.names, "positive": classes.positive}, indent=2)
        store.workspace.place.write(CLASSES, text.encode() + b"\n")


def lost_labels(store: Store, classes: Classes) -> str:
    """Say in words which labels of videos, and of feedback, are none of these classes; nothing where there is none."""
    videos = store.videos().values() if store.exists() else ()
    told = {"video": (video.label for video in videos), "piece of feedback|pieces of feedback": _said(store)}
    lost = [
        f"{counted(count, noun)} labelled {label}"
        for noun, labels in told.items()
        for label, count in sorted(Counter(labels).items())
        if label and label not in classes.names
    ]
    return ", ".join(lost)


def _said(store: Store) -> Iterator[str]:
    return (one.label for one in FeedbackStore(store.workspace).each())
