"""Does contrastive pretraining help on patients no model has seen? Three simulated cohorts, the whole Table I on each.

    .venv/bin/python benchmarks/ablation.py [--quick] [--cohorts 3] [--out DIR]

Each cohort: 120 patients to pretrain on, 15 of them labelled, and 60 external patients, judged by heads that learned
from the 15. Which 15 these are matters much: so the external patients are judged again by every other set of 15 that
can be made of the 120, and the mean over the sets is reported too. The recipe is `semiome.shipped.DEMO_RECIPE`, fixed
on a cohort that is not among these. Runs `semiome ablate` on each, prints its table on stderr, and one JSON object a
figure on stdout; intervals are over cohorts and patients. Pretraining and embeddings are kept in DIR and
not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from encoder.model.architecture import preset
from encoder.model.folder import new_encoder
from index.processors import usable_cores
from semiome.shipped import DEMO_RECIPE, shipped_folder
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.study import HELD_OUT, StudySize, labelled_sets, write_study
from trainer.frame_cache import read_cache
from trainer.judging.classifiers import Features, Judge, head_judge, logistic_judge, motion_energy, neighbour_judge
from trainer.judging.evaluate import judge_patients
from trainer.judging.head import HeadConfig
from trainer.judging.metrics import Prediction
from trainer.judging.probes import embed_clips
from trainer.pretraining.ranks import alone
from trainer.study.pretrained_encoders import SETTINGS

DRAWS = 4000
BASELINES = {"i3d": 48, "r2plus1d": 32, "perez-garcia": 32}
REDRAWN = {"head": head_judge(HeadConfig()), "10 nearest clips": neighbour_judge}
COMPARED = (
    ("both", "none", "an interval above 0"),
    ("video", "none", ""),
    ("patient", "none", ""),
    ("both, 10 nearest clips", "none, 10 nearest clips", ""),
    ("none", "motion energy", "stage 0 beats motion energy"),
    ("both", "motion energy", ""),
    ("none", "random weights", ""),
)


@dataclass(frozen=True, slots=True)
class Cohort:
    """What came out of one.

    Attributes:
        predictions: of each row of its table.
        settings: what `semiome ablate` says of each way of pretraining.
        redrawn: by setting and judge, (external patients, sets of labelled ones) share of videos judged rightly.
    """

    predictions: dict[str, list[Prediction]]
    settings: dict[str, Any]
    redrawn: dict[str, np.ndarray]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="tiny cohorts: proves that the script runs")
    options.add_argument("--cohorts", type=int, default=3)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--out", type=Path, default=Path("ablation-runs"))
    chosen = options.parse_args()
    size, cohorts, epochs, out = StudySize(), chosen.cohorts, chosen.epochs, chosen.out.resolve()
    if chosen.quick:
        size, cohorts, epochs, out = StudySize(8, 5, 2, 8, 1), 2, 1, out / "quick"
    found = [cohort(seed, size, epochs, out / f"cohort-{seed}") for seed in range(1, cohorts + 1)]
    for name, other, goal in COMPARED:
        show_difference(name, other, goal, found)
    for judge in REDRAWN:
        for setting in SETTINGS[1:]:
            show_redrawn(f"{setting}, {judge}", f"none, {judge}", found)
        for setting in ("none", "both"):
            show_redrawn(f"{setting}, {judge}", "motion energy", found)
    for key in ("signs", "labels"):
        for setting in ("none", "video", "patient", "both"):
            rankings = [one.settings[setting][key] for one in found]
            value = np.mean([ranking["mean_average_precision"]["value"] for ranking in rankings])
            show_ranking(f"{setting}: mean average precision by {key}", value, rankings)


def cohort(seed: int, size: StudySize, epochs: int, folder: Path) -> Cohort:
    """Draw one, and run `semiome ablate` on it."""
    shape, started = preset("timesformer-demo"), time.monotonic()
    frames = folder / "frames"
    if not (frames / "references.npz").exists():
        write_study(frames, size, seed, shape.num_frames, shape.image_size, usable_cores())
    config = folder / "study.toml"
    config.write_text(described(seed, epochs))
    command = [sys.executable, "-m", "semiome", "ablate", str(config), "--workspace", str(folder), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    values = json.loads(done.stdout)
    say(f"\ncohort {seed}, {time.monotonic() - started:.0f} s\n{Path(values['folder'], 'table.txt').read_text()}")
    rows = {row["name"]: [Prediction(**said) for said in row["predictions"]] for row in values["rows"]}
    again = redrawn(seed, size, frames, Path(values["folder"]))
    return Cohort({**rows, "random weights": untrained(frames)}, values["settings"], again)


def described(seed: int, epochs: int) -> str:
    """The study's configuration."""
    lines = [
        f'name = "cohort-{seed}"',
        'frame_cache = "frames"',
        f"encoder = {json.dumps(str(shipped_folder()))}",
        'modes = ["external"]',
        "[pretrain]",
        f"epochs = {epochs}",
        f"seed = {seed}",
        *(f"{key} = {json.dumps(value)}" for key, value in DEMO_RECIPE.items()),
    ]
    for kind, size in BASELINES.items():
        lines += ["[[baselines]]", f'kind = "{kind}"', f"size = {size}", "snippet_frames = 12"]
    return "\n".join(lines) + "\n"


def untrained(frames: Path) -> list[Prediction]:
    """What the same architecture says with random weights: stage 0 has to be worth more."""
    clips = read_cache(frames)
    model = new_encoder(preset("timesformer-demo"), seed=0).model
    vectors = embed_clips(model, clips.frames, alone().device)
    inside = sorted({clip.patient_id for clip in clips.clips if clip.label and clip.split != HELD_OUT})
    outside = sorted({clip.patient_id for clip in clips.clips if clip.split == HELD_OUT})
    return judge_patients(vectors, clips.clips, head_judge(HeadConfig()), inside, outside)


def redrawn(seed: int, size: StudySize, frames: Path, folder: Path) -> dict[str, np.ndarray]:
    """Judge the external patients by every set of labelled ones, each patient being in one set."""
    inside = simulate_cohort(size.pretraining, size.videos, 2 * seed, prefix=f"in{seed}")
    class_of = {recording.patient.patient_id: recording.patient.label for recording in inside}
    cache = read_cache(frames)
    clips = [replace(clip, label=class_of.get(clip.patient_id, clip.label)) for clip in cache.clips]
    outside = sorted({clip.patient_id for clip in clips if clip.split == HELD_OUT})
    chosen = labelled_sets(class_of, size.labelled)

    def right(features: Features, judge: Judge) -> np.ndarray:
        of_sets = [judge_patients(features, clips, judge, labelled, outside) for labelled in chosen]
        return np.array([[share_right(judged, who) for judged in of_sets] for who in outside])

    found = {"motion energy": right(np.stack([motion_energy(clip) for clip in cache.frames]), logistic_judge)}
    for setting in SETTINGS:
        (path,) = folder.glob(f"{setting}-*/vectors-*.npy")
        found |= {f"{setting}, {name}": right(np.load(path), judge) for name, judge in REDRAWN.items()}
    return found


def share_right(judged: Sequence[Prediction], patient_id: str) -> float:
    """Videos of a patient."""
    return float(np.mean([p.truth == p.verdict for p in judged if p.patient_id == patient_id]))


def show_redrawn(name: str, other: str, cohorts: Sequence[Cohort]) -> None:
    """Show the mean over all sets of labelled patients; intervals are over cohorts, patients and sets."""
    gains = [one.redrawn[name] - one.redrawn[other] for one in cohorts]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        means = []
        for i in random.integers(0, len(gains), len(gains)):
            patients, sets = (random.integers(0, n, n) for n in gains[i].shape)
            means.append(gains[i][patients][:, sets].mean())
        drawn.append(np.mean(means))
    ours, theirs = (np.array([one.redrawn[row].mean() for one in cohorts]) for row in (name, other))
    show_gain(f"mean over {gains[0].shape[1]} sets of labelled: {name} against {other}", ours, theirs, drawn, "")


def show_difference(name: str, other: str, goal: str, cohorts: Sequence[Cohort]) -> None:
    """Accuracy of one row less that of another, with its interval over cohorts and patients."""
    gains = [patient_gains(one.predictions[name], one.predictions[other]) for one in cohorts]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        of_cohorts = [gains[i] for i in random.integers(0, len(gains), len(gains))]
        sums = np.concatenate([of_one[random.integers(0, len(of_one), len(of_one))] for of_one in of_cohorts])
        drawn.append(sums[:, 0].sum() / sums[:, 1].sum())
    ours, theirs = (
        np.array([np.mean([p.truth == p.verdict for p in one.predictions[row]]) for one in cohorts])
        for row in (name, other)
    )
    show_gain(f"{name} against {other}", ours, theirs, drawn, goal)


def show_gain(name: str, ours: np.ndarray, theirs: np.ndarray, drawn: Sequence[float], goal: str) -> None:
    """Accuracies of each cohort, and the interval of their difference."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    line = {
        "name": f"accuracy on external patients: {name}",
        "ours": round(float(ours.mean()), 4),
        "theirs": round(float(theirs.mean()), 4),
        "difference": round(float((ours - theirs).mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "by_cohort": [round(float(gain), 4) for gain in ours - theirs],
        "goal": goal,
        "holds": bool(low > 0),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def patient_gains(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> np.ndarray:
    """(patients, 2): videos judged rightly more, and videos."""
    gains: dict[str, list[float]] = {}
    for a, b in zip(ours, theirs, strict=True):
        of_patient = gains.setdefault(a.patient_id, [0.0, 0.0])
        of_patient[0] += (a.truth == a.verdict) - (b.truth == b.verdict)
        of_patient[1] += 1
    return np.array(list(gains.values()))


def show_ranking(name: str, ours: float, rankings: Sequence[dict[str, Any]]) -> None:
    """One figure beside chance."""
    chance = float(np.mean([ranking["chance"] for ranking in rankings]))
    line = {"name": name, "ours": round(float(ours), 4), "against": "chance", "theirs": round(chance, 4)}
    sys.stdout.write(json.dumps({**line, "ratio": round(float(ours) / chance, 3)}) + "\n")


def say(text: str) -> None:
    """To people."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
