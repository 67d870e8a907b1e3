"""What each lever of pretraining does, on cohorts that no figure is quoted from: the recipe is fixed by this.

    .venv/bin/python benchmarks/levers.py [--renderer first] [--only NAME ...] [--start FOLDER] [--out DIR]

Every lever alone against the base recipe, then those together that are named so. Judged as `ablation.py` judges, on
seed 100. What was done lies in DIR, and the same command goes on; the cohort is drawn once, and its frames are left
there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cohort_study import JUDGES, Plan, study

from encoder.model.folder import load_encoder
from semiome.shipped import DEMO_RECIPE, shipped_encoder
from semiome.simulation.study import StudySize
from trainer.pretraining.config import PretrainConfig

SEED = 100
LEVERS: dict[str, dict[str, Any]] = {
    "base": {},
    "other videos": {"patient_positives": "other_video"},
    "tau .2": {"tau": 0.2},
    "tau .1": {"tau": 0.1},
    "tau .05": {"tau": 0.05},
    "rate 2e-4": {"learning_rate": 2e-4},
    "8 epochs": {"epochs": 8},
    "same-patient negatives": {"same_patient_negatives": True},
    "any camera": {"negatives": "any"},
    "crop only": {"augmentation": "crop"},
    "other videos, tau .1": {"patient_positives": "other_video", "tau": 0.1},
    "other videos, tau .1, rate 2e-4": {"patient_positives": "other_video", "tau": 0.1, "learning_rate": 2e-4},
}


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--renderer", choices=["first", "second"], default="first")
    options.add_argument("--only", nargs="+", choices=list(LEVERS), default=list(LEVERS))
    options.add_argument("--levels", nargs="+", choices=["video", "patient", "both"], default=["patient", "both"])
    options.add_argument("--external", type=int, default=150)
    options.add_argument("--start", type=Path, help="folder of the initial weights; by default the shipped encoder")
    options.add_argument("--out", type=Path, default=Path("levers-runs"))
    chosen = options.parse_args()
    start = load_encoder(chosen.start) if chosen.start else shipped_encoder()
    for name in chosen.only:
        recipe = PretrainConfig(**{"epochs": 4, **DEMO_RECIPE, **LEVERS[name]})
        plan = Plan(chosen.renderer, SEED, StudySize(external=chosen.external), recipe, tuple(chosen.levels))
        folder = chosen.out / chosen.renderer / name.replace(" ", "-").replace(",", "")
        found = study(plan, start, folder, shared=chosen.out / chosen.renderer / "drawn")
        line: dict[str, Any] = {"lever": name, "renderer": chosen.renderer}
        for level in ("none", *chosen.levels):
            line[level] = {judge: round(float(found.right[f"{level}, {judge}"].mean()), 4) for judge in JUDGES}
            line[level]["map"] = round(found.ranking[level][0], 4)
        line["cross_video"] = {level: np.round(pair, 3).tolist() for level, pair in found.cross_video.items()}
        line["motion energy"] = round(float(found.right["motion energy, logistic"].mean()), 4)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
