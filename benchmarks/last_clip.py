"""What to show an encoder of the end of a video that fills no clip: four ways, judged on simulated patients.

    .venv/bin/python benchmarks/last_clip.py [--quick] [--cohorts 5]

The last 1 to 10 s of a video may be a clip whose frames are taken from all of them evenly, so that it runs in slow
motion; or with frames as far apart as in any other clip, and the last picture held for the time that is missing; or the
last ten seconds of the video may be a clip, which overlaps the one before; or they may be left out.

Each cohort: heads and neighbours of 120 patients judge the videos of 120 others, with the shipped encoder. One JSON
object a figure on stdout: the share of videos judged rightly, less that of slow motion, and its interval over cohorts
and patients.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from figures import say
from numpy.typing import NDArray

from encoder.model.folder import load_encoder
from index.processors import usable_cores
from index.records import CLIP_SECONDS
from semiome.shipped import shipped_folder
from semiome.simulation.cohort import Recording, simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import move
from trainer.clips import TrainingClip
from trainer.judging.classifiers import Judge, head_judge, logistic_judge, neighbour_judge
from trainer.judging.evaluate import judge_patients
from trainer.judging.head import HeadConfig
from trainer.judging.probes import embed_clips
from trainer.pretraining.ranks import alone

WAYS = ("slow motion", "last picture held", "last ten seconds", "left out")
JUDGES: dict[str, Judge] = {
    "10 nearest clips": neighbour_judge,
    "head": head_judge(HeadConfig()),
    "logistic regression": logistic_judge,
}
DRAWS = 4000
_LENGTH = CLIP_SECONDS * FPS


def main() -> None:
    """Draw the cohorts, and judge each in every way."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="tiny cohorts: proves that the script runs")
    options.add_argument("--cohorts", type=int, default=5)
    chosen = options.parse_args()
    patients = 8 if chosen.quick else 120
    right: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for seed in range(1, chosen.cohorts + 1):
        for key, shares in judged(patients, 700 + seed).items():
            right.setdefault(key, []).append(shares)
    for judge in JUDGES:
        for way in WAYS:
            show(judge, way, right[judge, way], right[judge, WAYS[0]])


def judged(patients: int, seed: int) -> dict[tuple[str, str], NDArray[np.float64]]:
    """The share of videos judged rightly of each external patient of a cohort, by judge and way."""
    inside = simulate_cohort(patients, 3, 2 * seed, prefix="in")
    outside = simulate_cohort(patients, 3, 2 * seed + 1, prefix="ex")
    encoder = load_encoder(shipped_folder())
    config = encoder.model.config
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        draw = partial(drawn, num_frames=config.num_frames, size=config.image_size)
        pictures = list(pool.map(draw, [*inside, *outside], chunksize=4))
    names = {recording.video_id: recording.patient for recording in (*inside, *outside)}
    short = sum(len(frames) < 1 or seconds < CLIP_SECONDS for frames, _, seconds in pictures)
    say(f"cohort {seed}: {sum(len(f) + 1 for f, _, _ in pictures)} clips, {short} of them shorter than 10 s")
    found: dict[tuple[str, str], NDArray[np.float64]] = {}
    whole = [embed_clips(encoder.model, frames, alone().device) for frames, _, _ in pictures]
    for number, way in enumerate(WAYS):
        vectors, clips = [], []
        for (video_id, patient), of_whole, (_, endings, _) in zip(names.items(), whole, pictures, strict=True):
            of_video = [of_whole]
            if number < len(endings):
                of_video.append(embed_clips(encoder.model, endings[number : number + 1], alone().device))
            vectors.append(np.concatenate(of_video))
            clips += [
                TrainingClip(video_id, patient.patient_id, index, patient.label, source_sha256=video_id)
                for index in range(len(vectors[-1]))
            ]
        features = np.concatenate(vectors)
        learned, asked = (sorted({r.patient.patient_id for r in part}) for part in (inside, outside))
        for name, judge in JUDGES.items():
            predictions = judge_patients(features, clips, judge, learned, asked)
            shares = [np.mean([p.truth == p.verdict for p in predictions if p.patient_id == who]) for who in asked]
            found[name, way] = np.array(shares)
    return found


def drawn(recording: Recording, num_frames: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Frames of a video's whole clips, those of its end in three ways, and how long that is.

    Returns:
        (K, T, S, S, 3), (3, T, S, S, 3), and seconds. A video of whole clips alone ends with one of them.
    """
    random = np.random.default_rng(recording.seed)
    motion = move(list(recording.events), recording.seconds, FPS, random)
    whole = (motion.moments - 1) // _LENGTH
    middles = (2 * np.arange(num_frames) + 1) / (2 * num_frames)
    start, rest = whole * _LENGTH, motion.moments - whole * _LENGTH
    ends = [
        start + middles * rest,
        np.minimum(start + middles * _LENGTH, motion.moments - 1),
        max(motion.moments - _LENGTH, 0) + middles * min(_LENGTH, motion.moments),
    ]
    moments = np.concatenate([*(k * _LENGTH + middles * _LENGTH for k in range(whole)), *ends]).astype(np.intp)
    frames = np.stack(list(recording.scene.frames(motion.at(moments), moments / FPS, random, *_picture(size))))
    left = (frames.shape[2] - size) // 2
    clips = frames[:, :, left : left + size].reshape(whole + len(ends), num_frames, size, size, 3)
    return clips[:whole], clips[whole:], rest / FPS


def _picture(size: int) -> tuple[int, int]:
    """Width and height of a picture of 4 : 3 whose centre is the clip's."""
    return round(size * 4 / 3), size


def show(judge: str, way: str, ours: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> None:
    """One way beside slow motion."""
    gains = [a - b for a, b in zip(ours, theirs, strict=True)]
    random = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        of_cohorts = [gains[i] for i in random.integers(0, len(gains), len(gains))]
        means.append(np.mean([of_one[random.integers(0, len(of_one), len(of_one))].mean() for of_one in of_cohorts]))
    low, high = np.quantile(means, [0.025, 0.975])
    line = {
        "name": f"videos judged rightly by {judge}: {way}",
        "ours": round(float(np.mean([one.mean() for one in ours])), 4),
        "against": WAYS[0],
        "difference": round(float(np.mean([gain.mean() for gain in gains])), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "by_cohort": [round(float(gain.mean()), 4) for gain in gains],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
