"""One simulated cohort of the ablation: pretrain on some patients, judge others that no model has seen, keep all of it.

Everything that takes long lies in the cohort's folder and is not done again: frames while they are needed, the runs of
each setting, the vectors of the patients inside, and those of the external ones, part by part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from figures import say
from numpy.typing import NDArray

from encoder.model.folder import load_encoder, save_encoder
from encoder.model.identity import Encoder
from index.processors import usable_cores
from index.vectors.whitening import Whitening
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.second.cohort import simulate_second
from semiome.simulation.study import Drawn, StudySize, drawn_clips, labelled_sets, write_study
from trainer.clips import TrainingClip
from trainer.frame_cache import read_cache
from trainer.judging.classifiers import head_judge, logistic_judge, mean_image, motion_energy, neighbour_judge
from trainer.judging.evaluate import judge_patients
from trainer.judging.head import HeadConfig
from trainer.judging.probes import embed_clips
from trainer.judging.retrieval import sign_ranking
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.ranks import alone
from trainer.pretraining.run import RunConfig, run_pretraining
from trainer.study.ablation import durations

Vectors = NDArray[np.float32]
SIMULATORS = {"first": simulate_cohort, "second": simulate_second}
LEVELS = ("video", "patient", "both")
ENCODERS = ("none", *LEVELS)
JUDGES = {"head": head_judge(HeadConfig()), "10 nearest": neighbour_judge, "logistic": logistic_judge}
REFERENCES = ("motion energy", "mean image", "duration", "true joints")
_VIDEOS_A_PART = 150
_QUERIES = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cohort is.

    Attributes:
        renderer: of `SIMULATORS`.
        seed: of the cohort.
        size: patients and videos.
        recipe: of pretraining.
        levels: that are pretrained.
    """

    renderer: str
    seed: int
    size: StudySize
    recipe: PretrainConfig
    levels: tuple[str, ...] = LEVELS


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out of a cohort.

    Attributes:
        patients: external ones, in order.
        right: by row and judge, (external patients, labelled sets) share of a patient's videos judged rightly.
        auroc: by row and judge, the mean over the sets.
        ranking: by row, mean average precision of clips of other patients with the same sign, and its chance value.
        cross_video: by level, the loss across videos at the end of pretraining beside its chance value.
    """

    patients: list[str]
    right: dict[str, NDArray[np.float64]]
    auroc: dict[str, float]
    ranking: dict[str, tuple[float, float]]
    cross_video: dict[str, tuple[float, float]]


def study(plan: Plan, start: Encoder, folder: Path, shared: Path | None = None) -> Judged:
    """Do all of it, or what is left of it.

    Args:
        plan: what it is.
        start: initial weights.
        folder: where all that it makes lies.
        shared: where frames are kept for other studies of the same cohort; without it they are not kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = (shared or folder) / "frames"
    inside = _inside(plan, start, folder, frames)
    encoders = {"none": start} | {level: _pretrained(plan, level, start, folder, frames) for level in plan.levels}
    vectors = _vectors_inside(encoders, inside, folder, frames)
    if shared is None:
        shutil.rmtree(frames, ignore_errors=True)
    clips, outside = _external(plan, encoders, folder, shared)
    return _judged(plan, inside, vectors, clips, outside, folder)


def _inside(plan: Plan, start: Encoder, folder: Path, frames: Path) -> Sequence[TrainingClip]:
    """Clips of the patients inside, with what is known of them; their frames are drawn if something needs them."""
    described = folder / "inside.json"
    done = all((folder / f"{level}.done").exists() for level in plan.levels) and (folder / "inside.npz").exists()
    if not described.exists() or not (done or (frames / "references.npz").exists()):
        if not (frames / "references.npz").exists():
            shape = start.model.config
            size = replace(plan.size, external=0)
            write_study(
                *(frames, size, plan.seed, shape.num_frames, shape.image_size, usable_cores()),
                simulate=SIMULATORS[plan.renderer],
            )
        described.write_text((frames / "clips.json").read_text(encoding="utf-8"), encoding="utf-8")
    values = json.loads(described.read_text(encoding="utf-8"))["clips"]
    return [TrainingClip(**{**one, "signs": tuple(one["signs"])}) for one in values]


def _pretrained(plan: Plan, level: str, start: Encoder, folder: Path, frames: Path) -> Encoder:
    """The encoder of one setting; a run that was stopped goes on."""
    kept = folder / f"{level}.done"
    if kept.exists():
        return load_encoder(folder / "encoders" / kept.read_text(encoding="utf-8"))
    config = RunConfig(
        name=level,
        manifest=Path("drawn"),
        hold_out_split="",
        pretrain=plan.recipe.model_copy(update={"levels": level, "seed": plan.seed}),
    )
    fresh = load_encoder(save_encoder(start, folder / "initial"))
    clips = read_cache(frames)
    encoder = run_pretraining(fresh, clips, config, folder / level, alone(), warn=lambda text: say(f"{level}: {text}"))
    save_encoder(encoder, folder / "encoders")
    kept.write_text(encoder.encoder_id, encoding="utf-8")
    shutil.rmtree(folder / level / "checkpoints", ignore_errors=True)
    return encoder


def _vectors_inside(
    encoders: dict[str, Encoder], clips: Sequence[TrainingClip], folder: Path, frames: Path
) -> dict[str, Vectors]:
    """Embeddings and references of the patients inside."""
    path = folder / "inside.npz"
    if not path.exists():
        cache = read_cache(frames)
        references = np.load(frames / "references.npz")
        found = {name: embed_clips(one.model, cache.frames, alone().device) for name, one in encoders.items()}
        found["motion energy"] = np.stack([motion_energy(frames) for frames in cache.frames])
        found["mean image"] = np.stack([mean_image(frames) for frames in cache.frames])
        found["duration"] = durations(clips)
        found["true joints"] = references["true joint angles"]
        _save(path, found)
    return dict(np.load(path))


def _external(
    plan: Plan, encoders: dict[str, Encoder], folder: Path, shared: Path | None
) -> tuple[list[TrainingClip], dict[str, Vectors]]:
    """Draw the external patients a part at a time, and keep what the encoders make of them."""
    simulate = SIMULATORS[plan.renderer]
    recordings = simulate(plan.size.external, plan.size.external_videos, 2 * plan.seed + 1, f"ex{plan.seed}")
    shape = next(iter(encoders.values())).model.config
    draw = partial(drawn_clips, num_frames=shape.num_frames, size=shape.image_size)
    clips: list[TrainingClip] = []
    parts: list[dict[str, Vectors]] = []
    for begin in range(0, len(recordings), _VIDEOS_A_PART):
        path = folder / f"external-{begin}.npz"
        if not path.exists():
            part = recordings[begin : begin + _VIDEOS_A_PART]
            of_part, frames, truth = _drawn(part, draw, shared and shared / f"external-{begin}")
            found = {name: embed_clips(one.model, frames, alone().device) for name, one in encoders.items()}
            found["motion energy"] = np.stack([motion_energy(of_clip) for of_clip in frames])
            found["mean image"] = np.stack([mean_image(of_clip) for of_clip in frames])
            found["duration"] = durations(of_part)
            found["true joints"] = truth
            (folder / f"external-{begin}.json").write_text(
                json.dumps([[c.video_id, c.patient_id, c.clip_index, c.label, c.signs] for c in of_part])
            )
            _save(path, found)
            say(f"{folder.name}: {begin + len(part)} of {len(recordings)} external videos")
        parts.append(dict(np.load(path)))
        for video, patient, number, label, signs in json.loads((folder / f"external-{begin}.json").read_text()):
            clips.append(TrainingClip(video, patient, number, label, source_sha256=video, signs=tuple(signs)))
    return clips, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _drawn(
    recordings: Sequence[Any], draw: Callable[[Any], Drawn], kept: Path | None
) -> tuple[list[TrainingClip], NDArray[np.uint8], Vectors]:
    """Clips of some videos, their frames, and what the simulator knows; drawn once where they are kept."""
    if kept is not None and (kept / "clips.json").exists():
        values = json.loads((kept / "clips.json").read_text(encoding="utf-8"))
        clips = [TrainingClip(**{**one, "signs": tuple(one["signs"])}) for one in values]
        return clips, np.load(kept / "frames.npy", mmap_mode="r"), np.load(kept / "truth.npy")
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(draw, recordings, chunksize=4))
    clips = [clip for one in drawn for clip in one.clips]
    frames, truth = np.concatenate([one.frames for one in drawn]), np.concatenate([one.truth for one in drawn])
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        np.save(kept / "frames.npy", frames)
        np.save(kept / "truth.npy", truth)
        (kept / "clips.json").write_text(json.dumps([asdict(clip) for clip in clips]), encoding="utf-8")
    return clips, frames, truth


def _judged(
    plan: Plan,
    inside: Sequence[TrainingClip],
    within: dict[str, Vectors],
    outside: Sequence[TrainingClip],
    without: dict[str, Vectors],
    folder: Path,
) -> Judged:
    """Judge the external patients by every disjoint set of labelled ones."""
    class_of = {
        one.patient_id: one.label
        for one in SIMULATORS[plan.renderer](plan.size.pretraining, plan.size.videos, 2 * plan.seed, f"in{plan.seed}")
    }
    known = [replace(clip, label=class_of[clip.patient_id]) for clip in inside]
    patients = sorted({clip.patient_id for clip in outside})
    sets = labelled_sets(class_of, plan.size.labelled)
    whitening = Whitening.of(within["none"])
    within, without = ({**of, "none whitened": whitening(of["none"])} for of in (within, without))
    right, auroc = {}, {}
    clips = [*known, *outside]
    for name in within:
        judges = {"logistic": logistic_judge} if name in REFERENCES else JUDGES
        features = np.concatenate([within[name], without[name]])
        for judge_name, judge in judges.items():
            key = f"{name}, {judge_name}"
            predictions = [judge_patients(features, clips, judge, labelled, patients) for labelled in sets]
            right[key] = np.stack([_shares_right(of_set, patients) for of_set in predictions], axis=1)
            auroc[key] = float(np.mean([_auroc(of_set) for of_set in predictions]))
    ranking = {}
    chosen = np.random.default_rng(0).permutation(len(outside))[:_QUERIES]
    asked = [outside[row] for row in chosen]
    for name in set(within) - set(REFERENCES):
        if found := sign_ranking(_unit(without[name][chosen]), asked):
            ranking[name] = found.mean_average_precision.value, found.chance
    cross = {level: _cross_video(folder / level) for level in plan.levels}
    return Judged(patients, right, auroc, ranking, cross)


def _shares_right(predictions: Sequence[Any], patients: Sequence[str]) -> NDArray[np.float64]:
    """(P,) share of each patient's videos that were judged rightly."""
    right: dict[str, list[bool]] = {}
    for prediction in predictions:
        right.setdefault(prediction.patient_id, []).append(prediction.truth == prediction.verdict)
    return np.array([np.mean(right[who]) for who in patients])


def _auroc(predictions: Sequence[Any]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([p.truth == "exTLE" for p in predictions], [p.probabilities[1] for p in predictions]))


def _cross_video(folder: Path) -> tuple[float, float]:
    """Mean loss across videos of the last steps, and guessing's."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if line.get("cross_video_chance")][-40:]
    loss, chance = (np.mean([line[key] for line in last]) for key in ("cross_video_loss", "cross_video_chance"))
    return float(loss), float(chance)


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _save(path: Path, arrays: dict[str, Vectors]) -> None:
    """Whole or not at all: a killed run leaves no half of it."""
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.rename(path)
