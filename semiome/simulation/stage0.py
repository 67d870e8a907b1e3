"""Make the demo's initial weights: `python -m semiome.simulation.stage0 FOLDER` (a few hours on two cores).

Draws generic actions (`actions.py`), trains the demo's encoder to tell their movements
(`trainer/pretraining/stage0.py`), and writes an encoder folder. Nothing of a cohort, a patient or a sign goes in. What
was drawn and how far the training is stays in `--scratch`: stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from encoder.model.architecture import architecture
from encoder.model.folder import save_encoder
from encoder.model.identity import identified, new_encoder
from index.errors import InvalidInput
from index.files.durable import write_atomically
from semiome.console import Screen
from semiome.simulation.actions import JOINTS, SIGNED, draw_action, mirrored
from semiome.simulation.figure import POINTS
from trainer.pretraining.stage0 import Actions, Scale, explained, train_stage0

_UNSEEN = 500
SHAPE = architecture(
    *(48, 96, 96, 4, 3),
    patch_size=24,
    input_view="change",
    frames_a_moment=4,
)
_TOLD = ("spread", "rhythm", "deviation", "points")


def main() -> None:
    """Draw, train, write, and say how much of unseen movement is recognised."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="where the encoder folder goes")
    options.add_argument("--scratch", type=Path, default=Path("stage0"), help="clips and state, to go on from")
    options.add_argument("--clips", type=int, default=14_000)
    options.add_argument("--steps", type=int, default=40_000)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--processes", type=int, default=2, help="that draw")
    options.add_argument("--threads", type=int, help="of the training; torch's choice by default")
    chosen = options.parse_args()
    screen = Screen(as_json=True)
    actions = drawn(chosen.scratch, chosen.clips + _UNSEEN, chosen.processes, screen)
    seen, unseen = _part(actions, slice(0, chosen.clips)), _part(actions, slice(chosen.clips, None))
    encoder = new_encoder(SHAPE, chosen.seed)
    started, losses = time.monotonic(), []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        progress(step, chosen.steps)
        if step % 250 == 0:
            screen.note(f"step {step}: loss {np.mean(losses[-250:]):.3f}, {time.monotonic() - started:.0f} s")

    with screen.progress("Training") as progress:
        reader = train_stage0(
            *(encoder.trainable, seen, chosen.steps, chosen.batch, chosen.seed, on_step),
            checkpoint=chosen.scratch / "state.pt",
            threads=chosen.threads,
        )
    shares = explained(reader, unseen, Scale(seen, encoder.trainable.frames_a_moment))
    origin = (
        f"stage 0: {chosen.steps} steps of {chosen.batch} on {chosen.clips} simulated generic actions, seed "
        f"{chosen.seed}; explains {shares['spread']:.2f} of the variance of joint movement in unseen clips"
    )
    made = identified(encoder.model, origin, trained=True)
    save_encoder(made, chosen.folder)
    screen.result({"encoder_id": made.encoder_id, "explained": shares}, lambda: None)


def drawn(folder: Path, clips: int, processes: int, screen: Screen) -> Actions:
    """Actions of seeds 0 to `clips`, drawn into a folder or found there."""
    moments, size = SHAPE.num_frames, SHAPE.image_size
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "actions.npz").exists():
        frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (clips, moments, size, size))
        told: dict[str, list[np.ndarray]] = {key: [] for key in _TOLD}
        with (
            ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
            screen.progress("Drawing actions") as progress,
        ):
            draw = partial(draw_action, moments, size)
            for number, action in enumerate(pool.map(draw, range(clips), chunksize=16)):
                frames[number] = action.frames
                for key in _TOLD:
                    told[key].append(getattr(action, key))
                progress(number + 1, clips)
        frames.flush()
        values = {key: np.stack(arrays) for key, arrays in told.items()}
        write_atomically(folder / "actions.npz", lambda path: _save(path, values))
    found = np.load(folder / "actions.npz")
    if len(found["spread"]) != clips:
        raise InvalidInput(f"{folder.name} holds {len(found['spread'])} actions, not {clips}: name another --scratch")
    return Actions(
        frames=np.load(folder / "frames.npy", mmap_mode="r"),
        **{key: found[key] for key in _TOLD},
        mirrored_joints=tuple(JOINTS.index(mirrored(joint)) for joint in JOINTS),
        signed=tuple(-1 if joint in SIGNED else 1 for joint in JOINTS),
        mirrored_points=tuple(POINTS.index(mirrored(point)) for point in POINTS),
    )


def _save(path: Path, values: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **values)


def _part(actions: Actions, rows: slice) -> Actions:
    parts = {key: getattr(actions, key)[rows] for key in ("frames", *_TOLD)}
    return replace(actions, **parts)


if __name__ == "__main__":
    main()
