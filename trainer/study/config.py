"""What a study compares, on which videos, and how: one file says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from index.errors import InvalidInput
from index.semiology import PAPER, Classes
from trainer.backbones.baselines import BaselineConfig
from trainer.judging.folds import Folds
from trainer.judging.head import HeadConfig
from trainer.pretraining.config import PretrainConfig

Mode = Literal["transductive", "inductive", "external"]


class BedConfig(BaseModel):
    """How labelled videos are cropped to the bed, as `semiome encoder crop` does it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    detector: str
    """Folder of a detector, relative to the configuration file; `maskrcnn`; or `simulated`, for simulated rooms."""
    weights: Path | None = None
    """With `maskrcnn`: torchvision's weights file, relative to the configuration file; by default its cache."""
    confidence: float = Field(default=0.5, gt=0, le=1)
    """Lowest score of a detection that counts as a bed, 0 to 1."""
    margin: float = Field(default=0.1, ge=0, le=1)
    """Added on each side, as a share of the bed's size."""
    no_bed: Literal["refuse", "whole", "camera"] = "refuse"
    """What becomes of a video without a bed: it is left out, stays whole, or has the last box of its camera."""


class AblationConfig(BaseModel):
    """One ablation study."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the study; its folder below `runs/`."""
    manifest: Path | None = None
    """CSV of the videos, relative to the configuration file; not needed where the frame cache is there."""
    unlabelled: Path | None = None
    """CSV of the videos to pretrain on, where these are not those of `manifest`: the paper pretrains on whole pictures
    of all videos and judges seizures that are cropped to the bed. A patient has the same id in both."""
    bed: BedConfig | None = None
    """Who crops the videos of `manifest` that have no `crop` of their own; by default they stay whole."""
    frame_cache: Path | None = None
    """Folder of decoded frames, relative to the configuration file, made when missing; those of `unlabelled`, and those
    that a baseline wants otherwise, lie in folders of their own in it."""
    encoder: str = "timesformer-l"
    """Initial weights of all settings: an encoder folder or a .pyth checkpoint, relative to the configuration file, or
    a preset with random weights."""
    frozen: tuple[str, ...] = ()
    """Other encoders that are judged as they are, a row each: folders of weights, relative to the configuration file,
    of any kind that `semiome encoder import` takes. Each sees frames of its own number and size."""
    modes: tuple[Mode, ...] = ("transductive",)
    """One or several. transductive pretrains once, on all patients but external ones, as the paper; inductive once for
    each fold, without its test patients; external judges patients of `hold_out_split`, whom nothing has seen."""
    hold_out_split: str = Field(default="test", validation_alias=AliasChoices("hold_out_split", "external_split"))
    """Patients with a video of this split are kept out of all pretraining and all folds."""
    folds: Folds = 5
    """Number of folds by patient; the paper has 5. `patient` leaves one patient out at a time, for cohorts in which a
    class has fewer patients than that."""
    seed: int = Field(default=0, ge=0)
    """Seed of folds and heads."""
    repeats: int = Field(default=3, ge=1)
    """Seeds of folds and heads, counted from `seed`, that the spread of accuracies is reported for."""
    map: Literal["pca", "umap"] = "pca"
    """How the report lays out embeddings; umap needs the extra `semiome[map]`."""
    classes: tuple[str, ...] = PAPER.names
    """What the labels of the manifest tell apart, 2 to 10 names."""
    positive: str | None = None
    """The class that F1 and the curves are of; by default the second of two, and none of more."""
    device: str = "cpu"
    """cpu or cuda."""
    pretrain: PretrainConfig = PretrainConfig()
    """The recipe; its `levels` are those of each setting."""
    head: HeadConfig = HeadConfig()
    """The head on the frozen encoder."""
    baselines: tuple[BaselineConfig, ...] = ()
    """Other models to compare with."""

    @field_validator("modes", mode="before")
    @classmethod
    def _one_or_several(cls, modes: object) -> object:
        return (modes,) if isinstance(modes, str) else modes

    @property
    def told_apart(self) -> Classes:
        """The classes."""
        return Classes(self.classes, self.positive)

    @model_validator(mode="after")
    def _named(self) -> AblationConfig:
        try:
            Classes(self.classes, self.positive)
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _files(self) -> AblationConfig:
        if self.manifest is None and (self.unlabelled is not None or self.bed is not None):
            raise ValueError("expected a manifest beside unlabelled or bed, got a frame cache alone")
        return self
