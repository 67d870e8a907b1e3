"""Who reads what: decord, PyAV and torchcodec on files of ordinary sizes and lengths, each at its best, on one core.

    .venv/bin/python benchmarks/readers.py [--quick] [--peers FOLDER]

For each size a film of one minute, and one of an hour that repeats it. Two jobs: the 96 frames of each 10-second clip
of the minute as 224 x 224 squares, which is what encoding does; and the 250 frames from the middle of the hour, whole,
which is what looking at a segment does. decord reads in order and resizes by itself, or Pillow does, or takes frames by
number; PyAV resizes in YUV as Semiome does, or makes RGB of whole frames; torchcodec takes frames by number. Every
frame shows its number: those that show another one are counted. FOLDER holds torchcodec, installed with
`pip install --target`. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import decord
import numpy as np
from figures import figure, say
from numpy.typing import NDArray

from encoder.clips import plan_clips
from encoder.picture import square
from encoder.video.decoder import Decoder
from encoder.video.frames import reads_fast
from encoder.video.probe import probe
from encoder.video.writer import write_h264

SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
SIDE, FRAMES, FPS, MINUTE = 224, 96, 25, 60
Pictures = NDArray[np.uint8]
Way = Callable[[Path, list[int]], Pictures]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="one small size: proves that the script runs")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--peers", type=Path)
    chosen = options.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sizes, repeats = (SIZES[:1], 3) if chosen.quick else (SIZES, 60)
    with tempfile.TemporaryDirectory() as folder:
        for width, height in sizes:
            minute, hour = Path(folder) / "minute.mp4", Path(folder) / "hour.mp4"
            write_h264(minute, _film(width, height), FPS, width, height)
            _repeat(minute, hour, repeats)
            _encode(minute, width, height, chosen.rounds)
            _segment(hour, width, height, chosen.rounds)


def _encode(path: Path, width: int, height: int, rounds: int) -> None:
    """Print seconds a clip, ours against each way."""
    plans = plan_clips(probe(path).timeline, FRAMES)
    numbers = [number for plan in plans for number in plan.frame_numbers]
    short = min(width, height)
    small = round(width * SIDE / short), round(height * SIDE / short)
    ways: dict[str, Way] = {
        "decord in order, its own resizing": partial(_decord_in_order, size=small),
        "decord in order, Pillow": partial(_decord_in_order, size=None),
        "decord by number, its own resizing": partial(_decord_by_number, size=small),
        "PyAV, RGB of whole frames, Pillow": partial(_pyav, resize=True),
        **_torchcodec(resize=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", *ways)}
    for _ in range(rounds):
        seconds["ours"].append(_timed(lambda: _ours(path)) / len(plans))
        for name, way in ways.items():
            seconds[name].append(_timed(partial(way, path, numbers)) / len(plans))
    ours = statistics.median(seconds.pop("ours"))
    who = "decord in order, Pillow" if reads_fast(probe(path)) and 2 * short < 3 * SIDE else "PyAV in YUV"
    for name, values in seconds.items():
        wrong = _wrong(ways[name](path, numbers), numbers)
        theirs = statistics.median(values)
        peer = f"{name}; {wrong} of {len(numbers)} frames wrong"
        figure(f"a clip of {width} x {height}, ours by {who}", ours, "s/clip", peer, theirs, theirs / ours, None)


def _segment(path: Path, width: int, height: int, rounds: int) -> None:
    """Print seconds for ten seconds out of the middle of a long file."""
    facts = probe(path)
    first = len(facts.timeline.ticks) // 2 + 7
    numbers = list(range(first, first + 10 * FPS))
    ways: dict[str, Way] = {
        "decord by number": partial(_decord_by_number, size=None),
        "decord from the key frame before": _decord_from_key,
        **_torchcodec(resize=False),
    }
    looking = statistics.median(_timed(lambda: probe(path)) for _ in range(rounds))
    ours: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        ours.append(_timed(lambda: _pyav_from_key(path, numbers)))
        for name, way in ways.items():
            seconds[name].append(_timed(partial(way, path, numbers)))
    pyav, length = statistics.median(ours), len(facts.timeline.ticks) / FPS / 60
    say(f"{width} x {height}: looking through all timestamps of {length:.0f} minutes takes {looking:.2f} s")
    for name, values in seconds.items():
        wrong = _wrong(ways[name](path, numbers), numbers)
        theirs = statistics.median(values)
        what = f"10 s out of {length:.0f} minutes of {width} x {height}, PyAV from the key frame before"
        figure(what, pyav, "s", f"{name}; {wrong} of {len(numbers)} frames wrong", theirs, theirs / pyav, None)


def _film(width: int, height: int) -> Iterator[Pictures]:
    """A minute of moving noise with the number of each frame as twelve light and dark fields."""
    random = np.random.default_rng(0)
    ground = random.integers(60, 120, (height // 8 + 40, width // 8 + 40), np.uint8)
    ground = np.kron(ground, np.ones((8, 8), np.uint8))
    for number in range(MINUTE * FPS):
        left, top = number % 160, (number * 2) % 160
        grey = ground[top : top + height, left : left + width].copy()
        for bit in range(12):
            row, column = divmod(bit, 4)
            y, x = height * (2 * row + 1) // 8, width // 2 + (column - 2) * height // 5
            grey[y : y + height // 8, x : x + height // 8] = 235 if number >> bit & 1 else 16
        yield np.repeat(grey[..., None], 3, axis=-1)


def _wrong(pictures: Pictures, numbers: list[int]) -> int:
    """How many pictures show another number than they should."""
    wrong = 0
    for picture, number in zip(pictures, numbers, strict=True):
        height, width = picture.shape[:2]
        found = 0
        for bit in range(12):
            row, column = divmod(bit, 4)
            y, x = height * (2 * row + 1) // 8 + height // 16, width // 2 + (column - 2) * height // 5 + height // 16
            found |= int(picture[y - 2 : y + 3, x - 2 : x + 3].mean() > 127) << bit
        wrong += found != number % (MINUTE * FPS)
    return wrong


def _repeat(source: Path, target: Path, times: int) -> None:
    """The packets of a film, again and again: a long file of the same kind without a long wait."""
    with av.open(str(source)) as given, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = given.streams.video[0]
        written = out.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        length = round(Fraction(MINUTE) / Fraction(stream.time_base))
        for round_ in range(times):
            for packet in packets:
                copied = av.Packet(bytes(packet))
                copied.time_base, copied.duration = packet.time_base, packet.duration
                copied.pts, copied.dts = packet.pts + round_ * length, packet.dts + round_ * length
                copied.is_keyframe, copied.stream = packet.is_keyframe, written
                out.mux(copied)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ours(path: Path) -> None:
    """All of it: the child process, the timestamps, the squares."""
    with Decoder(FRAMES, SIDE) as decoder:
        for _ in decoder.decode(path):
            pass


def _centre(picture: Pictures) -> Pictures:
    top, left = (picture.shape[0] - SIDE) // 2, (picture.shape[1] - SIDE) // 2
    return picture[top : top + SIDE, left : left + SIDE]


def _decord_in_order(path: Path, numbers: list[int], size: tuple[int, int] | None) -> Pictures:
    given = {} if size is None else {"width": size[0], "height": size[1]}
    reader = decord.VideoReader(str(path), num_threads=1, **given)
    wanted, kept = set(numbers), {}
    for number in range(len(reader)):
        picture = reader.next()
        if number in wanted:
            whole = picture.asnumpy()
            kept[number] = square(whole, SIDE) if size is None else _centre(whole)
    return np.stack([kept[number] for number in numbers])


def _decord_by_number(path: Path, numbers: list[int], size: tuple[int, int] | None) -> Pictures:
    given = {} if size is None else {"width": size[0], "height": size[1]}
    pictures = decord.VideoReader(str(path), num_threads=1, **given).get_batch(numbers).asnumpy()
    return pictures if size is None else np.stack([_centre(picture) for picture in pictures])


def _decord_from_key(path: Path, numbers: list[int]) -> Pictures:
    reader = decord.VideoReader(str(path), num_threads=1)
    key = max(number for number in reader.get_key_indices() if number <= numbers[0])
    reader.seek(key)
    read = [reader.next().asnumpy() for _ in range(numbers[-1] - key + 1)]
    return np.stack(read[numbers[0] - key :])


def _pyav(path: Path, numbers: list[int], *, resize: bool) -> Pictures:
    wanted, kept = set(numbers), {}
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                picture = frame.to_ndarray(format="rgb24")
                kept[number] = square(picture, SIDE) if resize else picture
    return np.stack([kept[number] for number in numbers])


def _pyav_from_key(path: Path, numbers: list[int]) -> Pictures:
    kept = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        first, last = (round(Fraction(number, FPS) / stream.time_base) for number in (numbers[0], numbers[-1]))
        container.seek(first, stream=stream)
        for frame in container.decode(stream):
            if frame.pts >= first:
                kept.append(frame.to_ndarray(format="rgb24"))
            if frame.pts >= last:
                break
    return np.stack(kept)


def _torchcodec(*, resize: bool) -> dict[str, Way]:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        say(f"torchcodec takes no part: {type(error).__name__}")
        return {}

    def by_number(path: Path, numbers: list[int]) -> Pictures:
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode="exact")
        parts = []
        for start in range(0, len(numbers), FRAMES):
            pictures = decoder.get_frames_at(numbers[start : start + FRAMES]).data.numpy()
            parts.append(np.stack([square(picture, SIDE) for picture in pictures]) if resize else pictures)
        return np.concatenate(parts)

    return {"torchcodec by number" + (", Pillow" if resize else ""): by_number}


if __name__ == "__main__":
    main()
