"""Make the demo's initial weights: `python -m semiome.simulation.stage0 FOLDER` (about an hour on two cores).

Draws generic actions (`actions.py`), trains the demo's encoder to tell their movements
(`trainer/pretraining/stage0.py`), and writes an encoder folder. Nothing of a cohort, a patient or a sign goes in.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from encoder.model.architecture import preset
from encoder.model.folder import identified, new_encoder, save_encoder
from semiome.console import Screen
from semiome.simulation.actions import JOINTS, SIGNED, Action, draw_action, mirrored
from semiome.simulation.figure import POINTS
from trainer.pretraining.stage0 import Actions, Scale, explained, train_stage0

_UNSEEN = 500


def main() -> None:
    """Draw, train, write, and say how much of unseen movement is recognised."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="where the encoder folder goes")
    options.add_argument("--clips", type=int, default=24_000)
    options.add_argument("--steps", type=int, default=6_500)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--processes", type=int, default=2)
    chosen = options.parse_args()
    screen = Screen(as_json=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        actions = draw(Path(scratch), chosen.clips + _UNSEEN, chosen.processes, screen)
        seen, unseen = _part(actions, slice(0, chosen.clips)), _part(actions, slice(chosen.clips, None))
        encoder = new_encoder(preset("timesformer-demo"), chosen.seed)
        losses: list[float] = []

        def on_step(step: int, loss: float) -> None:
            losses.append(loss)
            progress(step, chosen.steps)
            if step % 250 == 0:
                screen.note(f"step {step}: loss {np.mean(losses[-250:]):.3f}, {time.monotonic() - started:.0f} s")

        with screen.progress("Training") as progress:
            reader = train_stage0(encoder.trainable, seen, chosen.steps, chosen.batch, chosen.seed, on_step)
        spread, deviation = explained(reader, unseen, Scale(seen))
    origin = (
        f"stage 0: {chosen.steps} steps of {chosen.batch} on {chosen.clips} simulated generic actions, seed "
        f"{chosen.seed}; explains {spread:.2f} of the variance of joint movement in unseen clips"
    )
    made = identified(encoder.model, origin, trained=True)
    save_encoder(made, chosen.folder)
    values = {"encoder_id": made.encoder_id, "explained_spread": spread, "explained_deviation": deviation}
    screen.result({**values, "seconds": round(time.monotonic() - started)}, lambda: None)


def draw(folder: Path, clips: int, processes: int, screen: Screen) -> Actions:
    """Draw actions of seeds 0 to `clips`, their frames into a memory map in `folder`."""
    shape = preset("timesformer-demo")
    size = shape.image_size
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (clips, shape.num_frames, size, size, 3))
    told: list[Action] = []
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        screen.progress("Drawing actions") as progress,
    ):
        for number, action in enumerate(
            pool.map(partial(draw_action, shape.num_frames, size), range(clips), chunksize=64)
        ):
            frames[number] = action.frames
            told.append(Action(frames[number], action.spread, action.deviation, action.points))
            progress(number + 1, clips)
    spread, deviation, points = (np.stack([getattr(a, key) for a in told]) for key in ("spread", "deviation", "points"))
    return Actions(
        *(frames, spread, deviation, points),
        mirrored_joints=tuple(JOINTS.index(mirrored(joint)) for joint in JOINTS),
        signed=tuple(-1 if joint in SIGNED else 1 for joint in JOINTS),
        mirrored_points=tuple(POINTS.index(mirrored(point)) for point in POINTS),
    )


def _part(actions: Actions, rows: slice) -> Actions:
    return Actions(
        actions.frames[rows],
        actions.spread[rows],
        actions.deviation[rows],
        actions.points[rows],
        actions.mirrored_joints,
        actions.signed,
        actions.mirrored_points,
    )


if __name__ == "__main__":
    main()
