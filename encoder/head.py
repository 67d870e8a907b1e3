"""The head on the frozen encoder: embedding to class probabilities, clip votes to a video's verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder import cards
from index.errors import EncoderMismatch, InvalidInput
from index.records import ClipVerdict, Verdict

_KIND = cards.Kind("head", "head.safetensors", "semiome head train")
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
    limits: tuple[float, ...]
    patients: tuple[int, ...]

    def prediction_set(self, verdict: Verdict) -> tuple[str, ...]:
        """Classes that a verdict can't exclude: one, several (abstain) or none (unlike anything)."""
        told = zip(verdict.classes, verdict.probabilities, self.limits, strict=True)
        return tuple(name for name, probability, limit in told if 1 - probability <= limit)


@dataclass(frozen=True, slots=True)
class HeadCard:
    """What a head says of itself.

    Attributes:
        widths: layer widths from the embedding to the classes.
        class_names: in the order of the outputs.
        threshold: always 0.5; kept since it is part of the ids of heads.
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
        if not len(card.class_names) == card.widths[-1] >= 2:
            raise ValueError(f"expected a name for each of {card.widths[-1]} classes, got {len(card.class_names)}")
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
        return vote(self.probabilities(vectors_ND), self.card.class_names)

    def probabilities(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, C) probabilities of the classes for (N, D) embeddings."""
        return probabilities_of(self.logits(vectors_ND), self.card.temperature)

    def logits(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, C) logits of the classes for (N, D) embeddings, before calibration."""
        expected = self.card.widths[0]
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != expected or not len(vectors_ND):
            raise InvalidInput(f"expected vectors (N, {expected}) with N of at least 1, got {vectors_ND.shape}")
        values = np.asarray(vectors_ND, np.float32)
        for number in range(len(self.card.widths) - 1):
            if number:
                values = np.maximum(values, 0)
            name = _layer_name(number)
            values = values @ self.layers[f"{name}.weight"].T + self.layers[f"{name}.bias"]
        return values.astype(np.float64)


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


def probabilities_of(logits_NC: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """(N, C) calibrated probabilities: the softmax of the logits divided by the temperature (Guo et al., 2017)."""
    # Less the largest of them, no exponential overflows.
    scaled_NC = np.exp((logits_NC - logits_NC.max(axis=1, keepdims=True)) / temperature)
    probabilities: NDArray[np.float64] = scaled_NC / scaled_NC.sum(axis=1, keepdims=True)
    return probabilities


def most_likely(values_NC: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) number of the largest value of each row; of equal ones the last, as 0.5 counts for the second of two."""
    last: NDArray[np.intp] = values_NC.shape[1] - 1 - np.argmax(values_NC[:, ::-1], axis=1)
    return last


def elected(votes_NC: NDArray[np.int64], means_NC: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) number of the class with the most votes; between classes with as many, the mean probability decides."""
    leads = votes_NC == votes_NC.max(axis=1, keepdims=True)
    return most_likely(np.where(leads, means_NC, -np.inf))


def vote(probabilities_NC: NDArray[np.float64], classes: tuple[str, ...]) -> Verdict:
    """The verdict on a video whose clips have these probabilities.

    Each clip votes for its most likely class, and the class with the most votes is the video's; see `elected`.
    """
    choices = most_likely(probabilities_NC)
    clips = tuple(
        ClipVerdict(tuple(values), classes[choice])
        for values, choice in zip(probabilities_NC.tolist(), choices.tolist(), strict=True)
    )
    votes, means = np.bincount(choices, minlength=len(classes)), probabilities_NC.mean(axis=0)
    label = classes[int(elected(votes[None], means[None])[0])]
    tie = int((votes == votes.max()).sum()) > 1
    return Verdict(label, classes, tuple(means.tolist()), tuple(votes.tolist()), tie, clips)


def _conformal(values: dict[str, Any] | None) -> Conformal | None:
    return None if values is None else Conformal(values["alpha"], tuple(values["limits"]), tuple(values["patients"]))


def save_head(head: Head, folder: Path) -> None:
    """Write a head into `folder/<head id>`: safetensors, and its card as JSON."""
    cards.save(_KIND, folder, head.head_id, head.card, head.layers)


def load_head(folder: Path, head_id: str | None = None) -> Head:
    """The head in use in a folder of heads, or the one named.

    Raises:
        StateError: If none is in use.
        NotFound: If there is no head of that id.
        DamagedData: If its files are not those that gave it its id.
    """
    return cards.load(_KIND, folder, head_id, _put_together)


def _put_together(values: dict[str, Any], layers: cards.Arrays) -> tuple[str, Head]:
    lists: dict[str, Any] = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    head = Head(layers, HeadCard(**{**values, **lists, "conformal": _conformal(values.get("conformal"))}))
    return head.head_id, head
