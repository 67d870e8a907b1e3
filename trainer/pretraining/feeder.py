"""Batches of a pretraining run with their frames, the next one read while a step computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.model.timesformer import normalise
from trainer.clips import TrainingClips
from trainer.pretraining.augment import Recipe, augment
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.sampler import share
from trainer.pretraining.step import Batch


class Feeder:
    """Reads the next batch's frames while a step computes."""

    def __init__(
        self,
        clips: TrainingClips,
        scene_of: Sequence[int] | None,
        recipe: Recipe,
        seed: int,
        ranks: Ranks,
        on_wait: Callable[[float], None],
    ) -> None:
        """Take the clips and their scenes where these matter, how they are augmented, and who is told of waits."""
        self._clips, self._ranks, self._on_wait = clips, ranks, on_wait
        self._recipe, self._seed = recipe, seed
        self._video_of, self._patient_of = clips.video_of, clips.patient_of
        self._scene_of = scene_of
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def batches(
        self, plan: Sequence[tuple[int, list[int]]], done: int
    ) -> Iterator[tuple[int, tuple[int, list[int]], Batch]]:
        """(step, (epoch, clip numbers), batch) of every step after `done`."""
        if done >= len(plan):
            return
        waiting = self._reader.submit(self._read, plan[done][1])
        for step in range(done + 1, len(plan) + 1):
            asked = time.monotonic()
            frames = waiting.result()
            self._on_wait(time.monotonic() - asked)
            if step < len(plan):
                waiting = self._reader.submit(self._read, plan[step][1])
            yield step, plan[step - 1], self._batch(step, plan[step - 1][1], frames)

    def _read(self, numbers: list[int]) -> NDArray[np.uint8]:
        mine = share(numbers, self._ranks.rank, self._ranks.world_size)
        return np.stack([self._clips.frames[number] for number in mine])

    def _batch(self, step: int, numbers: list[int], frames: NDArray[np.uint8]) -> Batch:
        sizes = [len(share(numbers, rank, self._ranks.world_size)) for rank in range(self._ranks.world_size)]
        first = sum(sizes[: self._ranks.rank])
        # One seed for each place of the batch, whichever rank has it.
        seeds = np.random.SeedSequence([self._seed, step]).generate_state(len(numbers)).tolist()

        def load(places: Sequence[int]) -> Tensor:
            chosen = torch.from_numpy(frames[list(places)]).to(self._ranks.device)
            return augment(normalise(chosen), self._recipe, [seeds[first + place] for place in places])

        video_B, patient_B = (
            torch.tensor([of[number] for number in numbers], device=self._ranks.device)
            for of in (self._video_of, self._patient_of)
        )
        scene_B = None
        if self._scene_of is not None:
            scene_B = torch.tensor([self._scene_of[number] for number in numbers], device=self._ranks.device)
        moments = [self._clips.clips[number].from_onset_s for number in numbers]
        moment_B = torch.tensor(moments, dtype=torch.float32, device=self._ranks.device)
        return Batch(video_B, patient_B, sizes, load, scene_B, moment_B)
