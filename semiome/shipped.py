"""The small encoder that comes with Semiome, and how the demo and the simulated benchmark pretrain it further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoder.model.folder import load_encoder
from encoder.model.identity import Encoder

DEMO_RECIPE: dict[str, Any] = {
    "patients": 8,
    "videos": 2,
    "clips": 2,
    "same_patient_negatives": False,
    "augmentation": "full",
    "negatives": "same_camera",
    "projection": 128,
    "learning_rate": 5e-5,
    "activation_checkpointing": "off",
}
"""Fixed on a cohort that no figure is quoted from; see docs/pretraining.md."""


def shipped_folder() -> Path:
    """Its folder, as `semiome.simulation.stage0` wrote it."""
    return Path(__file__).parent / "weights"


def shipped_bed_detector() -> Path:
    """The folder of the small detector of simulated beds, as `semiome.simulation.beds` wrote it."""
    return shipped_folder() / "beds"


def shipped_encoder() -> Encoder:
    """The encoder trained on generic actions."""
    return load_encoder(shipped_folder())
