"""96 frames of a 10-second 1280 x 720 H.264 clip: ours, whole and sandboxed, against plain loops of three libraries.

    .venv/bin/python benchmarks/decode.py [--quick]

Ours looks through the timestamps, decodes in a child process, and gives 224 x 224 squares. The plain loops open the
file, take the same frames by number and leave them 1280 x 720: the least that anybody could do. Each way runs pinned to
one core, and on all of them: ours with a decoder a core, a plain loop at its better setting of one process a core or
one with a thread a core. Processes of loops are up before the clock starts; ours starts one a file, as it must. A
library that shows other frames than those asked for is named. torchcodec takes part where it is
installed (0.13 for torch 2.13, with FFmpeg's libraries). One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import decord
import numpy as np
from figures import figure, say
from numpy.typing import NDArray

from encoder.clips import plan_clips
from encoder.picture import square
from encoder.video.decoder import Decoder
from encoder.video.probe import probe
from encoder.video.writer import write_h264
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.signs import move

FRAMES, SIZE, FPS = 96, 224, 25
Pictures = NDArray[np.uint8]
Loop = Callable[[Path, list[int], int], Pictures]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="a small picture: proves that the script runs")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--clips", type=int, default=8, help="files a round")
    options.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        _child(*chosen.child)
        return
    width, height = (320, 180) if chosen.quick else (1280, 720)
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), width, height, chosen.rounds, chosen.clips)


def measure(folder: Path, width: int, height: int, rounds: int, clips: int) -> None:
    """Print the figures for pictures of this size."""
    source = folder / "0.mp4"
    _film(source, width, height)
    paths = [source, *(Path(shutil.copy(source, folder / f"{number}.mp4")) for number in range(1, clips))]
    numbers = list(plan_clips(probe(source).timeline, FRAMES)[0].frame_numbers)
    truth = _truth(source, numbers)
    say(f"{width} x {height}, {source.stat().st_size / 1e6:.1f} MB, {len(set(numbers))} of {10 * FPS} frames wanted")
    _check_ours(source, truth)
    loops = {"decord2": _decord, "PyAV": _pyav, **_torchcodec()}
    for name, loop in loops.items():
        wrong = _wrong(loop(source, numbers, 1), truth)
        say(f"{name}: {wrong} of {FRAMES} frames are others than asked for" if wrong else f"{name}: frames right")

    everywhere = os.sched_getaffinity(0)
    for cores in (1, len(everywhere)):
        os.sched_setaffinity(0, everywhere if cores > 1 else {min(everywhere)})  # children inherit it
        seconds: dict[str, list[float]] = {name: [] for name in ("ours", *loops)}
        for _ in range(rounds):
            seconds["ours"].append(_ours(paths, cores))
            for name in loops:
                ways = [_processes(name, paths, numbers, cores, 1)]
                if cores > 1:
                    ways.append(_processes(name, paths, numbers, 1, cores))
                seconds[name].append(min(ways))
        median = {name: statistics.median(values) for name, values in seconds.items()}
        fastest = min(loops, key=lambda name: median[name])
        for name in loops:
            say(f"{cores} cores: {name} {median[name]:.3f} s a clip")
        theirs, ours = median[fastest], median["ours"]
        name = f"decode {FRAMES} frames of {width}x{height} H.264, cores: {cores}"
        figure(name, ours, "s/clip", f"{fastest}, plain loop", theirs, theirs / ours, 1.0)


def _film(path: Path, width: int, height: int) -> None:
    """Ten seconds of a simulated seizure."""
    recording = simulate_cohort(4, 1, seed=5)[0]
    random = np.random.default_rng(0)
    motion = move(list(recording.events), 10.0, FPS, random)
    frames = recording.scene.frames(motion, np.arange(10 * FPS) / FPS, random, width, height)
    write_h264(path, frames, FPS, width, height)


def _truth(path: Path, numbers: list[int]) -> Pictures:
    """The wanted frames, by decoding all of them in order."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([pictures[number] for number in numbers])


def _wrong(found: Pictures, truth: Pictures) -> int:
    """How many frames differ by more than two ways of making RGB would."""
    far = [np.abs(a.astype(int) - b.astype(int)).mean() for a, b in zip(found, truth, strict=True)]
    return sum(distance > 2 for distance in far)


def _check_ours(path: Path, truth: Pictures) -> None:
    with Decoder(FRAMES, SIZE) as decoder:
        (clip,) = decoder.decode(path)
    wanted = np.stack([square(picture, SIZE) for picture in truth])
    wrong = _wrong(clip.frames, wanted)
    say(f"ours ({clip.reader}): {wrong or 'no'} wrong frames")
    if wrong:
        raise SystemExit("our own frames are wrong: no figure is worth printing")


def _ours(paths: list[Path], cores: int) -> float:
    """Seconds a clip, `cores` files at a time, each in a child process; the first child is up when the clock starts."""
    decoders = [Decoder(FRAMES, SIZE) for _ in range(cores)]
    time.sleep(1.5)

    def work(number: int) -> None:
        for path in paths[number::cores]:
            for _ in decoders[number].decode(path):
                pass

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, range(cores)))
    seconds = time.perf_counter() - started
    for decoder in decoders:
        decoder.close()
    return seconds / len(paths)


def _processes(name: str, paths: list[Path], numbers: list[int], processes: int, threads: int) -> float:
    """Seconds a clip of a plain loop, by the number of processes and threads."""
    command = [sys.executable, __file__, "--child", name, str(threads), json.dumps(numbers)]
    parts = [list(map(str, paths[number::processes])) for number in range(processes)]
    children = [
        subprocess.Popen([*command, *part], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for part in parts
    ]
    for child in children:
        child.stdout.readline()
    started = time.perf_counter()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.stdout.readline()
    seconds = time.perf_counter() - started
    for child in children:
        child.communicate()
    return seconds / len(paths)


def _child(name: str, threads: str, numbers: str, *paths: str) -> None:
    """One process of a plain loop: warm, then at a word through its files."""
    loop, wanted = {"decord2": _decord, "PyAV": _pyav, **_torchcodec()}[name], json.loads(numbers)
    loop(Path(paths[0]), wanted, int(threads))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for path in paths:
        loop(Path(path), wanted, int(threads))
    sys.stdout.write("done\n")
    sys.stdout.flush()


def _decord(path: Path, numbers: list[int], threads: int) -> Pictures:
    pictures: Pictures = decord.VideoReader(str(path), num_threads=threads).get_batch(numbers).asnumpy()
    return pictures


def _pyav(path: Path, numbers: list[int], threads: int) -> Pictures:
    wanted, kept = set(numbers), {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                kept[number] = frame.to_ndarray(format="rgb24")
    return np.stack([kept[number] for number in numbers])


def _torchcodec() -> dict[str, Loop]:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        say(f"torchcodec takes no part: {type(error).__name__}")
        return {}

    def loop(path: Path, numbers: list[int], threads: int) -> Pictures:
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=threads, dimension_order="NHWC", seek_mode="exact")
        pictures: Pictures = decoder.get_frames_at(numbers).data.numpy()
        return pictures

    return {"torchcodec": loop}


if __name__ == "__main__":
    main()
