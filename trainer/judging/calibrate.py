"""How sure a head may be: temperature, and sets of classes that keep their promise for new patients.

Both are taken from verdicts on patients the judge had not seen. The patient is the unit: videos of one patient resemble
each other, so a hundred videos of five patients say what five say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from encoder.head import LARGEST_TEMPERATURE, Conformal, Head, probabilities_of, vote
from index.errors import InvalidInput
from index.records import Clip
from index.semiology import PAPER, Classes
from trainer.judging.folds import Fold, patient_folds
from trainer.judging.head import HeadConfig, LabelledClips, fit
from trainer.judging.metrics import Prediction

_DEFAULT_ALPHA = 0.1
_FOLDS = 5
_LEAST_PATIENTS = 2


def temperature(logits_NC: NDArray[np.float64], targets_N: NDArray[np.int64]) -> float:
    """The number that out-of-fold logits are divided by to become calibrated (Guo et al., 2017).

    Targets are moved a little toward each other, as Platt (1999) does with two classes: clips that are told apart
    perfectly are no reason to be certain. What a clip's own class gives up is shared by the others.

    Args:
        logits_NC: of each clip, by a judge that did not see its patient.
        targets_N: number of its class.
    """
    logits = torch.from_numpy(np.asarray(logits_NC, np.float64))
    classes = logits.shape[1]
    lacking = 1 / (np.bincount(targets_N, minlength=classes)[targets_N] + 2)
    own = np.eye(classes)[targets_N]
    target = torch.from_numpy(own * (1 - lacking)[:, None] + (1 - own) * (lacking / (classes - 1))[:, None])
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(logits / log_temperature.exp(), target)
        found.backward()
        return found

    optimiser.step(loss)
    # Judges that are wrong as often as right would be divided by infinity.
    limit = math.log(LARGEST_TEMPERATURE)
    return math.exp(min(max(log_temperature.item(), -limit), limit))


def calibrated(head: Head, data: LabelledClips, config: HeadConfig, alpha: float | None = None) -> Head:
    """The same head with a temperature, and conformal limits where the patients allow them.

    Both come from heads trained in the same way on other patients of the same clips.

    Args:
        head: trained by `train_head` on `data`.
        data: what it was trained on; its held-out patients are left out here too.
        config: how it was trained.
        alpha: how often a set may miss. By default 0.1 where there are patients enough, else no sets.

    Raises:
        InvalidInput: If the patients can't support the alpha that was asked for.
    """
    kept_out = set(head.card.held_out_patients)
    rows = [row for row, clip in enumerate(data.clips) if clip.patient_id not in kept_out]
    clips, labels = [data.clips[row] for row in rows], [data.labels[row] for row in rows]
    patients: dict[str, set[str]] = {}
    for clip, label in zip(clips, labels, strict=True):
        patients.setdefault(clip.patient_id, set()).add(label)
    fewest = min(sum(label in found for found in patients.values()) for label in data.classes.names)
    if fewest < _LEAST_PATIENTS:
        if alpha is not None:
            raise InvalidInput(f"expected {_LEAST_PATIENTS} patients of each class to calibrate on, got {fewest}")
        return head
    targets = np.array([data.classes.number(label) for label in labels], np.int64)
    folds = patient_folds(patients, min(_FOLDS, fewest), config.seed, data.classes)
    logits = _unseen_logits(data.vectors[rows], targets, [clip.patient_id for clip in clips], folds, config)
    card = replace(head.card, temperature=temperature(logits, targets))
    if alpha is not None or fewest >= needed_patients(_DEFAULT_ALPHA):
        videos = _videos(clips, labels, probabilities_of(logits, card.temperature), data.classes)
        card = replace(card, conformal=conformal(videos, _DEFAULT_ALPHA if alpha is None else alpha, data.classes))
    return Head(head.layers, card)


def _unseen_logits(
    vectors: NDArray[np.float32],
    targets: NDArray[np.int64],
    patient_of: Sequence[str],
    folds: Sequence[Fold],
    config: HeadConfig,
) -> NDArray[np.float64]:
    """(N, C) logits of each clip, by a head that did not see its patient."""
    logits = np.zeros((len(vectors), targets.max() + 1))
    for fold in folds:
        test = np.isin(patient_of, fold.test)
        model = fit(np.ascontiguousarray(vectors[~test]), targets[~test], config).eval()
        with torch.inference_mode():
            logits[test] = model(torch.from_numpy(np.ascontiguousarray(vectors[test]))).double().numpy()
    return logits


def _videos(
    clips: Sequence[Clip], labels: Sequence[str], probabilities_NC: NDArray[np.float64], classes: Classes
) -> list[Prediction]:
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows.setdefault(clip.video_id, []).append(row)
    predictions = []
    for video_id, of_video in rows.items():
        verdict = vote(probabilities_NC[of_video], classes.names)
        first = of_video[0]
        predictions.append(
            Prediction(video_id, clips[first].patient_id, labels[first], verdict.label, verdict.probabilities)
        )
    return predictions


def needed_patients(alpha: float) -> int:
    """Patients of a class that a set which misses with probability `alpha` needs at least."""
    return math.ceil(round(1 / alpha - 1, 9))


def conformal(predictions: Sequence[Prediction], alpha: float, classes: Classes = PAPER) -> Conformal:
    """Class-conditional conformal limits with the patient as the unit (Vovk, 2012, "Mondrian").

    A patient's score is that of the video that fits the true class worst. So with probability 1 - alpha or more, the
    sets of all videos of a new patient of a class hold that class, if the patient is like those seen and judged by the
    same judge. `calibrated` takes the scores from heads trained on the other folds, so that for the head trained on all
    patients the promise holds approximately.

    Args:
        predictions: on patients the judge had not seen.
        alpha: how often a set may miss.
        classes: that there are.

    Raises:
        InvalidInput: If alpha is not between 0 and 1, or a class has too few patients for it.
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"expected an alpha between 0 and 1, got {alpha}")
    worst: dict[str, dict[str, float]] = {label: {} for label in classes.names}
    for prediction in predictions:
        of_class = worst[prediction.truth]
        missing = 1 - prediction.probabilities[classes.number(prediction.truth)]
        of_class[prediction.patient_id] = max(missing, of_class.get(prediction.patient_id, 0.0))
    needed = needed_patients(alpha)
    if min(map(len, worst.values())) < needed:
        counts = " and ".join(f"{len(of_class)} with {label}" for label, of_class in worst.items())
        fewest = min(map(len, worst.values()))
        raise InvalidInput(
            f"alpha {alpha:g} needs {needed} patients of each class, got {counts}"
            + (f": the least these allow is {1 / (fewest + 1):.3g}" if fewest else "")
        )
    limits = []
    for of_class in worst.values():
        scores = sorted(of_class.values())
        limits.append(scores[math.ceil(round((len(scores) + 1) * (1 - alpha), 9)) - 1])
    return Conformal(alpha, tuple(limits), tuple(map(len, worst.values())))
