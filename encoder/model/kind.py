"""Where an encoder's weights come from, in one word that goes with every answer: what its neighbours are worth."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

from index.errors import DamagedData
from index.files.durable import is_plain, small_file

KINDS = ("random", "simulated", "pretrained", "imported")
"""Random initial weights; weights that have seen drawn patients only; pretrained here; brought from elsewhere."""

_WEIGHTS = "model.safetensors"
_MOST_HEADER_BYTES = 2**26


def kind_of(origin: str, *, trained: bool) -> str:
    """The kind of an encoder.

    Args:
        origin: the line of its card on where the weights come from, see `encoder.model.identity.Encoder`.
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


def stored_backbone(encoders: Path, encoder_id: str) -> str:
    """What model a workspace's encoder is, as transformers names its type; empty where it is not on this host."""
    try:
        return str(json.loads(small_file(encoders / encoder_id / "config.json"))["model_type"])[:64]
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def check_stored(encoders: Path, encoder_id: str) -> None:
    """Check that a workspace's encoder is there, its weights as long as they say; to check their values takes torch.

    Raises:
        DamagedData: If they are not.
    """
    path = encoders / encoder_id / _WEIGHTS
    try:
        with path.open("rb") if is_plain(path) else nullcontext() as stream:
            if stream is None:
                raise ValueError
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _MOST_HEADER_BYTES)))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            whole = path.stat().st_size == 8 + size + max(ends)
        json.loads(small_file(encoders / encoder_id / "config.json"))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        whole = False
    if not whole:
        raise DamagedData(f"encoder {encoder_id} is not what was saved: import it again")


def what_it_means(kind: str) -> str:
    """What people should know before they trust an answer; empty where nothing has to be said."""
    if kind == "random":
        return "the encoder has random weights, so its neighbours and verdicts mean nothing"
    if kind == "simulated":
        return "the encoder has seen simulated patients only: its neighbours and verdicts are for trying things out"
    return ""
