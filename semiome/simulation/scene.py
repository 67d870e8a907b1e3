"""A scene: a person in a bed, in a room, before a camera; as every frame of a video, or as the frames of its clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from encoder.clips import ClipPlan, Timeline, plan_clips
from semiome.simulation.figure import Capsule, Motion, lying, points, standing
from semiome.simulation.render import FPS, HEIGHT, WIDTH, Camera, Look, Room, View, project

Array = NDArray[np.float64]

NURSE = Look(skin=(0.8, 0.62, 0.5), hair=(0.2, 0.15, 0.1), top=(0.35, 0.6, 0.65), legs=(0.9, 0.9, 0.9))


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is seen, besides the movement of who lies there.

    Attributes:
        room: the room.
        camera: where it is seen from.
        night: infrared.
        look: skin, hair, clothes, blanket.
        size: scale of lengths.
        build: scale of thickness.
        nurse_s: when a nurse passes, from and to; None when none does.
    """

    room: Room
    camera: Camera
    night: bool
    look: Look
    size: float
    build: float
    nurse_s: tuple[float, float] | None

    def frames(
        self, motion: Motion, times_s: NDArray[np.float64], noise: np.random.Generator, width: int, height: int
    ) -> Iterator[NDArray[np.uint8]]:
        """One (height, width, 3) RGB picture for each moment of the motion.

        Args:
            motion: joint angles at those moments.
            times_s: when they are, in the video's time.
            noise: the sensor's noise.
            width: pixels.
            height: pixels.
        """
        figures: list[tuple[list[Capsule], Look]] = [(lying(motion, self.size, self.build), self.look)]
        if self.nurse_s is not None:
            figures.append((_nurse(self.nurse_s, times_s), NURSE))
        view = View(self.room, self.camera, night=self.night, noise=noise, width=width, height=height)
        return view.frames(figures)

    def video(self, motion: Motion, noise: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
        """Every frame of the video that a motion at `FPS` makes."""
        return self.frames(motion, np.arange(motion.moments) / FPS, noise, WIDTH, HEIGHT)

    def clips(self, motion: Motion, num_frames: int, size: int, noise: np.random.Generator) -> NDArray[np.uint8]:
        """The (K, T, size, size, 3) frames of the video's clips, drawn at that size instead of decoded and resized.

        The moments are those that decoding would choose. The picture is the centre of one of 4 : 3.
        """
        moments_KT = np.array([plan.frame_numbers for plan in clips_of(motion.moments, num_frames)])
        chosen = moments_KT.reshape(-1)
        width = round(size * WIDTH / HEIGHT)
        left = (width - size) // 2
        pictures = self.frames(motion.at(chosen), chosen / FPS, noise, width, size)
        frames = np.stack([picture[:, left : left + size] for picture in pictures])
        return frames.reshape(*moments_KT.shape, size, size, 3)

    def points(self, motion: Motion, size: int) -> Array:
        """(F, K, 2) where `POINTS` of the body are in the pictures of `clips`: across and down, in pixels."""
        body = points(lying(motion, self.size, self.build))
        seen = project(self.camera, body, round(size * WIDTH / HEIGHT), size)
        return seen - [(round(size * WIDTH / HEIGHT) - size) // 2, 0]


def clips_of(moments: int, num_frames: int) -> tuple[ClipPlan, ...]:
    """The clips of a video of so many frames at `FPS`, as decoding would make them."""
    return plan_clips(Timeline(range(moments), Fraction(1, FPS)), num_frames)


def _nurse(when_s: tuple[float, float], times_s: NDArray[np.float64]) -> list[Capsule]:
    """Walks along the far side of the bed; outside the room before and after."""
    begin, end = when_s
    way = np.clip((times_s - begin) / (end - begin), 0, 1)
    at = np.stack([np.full_like(times_s, -1.0), -2.0 + 4.0 * way, np.zeros_like(times_s)], axis=1)
    at[(times_s < begin) | (times_s > end), 2] = -50.0  # far below the floor: never seen
    return standing(at, np.pi / 2, 0.5 * np.sin(2 * np.pi * 1.6 * times_s))
