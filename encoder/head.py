"""The head on the frozen encoder: embedding to class probabilities, clip votes to a video's verdict."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from index.errors import DamagedData, EncoderMismatch, InvalidInput, NotFound, StateError, shown_id
from index.files.durable import small_file, write_atomically, write_text_atomically
from index.files.failures import unreadable
from index.records import LABELS, ClipVerdict, Verdict
from index.workspace import current

_WEIGHTS, _CARD = "head.safetensors", "card.json"
_MOST_BYTES = 2**26
POSITIVE = LABELS.index("exTLE")
LARGEST_TEMPERATURE = 100.0
"""Bound of calibration. A head whose out-of-fold logits say nothing would be divided by infinity."""


@dataclass(frozen=True, slots=True)
class Conformal:
    """Sets of classes that hold the true one for all videos of a new patient with probability of about 1 - alpha.

    Attributes:
        alpha: how often a set may miss.
        limits: for each of the card's classes, the largest 1 - P(class) at which the class is in the set.
        patients: of each class, that the limits were taken from.
    """

    alpha: float
    limits: tuple[float, float]
    patients: tuple[int, int]

    def prediction_set(self, probability: float) -> tuple[str, ...]:
        """Classes that can't be excluded at a probability of exTLE: one, both (abstain) or none (unlike anything)."""
        other = (probability, 1 - probability)  # of all but TLE, of all but exTLE
        return tuple(name for name, rest, limit in zip(LABELS, other, self.limits, strict=True) if rest <= limit)


@dataclass(frozen=True, slots=True)
class HeadCard:
    """What a head says of itself.

    Attributes:
        widths: layer widths from the embedding to the classes.
        class_names: in the order of the outputs.
        threshold: probability of exTLE from which a clip votes exTLE.
        temperature: the logits are divided by it; 1 where nothing was calibrated.
        encoder_id: whose embeddings it reads.
        training_sha256: digest over the clips, labels and vectors it was trained on.
        clips: how many those were.
        videos: of how many videos.
        patients: of how many patients.
        held_out_patients: left out of training, for evaluation; in a workspace's heads as keyed hashes.
        seed: of initial weights and batches.
        epochs: passes over the clips.
        conformal: how sure a verdict must be to stand alone; None where too few patients allow no such statement.
        training_patients: whom it learned from; in a workspace's heads as keyed hashes. None in heads of version 0.1.
        from_onset_s: of each seizure whose onset is known it learned, and judges, the first seconds only; None for all
            of it.
        outside_seizure: how many clips of labelled videos, of those held out too, it did not learn from for that; None
            for none.
    """

    widths: tuple[int, ...]
    class_names: tuple[str, ...]
    threshold: float
    temperature: float
    encoder_id: str
    training_sha256: str
    clips: int
    videos: int
    patients: int
    held_out_patients: tuple[str, ...]
    seed: int
    epochs: int
    conformal: Conformal | None = None
    training_patients: tuple[str, ...] | None = None
    from_onset_s: float | None = None
    outside_seizure: int | None = None

    @property
    def separates_nothing(self) -> bool:
        """Whether calibration ended at its bound: out-of-fold logits of the two classes do not differ."""
        return self.temperature >= LARGEST_TEMPERATURE


class Head:
    """A trained head with its card and id: linear layers with ReLU between them. Safe to share between threads.

    It is evaluated in NumPy, so that a server that only searches and judges never loads torch.

    Attributes:
        layers: float32 weights (outputs, inputs) and biases (outputs,), named as in the file: `layers.0.weight`, ….
        card: what it says of itself.
        head_id: digest of both.
    """

    def __init__(self, layers: Mapping[str, NDArray[np.float32]], card: HeadCard) -> None:
        """Put layers and card together.

        Raises:
            ValueError: If the layers are not those of the card's widths.
        """
        _check_layers(layers, card.widths)
        self.layers = dict(layers)
        self.card = card
        # What a card does not say is not in its digest: a new field changes no old head's id.
        said = {key: value for key, value in asdict(card).items() if value is not None}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        for name, values in sorted(self.layers.items()):
            digest.update(name.encode() + values.tobytes())
        self.head_id = digest.hexdigest()[:16]

    def classify(self, vectors_ND: NDArray[np.float32], encoder_id: str) -> Verdict:
        """The verdict on clips of one video (or on one clip); see `vote`.

        Args:
            vectors_ND: (N, D) embeddings, N >= 1.
            encoder_id: which encoder made them.

        Raises:
            EncoderMismatch: If they are of another encoder than the head.
        """
        if encoder_id != self.card.encoder_id:
            raise EncoderMismatch(f"head {self.head_id}", self.card.encoder_id, encoder_id)
        return vote(self.probabilities(vectors_ND), self.card.threshold)

    def probabilities(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of exTLE for each of (N, D) embeddings."""
        return probabilities_of(self.log_odds(vectors_ND), self.card.temperature)

    def log_odds(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log odds of exTLE for each of (N, D) embeddings, before calibration."""
        expected = self.card.widths[0]
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != expected or not len(vectors_ND):
            raise InvalidInput(f"expected vectors (N, {expected}) with N of at least 1, got {vectors_ND.shape}")
        values = np.asarray(vectors_ND, np.float32)
        for number in range(len(self.card.widths) - 1):
            if number:
                values = np.maximum(values, 0)
            name = _layer_name(number)
            values = values @ self.layers[f"{name}.weight"].T + self.layers[f"{name}.bias"]
        odds: NDArray[np.float64] = values[:, POSITIVE].astype(np.float64) - values[:, 1 - POSITIVE]
        return odds


def _layer_name(number: int) -> str:
    """Name of a linear layer in the file; the odd numbers are the ReLUs between them."""
    return f"layers.{2 * number}"


def _check_layers(layers: Mapping[str, NDArray[np.float32]], widths: tuple[int, ...]) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        expected |= {f"{_layer_name(number)}.weight": (outputs, inputs), f"{_layer_name(number)}.bias": (outputs,)}
    shapes = {name: values.shape for name, values in layers.items()}
    if shapes != expected or any(values.dtype != np.float32 for values in layers.values()):
        raise ValueError(f"expected float32 layers {expected}, got {shapes}")


def probabilities_of(log_odds_N: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Calibrated probabilities of exTLE: the sigmoid of the log odds divided by the temperature (Guo et al., 2017)."""
    # 0.5 (1 + tanh(x / 2)) is the sigmoid of x and overflows for no x.
    probabilities: NDArray[np.float64] = 0.5 * (1 + np.tanh(log_odds_N / (2 * temperature)))
    return probabilities


def vote(probabilities_N: NDArray[np.float64], threshold: float = 0.5) -> Verdict:
    """The verdict on a video whose clips are exTLE with these probabilities.

    A clip votes exTLE when its probability reaches the threshold. The majority decides; on a tie the mean probability
    against the threshold does.
    """

    def label_of(probability: float) -> str:
        return LABELS[POSITIVE] if probability >= threshold else LABELS[1 - POSITIVE]

    clips = tuple(ClipVerdict(p, label_of(p)) for p in probabilities_N.tolist())
    positive = sum(clip.label == LABELS[POSITIVE] for clip in clips)
    votes = (len(clips) - positive, positive)
    mean = float(probabilities_N.mean())
    tie = votes[0] == votes[1]
    label = label_of(mean) if tie else LABELS[int(votes[1] > votes[0])]
    return Verdict(label, mean, votes, tie, clips)


def _conformal(values: dict[str, Any] | None) -> Conformal | None:
    return None if values is None else Conformal(values["alpha"], tuple(values["limits"]), tuple(values["patients"]))


def save_head(head: Head, folder: Path) -> None:
    """Write a head into `folder/<head id>`: safetensors, and its card as JSON."""
    target = folder / head.head_id
    target.mkdir(parents=True, exist_ok=True)
    write_text_atomically(target / _CARD, json.dumps(asdict(head.card), indent=2) + "\n")
    write_atomically(target / _WEIGHTS, lambda path: safetensors.numpy.save_file(head.layers, path))


def load_head(folder: Path, head_id: str | None = None) -> Head:
    """The head in use in a folder of heads, or the one named.

    Raises:
        StateError: If none is in use.
        NotFound: If there is no head of that id.
        DamagedData: If its files are not those that gave it its id.
    """
    name = head_id or current(folder)
    if name is None:
        raise StateError("this workspace has no head: train one with `semiome head train`")
    if not re.fullmatch("[0-9a-f]{16}", name) or not (folder / name).is_dir():
        raise NotFound(f"head {shown_id(name)} is not in this workspace: check the id")
    try:
        values: dict[str, Any] = json.loads(small_file(folder / name / _CARD, _MOST_BYTES))
        lists: dict[str, Any] = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        card = HeadCard(**{**values, **lists, "conformal": _conformal(values.get("conformal"))})
        head = Head(safetensors.numpy.load(small_file(folder / name / _WEIGHTS, _MOST_BYTES)), card)
    except (
        *(OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError),
        AttributeError,  # a card that is no object, or weights of a type that NumPy does not have
    ) as error:
        raise unreadable(error, f"head {name} can't be read ({type(error).__name__}): train it again") from None
    if head.head_id != name:
        raise DamagedData(f"head {name} is not what was saved: train it again")
    return head
