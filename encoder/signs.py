"""Sign heads: how probable each sign is in each clip, by a linear layer on the frozen encoder, and where signs lie.

As `encoder.head`, evaluated in NumPy. A sign that too few patients show, or that is told no better than by chance, is
not judged at all: its name is kept with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder import cards
from index.errors import EncoderMismatch, InvalidInput
from index.records import Clip
from index.semiology import LearnedSign, Stretch

_KIND = cards.Kind("sign heads", "signs.safetensors", "semiome signs train", several=True)
PROBABLE = 0.5
"""From this probability on, a clip counts as showing a sign."""


@dataclass(frozen=True, slots=True)
class SignsCard:
    """What sign heads say of themselves.

    Attributes:
        encoder_id: whose embeddings they read.
        signs: that are judged, in the order of the outputs.
        not_judged: the others that are tagged, each with the reason.
        training_sha256: digest over the clips, tags and vectors they learned from.
        clips: how many those were.
        videos: of how many videos.
        patients: of how many patients.
        seed: of the folds.
        training_patients: whom they learned from, as keyed hashes.
        held_out_patients: left out of training, as keyed hashes.
    """

    encoder_id: str
    signs: tuple[LearnedSign, ...]
    not_judged: tuple[tuple[str, str], ...]
    training_sha256: str
    clips: int
    videos: int
    patients: int
    seed: int
    training_patients: tuple[str, ...] = ()
    held_out_patients: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the signs that are judged."""
        return tuple(sign.name for sign in self.signs)


class SignHeads:
    """Sign heads with their card and id; safe to share between threads.

    Attributes:
        weights_SD: (S, D) float32, calibrated.
        bias_S: (S,) float32.
        card: what they say of themselves.
        signs_id: digest of all three.
    """

    def __init__(self, weights_SD: NDArray[np.float32], bias_S: NDArray[np.float32], card: SignsCard) -> None:
        """Put weights and card together.

        Raises:
            ValueError: If the weights are not those of the card's signs.
        """
        signs = len(card.signs)
        fits = weights_SD.ndim == 2 and (len(weights_SD), bias_S.shape) == (signs, (signs,))
        if not fits or {weights_SD.dtype, bias_S.dtype} != {np.dtype(np.float32)}:
            raise ValueError(f"expected float32 weights of {signs} signs, got {weights_SD.shape} and {bias_S.shape}")
        self.weights_SD, self.bias_S, self.card = weights_SD, bias_S, card
        digest = hashlib.sha256(json.dumps(asdict(card), sort_keys=True).encode())
        digest.update(weights_SD.tobytes() + bias_S.tobytes())
        self.signs_id = digest.hexdigest()[:16]

    def probabilities(self, vectors_ND: NDArray[np.float32], encoder_id: str) -> NDArray[np.float32]:
        """(N, S) probabilities that clips show each sign.

        Raises:
            EncoderMismatch: If the embeddings are of another encoder.
            InvalidInput: If they have another width.
        """
        if encoder_id != self.card.encoder_id:
            raise EncoderMismatch(f"sign heads {self.signs_id}", self.card.encoder_id, encoder_id)
        width = self.weights_SD.shape[1]
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != width:
            raise InvalidInput(f"expected vectors (N, {width}), got {vectors_ND.shape}")
        odds = np.asarray(vectors_ND, np.float32) @ self.weights_SD.T + self.bias_S
        probabilities: NDArray[np.float32] = (0.5 * (1 + np.tanh(odds / 2))).astype(np.float32)
        return probabilities


def stretches(clips: Sequence[Clip], probabilities_N: NDArray[np.float32]) -> list[Stretch]:
    """Where a sign is probable in a video: clips that do so and touch or overlap, taken together, in time.

    Args:
        clips: of one video, in time.
        probabilities_N: that each shows the sign.
    """
    found: list[Stretch] = []
    for clip, probability in zip(clips, probabilities_N.tolist(), strict=True):
        if probability < PROBABLE:
            continue
        end_s = clip.start_s + clip.valid_seconds
        if found and clip.start_s <= found[-1].end_s:
            last = found[-1]
            found[-1] = Stretch(last.start_s, max(last.end_s, end_s), max(last.probability, probability))
        else:
            found.append(Stretch(clip.start_s, end_s, probability))
    return found


def save_signs(heads: SignHeads, folder: Path) -> None:
    """Write sign heads into `folder/<id>`: safetensors, and their card as JSON."""
    cards.save(_KIND, folder, heads.signs_id, heads.card, {"weight": heads.weights_SD, "bias": heads.bias_S})


def load_signs(folder: Path, signs_id: str | None = None) -> SignHeads:
    """The sign heads in use in a folder of them, or those named.

    Raises:
        StateError: If none are in use.
        NotFound: If there are none of that id.
        DamagedData: If the files are not those that gave them their id.
    """
    return cards.load(_KIND, folder, signs_id, _put_together)


def _put_together(values: dict[str, Any], arrays: cards.Arrays) -> tuple[str, SignHeads]:
    lists = {key: tuple(values[key]) for key in ("training_patients", "held_out_patients")}
    signs = tuple(LearnedSign(**one) for one in values["signs"])
    left = tuple((str(sign), str(why)) for sign, why in values["not_judged"])
    card = SignsCard(**{**values, **lists, "signs": signs, "not_judged": left})
    heads = SignHeads(arrays["weight"], arrays["bias"], card)
    return heads.signs_id, heads
