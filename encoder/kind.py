"""Where an encoder's weights come from, in one word that goes with every answer: what its neighbours are worth."""

from __future__ import annotations

import json
from pathlib import Path

from index.files import is_plain

KINDS = ("random", "simulated", "pretrained", "imported")
"""Random initial weights; weights that have seen drawn patients only; pretrained here; brought from elsewhere."""

_WEIGHTS = "model.safetensors"
_MOST_HEADER_BYTES = 2**26


def kind_of(origin: str, *, trained: bool) -> str:
    """The kind of an encoder.

    Args:
        origin: the line of its card on where the weights come from, see `encoder.weights.Encoder`.
        trained: False for random initial weights.
    """
    if not trained:
        return "random"
    _, pretrained, last = origin.rpartition("; pretrained")
    if "simulated" in (last if pretrained else origin):
        return "simulated"
    return "pretrained" if pretrained else "imported"


def stored_kind(encoders: Path, encoder_id: str) -> str:
    """The kind of a workspace's encoder, by the header of its weights alone; empty where it is not on this host."""
    if not is_plain(encoders / encoder_id / _WEIGHTS):
        return ""
    try:
        with (encoders / encoder_id / _WEIGHTS).open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _MOST_HEADER_BYTES)))
        about = header.get("__metadata__", {})
        return kind_of(str(about.get("origin", "")), trained=about.get("trained", "true") == "true")
    except (OSError, ValueError, AttributeError):
        return ""


def what_it_means(kind: str) -> str:
    """What people should know before they trust an answer; empty where nothing has to be said."""
    if kind == "random":
        return "the encoder has random weights, so its neighbours and verdicts mean nothing"
    if kind == "simulated":
        return "the encoder has seen simulated patients only: its neighbours and verdicts are for trying things out"
    return ""
