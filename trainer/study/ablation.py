"""The paper's Table I for one's own cohort: four ways of pretraining and the baselines, on the same folds and clips."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoder.model.identity import Encoder
from index.errors import InvalidInput
from index.files.durable import write_text_atomically
from index.phases import FIRST_S, counted_rows
from index.records import Video
from trainer.backbones.baselines import BaselineConfig, recurrent_judge
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.classifiers import (
    Features,
    Judge,
    constant_judge,
    head_judge,
    logistic_judge,
    mean_image,
    motion_energy,
    neighbour_judge,
    sign_judge,
)
from trainer.judging.evaluate import commonest_class, cross_validate, judge_patients, labelled_patients
from trainer.judging.folds import Fold, patient_folds, patients_held_out
from trainer.judging.metrics import Difference, Prediction, Scores, difference, scores
from trainer.judging.sign_examples import signs_of_study
from trainer.judging.signs import BySigns
from trainer.pretraining.ranks import Ranks
from trainer.study.baseline_features import Baselines
from trainer.study.config import AblationConfig, Mode
from trainer.study.pretrained_encoders import SETTINGS, Embedded, Pretrained, Reporter, Setting, StudyClips


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was judged with.
        kind: `ours`, `baseline` or `reference`.
        mode: how pretraining and test patients are related.
        predictions: of the first seed, on each labelled video.
        scores: scores of those predictions.
        accuracy_by_seed: of each seed; one where there is nothing random.
        against_none: difference to the row without pretraining, None for that row itself.
        against_motion: difference to motion energy.
    """

    name: str
    kind: Literal["ours", "baseline", "reference"]
    mode: Mode
    predictions: tuple[Prediction, ...]
    scores: Scores
    accuracy_by_seed: tuple[float, ...]
    against_none: Difference | None = None
    against_motion: Difference | None = None


@dataclass(slots=True)
class Study:
    """All that an ablation found."""

    config: AblationConfig
    clips: tuple[TrainingClip, ...]
    rows: list[Row] = field(default_factory=list)
    settings: dict[Setting, Embedded] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The study as JSON: everything but the vectors."""
        return {
            "config": json.loads(self.config.model_dump_json()),
            "clips": len(self.clips),
            "patients": len({clip.patient_id for clip in self.clips}),
            "rows": [asdict(row) for row in self.rows],
            "settings": {
                name: {key: value for key, value in asdict(found).items() if key not in ("vectors", "log")}
                for name, found in self.settings.items()
            },
        }


def ablate(
    clips: StudyClips,
    start: Encoder,
    config: AblationConfig,
    folder: Path,
    config_folder: Path,
    ranks: Ranks,
    references: Mapping[str, Features] | None = None,
    reporter: Reporter | None = None,
    frozen: Mapping[str, Encoder] | None = None,
) -> Study | None:
    """Run the whole study. What was pretrained before, in the same folder, is not pretrained again.

    What can be refused is refused first: the cohort, the baselines' weights and snippets. Ranks pretrain and embed
    together; the first alone judges, and the others get None.

    Args:
        clips: the cohort.
        start: initial weights of all settings.
        config: the study's settings.
        folder: of the study; made.
        config_folder: where the configuration's paths begin.
        ranks: this process among the others.
        references: features that need no learning, as further rows.
        reporter: told how far it is.
        frozen: other encoders, each judged as it is under its name.

    Raises:
        InvalidInput: If the cohort does not allow the study.
        Leak: If something is on both sides of a split.
    """
    reporter = reporter or Reporter()
    judged = clips.judged
    for name, features in (references or {}).items():
        if len(features) != len(judged.clips):
            raise InvalidInput(f"expected {len(judged.clips)} rows of {name}, one a clip, got {len(features)}")
    study, classes = Study(config, judged.clips), config.told_apart
    outside, patients, folds = divided(judged.clips, config)
    baselines = Baselines(clips, config.baselines, config_folder, folder)
    encoders = Pretrained(clips, start, config.pretrain, folder, ranks, config.device, reporter)
    for setting in SETTINGS:
        encoders.make(setting, outside)
        for fold in folds if "inductive" in config.modes and setting != "none" else ():
            encoders.make(setting, outside | set(fold.test))
    others = {name: encoders.embedded_frozen(name, encoder) for name, encoder in (frozen or {}).items()}
    if ranks.rank > 0:
        return None
    for setting in SETTINGS:
        study.settings[setting] = encoders.embedded(setting, outside)
    features_of = {baseline: baselines.features(baseline, config.device, reporter) for baseline in config.baselines}
    cheap = {"motion energy": _each_clip(judged, motion_energy), "mean image": _each_clip(judged, mean_image)}
    for mode in config.modes:
        compare = _Comparison(study, mode, outside, patients)
        rows = [_our_row(setting, compare, encoders) for setting in SETTINGS]
        if compare.tells_when:
            rows.append(replace(_our_row("both", compare, encoders, early=True), name=f"both, first {FIRST_S} s"))
        both = _features("both", compare, encoders)
        rows.append(compare.row("both, logistic regression", "ours", both, lambda seed: logistic_judge, 1))
        by_signs = _by_signs(compare, encoders)
        if by_signs is not None:
            rows.append(compare.row("both, by its signs", "ours", by_signs, lambda seed: sign_judge, 1))
        for ours in ("none", "both"):
            embedded = _features(ours, compare, encoders)
            rows.append(compare.row(f"{ours}, 10 nearest clips", "ours", embedded, lambda seed: neighbour_judge, 1))
        for name, embedded in others.items():
            rows.append(_frozen_row(name, embedded, compare))
            rows.append(compare.row(f"{name}, 10 nearest clips", "ours", embedded, lambda seed: neighbour_judge, 1))
        for baseline in config.baselines:
            rows.append(_baseline_row(baseline, compare, *features_of[baseline]))
        for name, features in {**cheap, "duration alone": durations(judged.clips), **(references or {})}.items():
            rows.append(compare.row(name, "reference", features, lambda seed: logistic_judge, 1))
        commonest = commonest_class([clip for clip in judged.clips if clip.patient_id in patients], classes)
        always = partial(_constant, commonest)
        rows.append(compare.row("majority class", "reference", cheap["mean image"], always, 1))
        study.rows += _compared(rows)
    write_text_atomically(folder / "result.json", json.dumps(study.values(), indent=1) + "\n")
    return study


def divided(clips: Sequence[TrainingClip], config: AblationConfig) -> tuple[set[str], dict[str, set[str]], list[Fold]]:
    """External patients, the classes of the others, and folds of these.

    Args:
        clips: of the videos that are judged; one of each is enough.
        config: the study's settings.

    Raises:
        InvalidInput: If the cohort does not allow the study.
    """
    classes = config.told_apart
    outside = patients_held_out(((clip.patient_id, clip.split) for clip in clips), config.hold_out_split)
    patients = labelled_patients([clip for clip in clips if clip.patient_id not in outside], classes)
    folds = patient_folds(patients, config.folds, config.seed, classes) if config.modes != ("external",) else []
    if "external" in config.modes:
        labelled_patients([clip for clip in clips if clip.patient_id in outside], classes)
    return outside, patients, folds


def _constant(number: int, seed: int) -> Judge:  # noqa: ARG001  of any seed
    return constant_judge(number)


def _compared(rows: Sequence[Row]) -> list[Row]:
    """Each row with its difference to no pretraining and to motion energy."""
    none, motion = (next(row for row in rows if row.name == name) for name in ("none", "motion energy"))

    def against(row: Row, other: Row) -> Difference | None:
        return None if row is other else difference(row.predictions, other.predictions)

    return [replace(row, against_none=against(row, none), against_motion=against(row, motion)) for row in rows]


class _Comparison:
    """One mode's way to judge every labelled video of its test patients."""

    def __init__(self, study: Study, mode: Mode, outside: set[str], patients: Mapping[str, set[str]]) -> None:
        self.study, self.config, self.mode, self.outside = study, study.config, mode, outside
        self._patients = patients
        self._counted, self._early = (_keys_of_counted(study.clips, seconds) for seconds in (None, FIRST_S))

    @property
    def external(self) -> Fold:
        """Those learned from, and those whom nothing has seen."""
        return Fold(tuple(sorted(self._patients)), tuple(sorted(self.outside)))

    @property
    def tells_when(self) -> bool:
        """Whether some seizure's onset is known, so that some clips do not count."""
        return len(self._counted) < len(self.study.clips)

    def row(
        self,
        name: str,
        kind: Literal["ours", "baseline", "reference"],
        features: Features | Callable[[Fold], Features],
        judge_of: Callable[[int], Judge],
        repeats: int,
        clips: Sequence[TrainingClip] | None = None,
        *,
        early: bool = False,
    ) -> Row:
        """Judge with each seed, by the clips of the seizure, or of its first seconds; the first one is the row."""
        clips, keys = clips or self.study.clips, self._early if early else self._counted
        counted = [row for row, clip in enumerate(clips) if (clip.video_id, clip.clip_index) in keys]
        seeds = range(self.config.seed, self.config.seed + repeats)
        of_seed = [self._predictions(features, judge_of(seed), seed, clips, counted) for seed in seeds]
        accuracies = [float(np.mean([p.truth == p.verdict for p in found])) for found in of_seed]
        found = scores(of_seed[0], self.config.told_apart)
        return Row(name, kind, self.mode, tuple(of_seed[0]), found, tuple(accuracies))

    def _predictions(
        self,
        features: Features | Callable[[Fold], Features],
        judge: Judge,
        seed: int,
        clips: Sequence[TrainingClip],
        counted: Sequence[int],
    ) -> list[Prediction]:
        classes = self.config.told_apart
        if self.mode == "external":
            if callable(features):
                raise InvalidInput("an external test has no folds to make features for")
            kept, known = [clips[row] for row in counted], sorted(self._patients)
            return judge_patients(features[counted], kept, judge, known, sorted(self.outside), classes=classes)
        rows = [row for row in counted if clips[row].patient_id in self._patients]
        kept = [clips[row] for row in rows]
        if callable(features):
            return cross_validate(lambda fold: features(fold)[rows], kept, judge, self.config.folds, seed, classes)
        return cross_validate(features[rows], kept, judge, self.config.folds, seed, classes)


def _keys_of_counted(clips: Sequence[TrainingClip], from_onset_s: float | None) -> set[tuple[str, int]]:
    """Video and number of the clips that count, see `index.phases`."""
    seizures = {
        clip.video_id: Video(
            clip.video_id, clip.patient_id, clip.source_sha256, onset_s=clip.onset_s, seizure_end_s=clip.seizure_end_s
        )
        for clip in clips
    }
    counted = counted_rows(clips, seizures, range(len(clips)), from_onset_s).rows
    return {(clips[row].video_id, clips[row].clip_index) for row in counted}


def durations(clips: Sequence[TrainingClip]) -> Features:
    """(N, 1) seconds of each clip's seizure, or of its video where that is not known: it is telling enough."""
    length: dict[str, float] = defaultdict(float)
    for clip in clips:
        length[clip.video_id] = max(length[clip.video_id], clip.start_s + clip.valid_seconds)
    known = (
        clip.seizure_end_s - clip.onset_s
        if clip.onset_s is not None and clip.seizure_end_s is not None
        else length[clip.video_id]
        for clip in clips
    )
    return np.array([[seconds] for seconds in known], np.float32)


def _our_row(setting: Setting, compare: _Comparison, encoders: Pretrained, *, early: bool = False) -> Row:
    """The head on a setting's embeddings."""
    config = compare.config
    # Each seed of folds would need encoders of its own: inductive rows are of the first only.
    repeats = 1 if compare.mode == "inductive" else config.repeats

    def judge_of(seed: int) -> Judge:
        return head_judge(config.head.model_copy(update={"seed": seed}))

    return compare.row(setting, "ours", _features(setting, compare, encoders), judge_of, repeats, early=early)


def _features(setting: Setting, compare: _Comparison, encoders: Pretrained) -> Features | Callable[[Fold], Features]:
    """A setting's embeddings: one of each clip, or in inductive mode what makes them for a fold."""
    if compare.mode == "inductive" and setting != "none":
        return partial(_without_test_patients, encoders, setting, compare.outside)
    return compare.study.settings[setting].vectors


def _by_signs(compare: _Comparison, encoders: Pretrained) -> Features | Callable[[Fold], Features] | None:
    """Probabilities of signs, by heads on the embeddings of both levels; None where too few videos are tagged."""
    clips, vectors = compare.study.clips, _features("both", compare, encoders)
    patients = [clip.patient_id for clip in clips]

    def of(fold: Fold) -> Features:
        embedded = vectors(fold) if callable(vectors) else vectors
        return BySigns(signs_of_study(clips, embedded), embedded, patients)(fold)

    known = signs_of_study(clips, compare.study.settings["both"].vectors)
    if not BySigns(known, known.vectors_ND, patients).names:
        return None
    return of(compare.external) if compare.mode == "external" else of


def _without_test_patients(encoders: Pretrained, setting: Setting, outside: set[str], fold: Fold) -> Features:
    return encoders.embedded(setting, outside | set(fold.test)).vectors


def _frozen_row(name: str, features: Features, compare: _Comparison) -> Row:
    def judge_of(seed: int) -> Judge:
        return head_judge(compare.config.head.model_copy(update={"seed": seed}))

    return compare.row(name, "ours", features, judge_of, compare.config.repeats)


def _baseline_row(
    baseline: BaselineConfig, compare: _Comparison, features: Features, clips: Sequence[TrainingClip], title: str
) -> Row:
    def judge_of(seed: int) -> Judge:
        return recurrent_judge(baseline.model_copy(update={"seed": seed}))

    return compare.row(title, "baseline", features, judge_of, compare.config.repeats, clips)


def _each_clip(clips: TrainingClips, feature: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> Features:
    return np.stack([feature(frames) for frames in clips.frames])
