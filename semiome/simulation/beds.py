"""Make the demo's bed detector: `python -m semiome.simulation.beds FOLDER` (about a quarter of an hour on two cores).

Draws rooms that no cohort has, from cameras that look at the bed, past it or away from it, and trains a small
detector (`trainer/bed_detector.py`) to say where the bed is. It knows this simulation's beds and no others.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.bed.detector import load_detector
from encoder.bed.small_detector import HEIGHT, WIDTH, save_detector
from encoder.picture import Crop
from semiome.console import Screen
from semiome.simulation.actions import draw_posture, draw_scene
from semiome.simulation.figure import BED_HEIGHT
from semiome.simulation.render import Camera, project
from trainer.bed_detector import train_detector

_UNSEEN = 500
_CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-1.1, 1.05) for z in (0.0, BED_HEIGHT + 0.1)])
_LEAST_SHOWN = 0.35
"""Least share of the bed's box in the picture: with less of it in the picture it does not count as found."""


@dataclass(frozen=True, slots=True)
class Bedroom:
    """A picture and where its bed is; None when there is none to be seen."""

    picture: NDArray[np.uint8]
    bed: Crop | None


def draw_bedroom(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Bedroom:
    """Draw the picture of one seed: a fifth of them show no bed."""
    random = np.random.default_rng(seed)
    scene = draw_scene(random)
    wanted = random.random() >= 0.2
    while True:
        camera = _camera(random, looks_at_bed=wanted)
        shown, bed = bed_of(camera, width, height)
        if (shown >= _LEAST_SHOWN) if wanted else shown == 0:
            break
    scene = replace(scene, camera=camera, nurse_s=(0.0, 10.0) if random.random() < 0.2 else None)
    times_s = np.array([random.uniform(0, 10)])
    picture = next(scene.frames(draw_posture(random), times_s, random, width, height))
    return Bedroom(picture, bed if wanted else None)


def bed_of(camera: Camera, width: int, height: int) -> tuple[float, Crop | None]:
    """The share of the bed's box that a camera's picture holds, and that part of it."""
    away = np.array(camera.target) - camera.position
    if ((_CORNERS - np.array(camera.position)) @ away).min() < 0.2 * np.linalg.norm(away):
        return (0.0, None) if ((_CORNERS - np.array(camera.position)) @ away).max() <= 0 else (-1.0, None)
    seen = project(camera, _CORNERS, width, height)
    low, high = seen.min(0), seen.max(0)
    left, top = np.clip(low, 0, (width, height))
    right, bottom = np.clip(high, 0, (width, height))
    shown = float((right - left) * (bottom - top) / np.prod(high - low))
    if shown == 0:
        return 0.0, None
    x, y = round(float(left)), round(float(top))
    return shown, Crop(x, y, max(round(float(right)) - x, 1), max(round(float(bottom)) - y, 1))


def _camera(random: np.random.Generator, *, looks_at_bed: bool) -> Camera:
    """Anywhere in the upper half of the room, looking at the bed, or anywhere else."""
    position = (random.uniform(-2.1, 2.1), random.uniform(-2.5, 2.4), random.uniform(1.6, 2.6))
    if looks_at_bed:
        target = (random.normal(0, 0.35), random.normal(0.05, 0.45), random.uniform(0.3, 0.9))
    else:
        target = (random.uniform(-2.2, 2.2), random.uniform(-2.6, 2.6), random.uniform(0.0, 2.5))
    return Camera(position, target, random.uniform(0.7, 1.3))


def overlap(one: Crop, other: Crop) -> float:
    """Intersection over union of two boxes."""
    across = min(one.x + one.w, other.x + other.w) - max(one.x, other.x)
    down = min(one.y + one.h, other.y + other.h) - max(one.y, other.y)
    common = max(across, 0) * max(down, 0)
    return common / (one.w * one.h + other.w * other.h - common)


def main() -> None:
    """Draw, train, write, and say how well unseen beds are found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="where the detector's folder goes")
    options.add_argument("--pictures", type=int, default=20_000)
    options.add_argument("--steps", type=int, default=8_000)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--processes", type=int, default=2)
    chosen = options.parse_args()
    screen = Screen(as_json=True)
    started = time.monotonic()
    rooms: list[Bedroom] = []
    with (
        ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool,
        screen.progress("Drawing rooms") as progress,
    ):
        for room in pool.map(draw_bedroom, range(chosen.pictures), chunksize=64):
            rooms.append(room)
            progress(len(rooms), chosen.pictures)
    with screen.progress("Training") as progress:
        pictures = np.stack([room.picture for room in rooms])
        beds = [room.bed for room in rooms]
        model = train_detector(pictures, beds, chosen.steps, chosen.batch, chosen.seed, progress)
    save_detector(model, chosen.folder)
    values = {**judged(chosen.folder, range(10**6, 10**6 + _UNSEEN)), "seconds": time.monotonic() - started}
    screen.result(values, lambda: None)


def judged(folder: Path, seeds: range) -> dict[str, float]:
    """How a detector does on rooms of these seeds, drawn as a video shows them.

    Returns:
        The mean overlap of true and found beds (a bed that is not found counts 0), the share of beds with an overlap
        of at least .7, and the share of pictures without a bed in which one is found.
    """
    detector = load_detector(folder, confidence=0.5)
    overlaps, mistaken = [], []
    for seed in seeds:
        room = draw_bedroom(seed, 320, 240)
        found = sorted(detector.beds(room.picture), key=lambda bed: -bed.confidence)[:1]
        if room.bed is None:
            mistaken.append(bool(found))
            continue
        boxes = [Crop(*map(round, (b.left, b.top, b.right - b.left, b.bottom - b.top))) for b in found]
        overlaps.append(max((overlap(box, room.bed) for box in boxes), default=0.0))
    return {
        "mean_overlap": float(np.mean(overlaps)),
        "share_of_0.7": float(np.mean(np.array(overlaps) >= 0.7)),
        "mistaken": float(np.mean(mistaken)),
    }


if __name__ == "__main__":
    main()
