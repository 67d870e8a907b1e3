"""What decides the result of a pretraining run, besides its clips and initial weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from encoder.model.timesformer import Recompute
from index.errors import InvalidInput
from index.phases import Phase
from trainer.clips import TrainingClips
from trainer.pretraining.augment import RECIPES
from trainer.pretraining.losses import Levels, Pairs, PatientPositives, SamePatient

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class PretrainConfig(BaseModel):
    """Everything that decides the result of a pretraining run, besides its clips and initial weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: int = Field(default=5, ge=1)
    """Passes over the clips; the paper has 5."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps after which the schedule stops; all epochs by default."""
    patients: int = Field(default=2, ge=2)
    """Patients in a batch."""
    videos: int = Field(default=2, ge=1)
    """Videos of each patient in a batch."""
    clips: int = Field(default=2, ge=1)
    """Clips of each video in a batch. 2 x 2 x 2 is the paper's batch of 8."""
    levels: Levels = "both"
    """Eq. 1 (`video`), eq. 2 (`patient`) or their sum, eq. 3 (`both`)."""
    pairs: Pairs = "both"
    """Each positive pair in both orders, or once (`first`)."""
    tau: float = Field(default=0.5, gt=0)
    """Temperature. The paper does not give it; TCL, which it follows, has 0.5. A lower one pushes the nearest negatives
    away and leaves the others."""
    same_patient_negatives: SamePatient = True
    """Whether other videos of the same patient are negatives at video level, as in the paper. `background`: of these
    only background of the recording of a seizure, and seizures of the recording of background (`background=yes` and
    `recording_id` of the manifest); each patient gives both to a batch where there are both."""
    patient_positives: PatientPositives = "any"
    """Clips of a patient that eq. 2 draws together. `any`, as in the paper: two of one video too, which teaches to
    know a recording again. `other_video`: of different videos only."""
    within_s: float | None = Field(default=None, gt=0)
    """Seconds by which positives of different videos may differ in where they begin, each counted from the onset of its
    seizure; seizures whose onset is not known give none. None for any."""
    seizures_only: bool = False
    """Whether background and clips outside a known seizure are left out of training."""
    negatives: Literal["any", "same_camera"] = "any"
    """Whether the patients of a batch are taken from one room and camera, as far as there are enough."""
    memory: int = Field(default=0, ge=0)
    """Embeddings of earlier batches that serve as more negatives; 0 for none."""
    projection: int = Field(default=0, ge=0)
    """Width of a projection behind the encoder that the loss looks at, dropped after pretraining; 0 for none."""
    augmentation: str = "crop"
    """Named recipe of `trainer.pretraining.augment`: none, crop, tint, full."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak rate of AdamW."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of AdamW; biases, norms and embeddings are not decayed."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises; after it, it falls along a cosine."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this length."""
    at_once: int = Field(default=64, ge=1)
    """Clips whose activations fit into memory; a larger part of a batch is embedded twice, see
    `trainer.pretraining.step`."""
    activation_checkpointing: Recompute = "selective"
    """What of a layer is computed again on the way back instead of being kept. `selective`: all but matrix products and
    attention, in half the memory; `full`: all but the layer's input, in a fraction of it, and a third slower; `off`:
    nothing, a tenth faster for a model as narrow as the demo's, no faster for a wide one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the model's products; weights, gradients and losses are float32."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    seed: int = Field(default=0, ge=0)
    """Seed of batches and augmentation."""

    @model_validator(mode="after")
    def _has_pairs(self) -> PretrainConfig:
        if self.levels != "patient" and self.clips < 2:
            raise ValueError(
                "expected at least 2 clips of a video in a batch: one alone has no positive at video level"
            )
        if self.same_patient_negatives == "background" and self.videos < 2:
            raise ValueError("expected at least 2 videos of a patient in a batch: a seizure, and background beside it")
        other = self.patient_positives == "other_video" or self.within_s is not None
        if other and self.levels != "video" and self.videos < 2:
            raise ValueError("expected at least 2 videos of a patient in a batch: of one alone no other is a positive")
        if self.videos * self.clips < 2:
            raise ValueError("expected at least 2 clips of a patient in a batch: one alone has no positive")
        return self

    @field_validator("augmentation")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"expected an augmentation of {', '.join(RECIPES)}, got {name!r}")
        return name


def trained_on(clips: TrainingClips, config: PretrainConfig) -> TrainingClips:
    """Choose the clips that a configuration trains on.

    Raises:
        InvalidInput: If none is left.
    """
    if not config.seizures_only:
        return clips
    kept = clips.of(lambda clip: not clip.background and clip.phase in (Phase.ICTAL, Phase.UNKNOWN))
    if not kept.clips:
        raise InvalidInput("seizures_only leaves no clip: all are background or lie outside their seizure")
    return kept
