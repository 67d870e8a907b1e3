"""Does contrastive pretraining help on patients no model has seen? Cohorts of two simulators, large enough to tell.

    .venv/bin/python benchmarks/ablation.py [--renderer first second] [--cohorts 6] [--external 600] [--out DIR]

Each cohort: 120 patients to pretrain on, and 600 external patients, judged by what learned from 15 of the 120, the mean
over the eight sets of 15 that these make. Rows: no pretraining, the same whitened, video level, patient level, both,
and references that learn to see nothing: motion energy, mean image, duration, true joints. The recipe is
`semiome.shipped.DEMO_RECIPE`, fixed on a cohort that is not among these (`levers.py`). Hours; what was done lies in
DIR, and the same command goes on. One JSON object a figure on stdout; intervals are over cohorts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cohort_study import JUDGES, LEVELS, SIMULATORS, Judged, Plan, study
from figures import say

from index.intervals import difference, t_quantile
from semiome.shipped import DEMO_RECIPE, shipped_encoder
from semiome.simulation.study import StudySize
from trainer.pretraining.config import PretrainConfig

FIRST_SEED = 1
QUICK = StudySize(8, 5, 2, 8, 1)
COMPARED = (
    *((f"both, {judge}", f"none, {judge}") for judge in JUDGES),
    *((f"{level}, {judge}", f"none, {judge}") for level in LEVELS[:2] for judge in JUDGES),
    *((f"both, {judge}", f"none whitened, {judge}") for judge in JUDGES),
    *((f"none, {judge}", "motion energy, logistic") for judge in JUDGES),
    *((f"both, {judge}", "motion energy, logistic") for judge in JUDGES),
)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="tiny cohorts: proves that the script runs")
    options.add_argument("--renderer", nargs="+", choices=list(SIMULATORS), default=list(SIMULATORS))
    options.add_argument("--cohorts", type=int, default=6)
    options.add_argument("--external", type=int, default=600)
    options.add_argument("--levels", nargs="*", choices=LEVELS, default=list(LEVELS), help="none: stage 0 alone")
    options.add_argument("--out", type=Path, default=Path("ablation-runs"))
    chosen = options.parse_args()
    size = QUICK if chosen.quick else StudySize(external=chosen.external)
    recipe = PretrainConfig(**DEMO_RECIPE)
    if chosen.quick:
        recipe = recipe.model_copy(update={"max_steps": 2, "patients": 2})
    start = shipped_encoder()
    for renderer in chosen.renderer:
        found = []
        for seed in range(FIRST_SEED, FIRST_SEED + chosen.cohorts):
            began = time.monotonic()
            folder = chosen.out / ("quick" if chosen.quick else "") / f"{renderer}-{seed}"
            found.append(study(Plan(renderer, seed, size, recipe, tuple(chosen.levels)), start, folder))
            say(f"{renderer}, cohort {seed}: {time.monotonic() - began:.0f} s")
        report(renderer, found)


def report(renderer: str, cohorts: Sequence[Judged]) -> None:
    """Print every row, then the differences that were asked for beforehand."""
    for key in cohorts[0].right:
        accuracies = [float(one.right[key].mean()) for one in cohorts]
        show(
            f"{renderer}: accuracy of {key}",
            mean=round(float(np.mean(accuracies)), 4),
            by_cohort=[round(value, 4) for value in accuracies],
            auroc=round(float(np.mean([one.auroc[key] for one in cohorts])), 4),
        )
    for ours, theirs in COMPARED:
        if ours not in cohorts[0].right:
            continue
        gains = [one.right[ours] - one.right[theirs] for one in cohorts]
        low, high = interval(gains)
        show(
            f"{renderer}: {ours} against {theirs}",
            difference=round(float(np.mean([gain.mean() for gain in gains])), 4),
            interval=[round(low, 4), round(high, 4)],
            by_cohort=[round(float(gain.mean()), 4) for gain in gains],
            excludes_0=bool(low > 0 or high < 0),
        )
    for name in ("none", "none whitened", *LEVELS):
        values = [one.ranking[name] for one in cohorts if name in one.ranking]
        if values:
            show(
                f"{renderer}: mean average precision by sign, {name}",
                mean=round(float(np.mean([value for value, _ in values])), 4),
                chance=round(float(np.mean([chance for _, chance in values])), 4),
                by_cohort=[round(value, 4) for value, _ in values],
            )
    for level in cohorts[0].cross_video:
        pairs = [one.cross_video[level] for one in cohorts]
        show(
            f"{renderer}: loss across videos at the end, {level}",
            mean=round(float(np.mean([loss for loss, _ in pairs])), 4),
            chance=round(float(np.mean([chance for _, chance in pairs])), 4),
        )


def interval(gains: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % by Student's t over cohorts, and never narrower than over the patients of all of them."""
    means = np.array([gain.mean() for gain in gains])
    of_patients = np.concatenate([gain.mean(1) for gain in gains])
    low, high = difference(of_patients, np.ones(len(of_patients)))
    if len(means) > 1:
        half = t_quantile(len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
        low, high = min(low, means.mean() - half), max(high, means.mean() + half)
    return float(low), float(high)


def show(name: str, **values: object) -> None:
    """Print a figure."""
    sys.stdout.write(json.dumps({"name": name, **values}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
