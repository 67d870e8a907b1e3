"""A simulated cohort as files: MP4 videos, the manifest, and beside it the truth that no real hospital has."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from encoder.video.writer import write_h264
from index.files.durable import write_text_atomically
from semiome.simulation.cohort import Recording
from semiome.simulation.render import FPS, HEIGHT, WIDTH
from semiome.simulation.scene import clips_of
from semiome.simulation.signs import move

MANIFEST, TRUTH = "manifest.csv", "truth.csv"


def write_cohort(
    recordings: Sequence[Recording],
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draw all videos and write the manifest last.

    Args:
        recordings: the cohort.
        folder: `videos/`, `manifest.csv` and `truth.csv` go here.
        processes: how many draw at once.
        progress: told (videos done, videos in all).

    Returns:
        The manifest.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    progress(0, len(recordings))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(write_recording, recording, folder / "videos") for recording in recordings]
        for done, task in enumerate(as_completed(tasks), start=1):
            task.result()
            progress(done, len(recordings))
    write_text_atomically(folder / TRUTH, _table(_truth(recordings)))
    write_text_atomically(folder / MANIFEST, _table(_manifest(recordings)))
    return folder / MANIFEST


def write_recording(
    recording: Recording, folder: Path, width: int = WIDTH, height: int = HEIGHT, fps: int = FPS
) -> None:
    """Draw one video and write it as `folder/<video id>.mp4`.

    Args:
        recording: the video.
        folder: where it goes.
        width: in pixels.
        height: in pixels.
        fps: frames a second, a divisor of the simulator's.
    """
    random = np.random.default_rng(recording.seed)
    motion = move(list(recording.events), recording.seconds, FPS, random)
    shown = np.arange(0, motion.moments, FPS // fps)
    frames = recording.scene.frames(motion.at(shown), shown / FPS, random, width, height)
    write_h264(folder / f"{recording.video_id}.mp4", frames, fps, width, height, preset="ultrafast")


def _manifest(recordings: Iterable[Recording]) -> Iterable[Sequence[object]]:
    yield "file_name", "patient_id", "video_id", "label", "recorded_at", "semiology", "split", "camera"
    for recording in recordings:
        at, signs = recording.recorded_at.isoformat(), ";".join(recording.semiology)
        split = "test" if recording.patient.held_out else "train"
        name = f"videos/{recording.video_id}.mp4"
        yield name, recording.patient_id, recording.video_id, recording.label, at, signs, split, recording.camera


def _truth(recordings: Iterable[Recording]) -> Iterable[Sequence[object]]:
    yield "video_id", "clip_index", "start_s", "signs", "night", "blanket", "nurse"
    for recording in recordings:
        for plan in clips_of(round(recording.seconds * FPS), 1):
            start, end = plan.start_s, plan.start_s + plan.valid_seconds
            nurse = recording.nurse_s is not None and recording.nurse_s[0] < end and recording.nurse_s[1] > start
            signs = ";".join(recording.signs_between(start, end))
            flags = (int(flag) for flag in (recording.night, recording.blanket is not None, nurse))
            yield recording.video_id, plan.clip_index, f"{start:g}", signs, *flags


def _table(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
