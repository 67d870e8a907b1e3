"""Twelve things that happen to a video on its way from the camera, done to a healthy file.

Each edit yields files and what they show: for every frame that is left, its number and when it is shown. A reader
must give just those frames or refuse the file. `python -m tests.encoder.video.mutations`
prints the table of docs/decoding.md.
"""

import io
import struct
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from encoder.video.decoder import Decoder
from index.errors import StateError, VideoRefused
from tests.conftest import DATA, EXPECTED
from tests.encoder.container import fields
from tests.encoder.video import awkward
from tests.encoder.video.barcode import HALVES, SIZE, TURNED_HALVES, read_numbers

VIDEOS = DATA / "videos"
HEALTHY = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "ok")
CUT_ANYWHERE = {".ts", ".mpg"}
FRAMES = 12
LARGE = 120
"""At this size pictures are not made smaller, and decord reads what it can."""


@dataclass(frozen=True)
class Case:
    """A file and what is in it.

    Attributes:
        path: the file.
        times: when each frame is shown, in seconds, in order.
        numbers: what each frame shows.
        turned: a player turns it by 90 degrees.
        may_be_read: whether right frames are an answer; else it must be refused.
    """

    path: Path
    times: tuple[Fraction, ...]
    numbers: tuple[int, ...]
    turned: bool = False
    may_be_read: bool = True


def truth(name):
    """A healthy file as a case."""
    facts = EXPECTED[name]
    first = facts.get("first_frame", 0)
    if "pts" in facts:
        times = tuple(Fraction(round(pts * 30), 30) for pts in facts["pts"])
    else:
        times = tuple(Fraction(n) / Fraction(facts["fps"]) for n in range(facts["frames"]))
    return Case(VIDEOS / name, times, tuple(range(first, first + len(times))), "rotate90" in name)


def outcome(case):
    """`read`, or why it was refused; raises AssertionError for a wrong frame."""
    small, large = (_outcome(case, size) for size in (SIZE, LARGE))
    assert (small == "read") == (large == "read"), f"{case.path.name}: {small}, by the other reader {large}"
    return small


def _outcome(case, size):
    found = []
    try:
        with Decoder(FRAMES, size) as decoder:
            halves = [list(decoder.decode(case.path, crop)) for crop in (TURNED_HALVES if case.turned else HALVES)]
    except VideoRefused as refused:
        if "crashed" in str(refused):
            raise AssertionError(f"{case.path.name}: {refused}") from None
        return str(refused)
    for left, right in zip(*halves, strict=True):
        found.append((left.start_s, left.valid_seconds, read_numbers(left.frames, right.frames, case.turned)))
    assert found, case.path.name
    shows_first = found[0][2][0]
    for start_s, valid_s, numbers in found:
        moments = [Fraction(start_s) + Fraction(valid_s) * (2 * i + 1) / (2 * FRAMES) for i in range(FRAMES)]
        assert any(numbers == expected for expected in _expected(case, moments)), (
            f"{case.path.name}: at {start_s} s {numbers}, first {shows_first}"
        )
    assert case.may_be_read, f"{case.path.name} was read: {found[-1][0]} + {found[-1][1]} s of {float(case.times[-1])}"
    return "read"


def _expected(case, moments):
    """Numbers at these moments: of the whole file, or of one that begins later, where its container may."""
    latest = len(case.times) // 2 if case.path.suffix in CUT_ANYWHERE else 1
    for first in range(latest):
        times = np.array([float(time - case.times[first]) for time in case.times[first:]])
        shown = [int(np.searchsorted(times, float(moment) + 1e-6, side="right")) - 1 for moment in moments]
        yield [case.numbers[first + n] for n in shown]


def remuxed(source, target, change=lambda number, packet: [packet], before=None, set_up=None):
    """The film's packets written again, each as `change` makes it."""
    with av.open(str(source)) as given, av.open(str(target), "w", format=_muxer(target)) as out:
        film = given.streams.video[0]
        extra = before(out) if before else None
        stream = out.add_stream_from_template(film)
        if set_up:
            set_up(stream)
        packets = [packet for packet in given.demux(film) if packet.size]
        if extra:
            for packet in extra:
                out.mux(packet)
        for number, packet in enumerate(packets):
            for changed in change(number, packet):
                changed.stream = stream
                out.mux(changed)
    return target


def _muxer(path):
    return {".ts": "mpegts", ".mpg": "vob", ".asf": "asf", ".wmv": "asf", ".mkv": "matroska", ".webm": "webm"}.get(
        path.suffix
    )


def copy_of(packet, shift_s=0):
    """The same packet, later."""
    copied = av.Packet(bytes(packet))
    copied.time_base = packet.time_base
    shift = round(shift_s / packet.time_base)
    copied.pts = None if packet.pts is None else packet.pts + shift
    copied.dts = None if packet.dts is None else packet.dts + shift
    copied.duration, copied.is_keyframe = packet.duration, packet.is_keyframe
    return copied


def cut_anywhere(case, folder, random):
    data = case.path.read_bytes()
    for number in range(4):
        path = folder / f"cut{number}{case.path.suffix}"
        path.write_bytes(data[: int(random.integers(len(data) // 10, len(data) - 16))])
        yield replace(case, path=path, may_be_read=case.path.suffix in CUT_ANYWHERE)


def junk_before(case, folder, random):
    for number, size in enumerate((1, 77, int(random.integers(100, 4000)))):
        path = folder / f"junk{number}{case.path.suffix}"
        path.write_bytes(random.bytes(size) + case.path.read_bytes())
        yield replace(case, path=path)


def clock_jump(case, folder, random):
    half = len(case.times) // 2
    with av.open(str(case.path)) as container:
        film = container.streams.video[0]
        ticks = [p.pts if p.pts is not None else p.dts for p in container.demux(film) if p.size]
        first = sorted(ticks)[-len(case.times)]  # an edit list hides what comes before
        at = [(tick - first) * film.time_base for tick in ticks]
    rank = {n: rank for rank, n in enumerate(sorted((n for n in range(len(at)) if at[n] >= 0), key=at.__getitem__))}
    for number, seconds in enumerate((300, 20, 4)):
        path = folder / f"jump{number}{case.path.suffix}"
        remuxed(case.path, path, lambda n, packet: [copy_of(packet, seconds if n >= half else 0)])  # noqa: B023
        # B-frames are shown in another order than that of their packets.
        shown = sorted((at[n] + (seconds if n >= half else 0), case.numbers[place]) for n, place in rank.items())
        times, numbers = zip(*shown, strict=True)
        if path.suffix == ".mpg":  # its muxer writes a time for some packets only, and another one than it was given
            with av.open(str(path)) as container:
                film = container.streams.video[0]
                written = sorted(p.pts for p in container.demux(film) if p.size)
                times = tuple((tick - written[0]) * film.time_base for tick in written)
                numbers = case.numbers
        yield replace(case, path=path, times=times, numbers=numbers, may_be_read=seconds < 10)


def track_added(case, folder, random):
    def another(codec, size, rate, count):
        def add(out):
            stream = out.add_stream(codec, rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            grey = np.full((size[1], size[0], 3), 90, np.uint8)
            pictures = [av.VideoFrame.from_ndarray(grey, format="rgb24") for _ in range(count)]
            return [p for picture in [*pictures, None] for p in stream.encode(picture)]

        return add

    seconds = int(case.times[-1])
    for suffix in (".mkv", ".mov"):
        small, film = folder / f"thumbnails{suffix}", folder / f"cameras{suffix}"
        try:
            remuxed(case.path, small, before=another("mjpeg", (64, 48), 1, seconds))
        except (av.error.FFmpegError, ValueError):
            continue  # this codec does not go into this container
        remuxed(case.path, film, before=another("mpeg4", (320, 240), 25, 25 * seconds))
        yield replace(case, path=small)
        yield replace(case, path=film, may_be_read=False)


def resolution_change(case, folder, random):
    codec = {"hevc": "libx265", "h264": "libx264", "vp9": "libvpx-vp9"}
    with av.open(str(case.path)) as container:
        film = container.streams.video[0]
        name, rate, pix_fmt = film.codec_context.codec.canonical_name, film.average_rate, film.codec_context.pix_fmt
    path = folder / f"resolution{case.path.suffix}"
    larger = av.CodecContext.create(codec.get(name, name), "w")  # its headers come with the first packet
    larger.width, larger.height, larger.pix_fmt, larger.framerate = 640, 480, pix_fmt, rate
    larger.time_base, larger.bit_rate = 1 / rate, 2_000_000
    larger.options = {"x265-params": "log-level=none"} if name == "hevc" else {}
    added = []
    for number in range(30):
        picture = np.repeat(np.repeat(awkward.picture(number), 2, 0), 2, 1)
        added += map(bytes, larger.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    added += map(bytes, larger.encode(None))
    half = len(case.times) // 2

    def change(number, packet):
        made = copy_of(packet)
        if half <= number < half + len(added):
            longer = av.Packet(added[number - half])
            longer.time_base, longer.pts, longer.dts = made.time_base, made.pts, made.dts
            longer.duration, longer.is_keyframe = made.duration, number == half
            return [longer]
        return [made]

    yield replace(case, path=remuxed(case.path, path, change), may_be_read=False)


def header_lies(case, folder, random, factor=0.5):
    """The length that the header declares, times `factor`."""
    data = bytearray(case.path.read_bytes())
    places = list(_lengths(data, case.path.suffix))
    for place, kind in places:
        (value,) = struct.unpack_from(kind, data, place)
        struct.pack_into(kind, data, place, type(value)(value * factor))
    path = folder / f"length{factor}{case.path.suffix}"
    path.write_bytes(data)
    if places:
        yield replace(case, path=path, may_be_read=factor <= 1 or path.suffix == ".mp4")  # which has a time for each


def _lengths(data, suffix):
    """Places of declared lengths and their struct formats."""
    if suffix in {".mp4", ".mov"}:
        for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            at = data.find(name)
            while at >= 0:
                yield at + offset, ">I"
                at = data.find(name, at + 4)
    elif suffix in {".mkv", ".webm"}:
        at = data.find(b"\x44\x89")
        yield at + 3, ">d" if data[at + 2] == 0x88 else ">f"
    elif suffix == ".avi":
        yield data.find(b"avih") + 8 + 16, "<I"
        yield data.find(b"strh") + 8 + 32, "<I"
    elif suffix in {".asf", ".wmv"}:
        at = data.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
        yield at + 64, "<Q"


def ten_times_as_long(case, folder, random):
    yield from header_lies(case, folder, random, factor=10)

    last = len(case.times) - 1
    path = folder / f"last{case.path.suffix}"
    remuxed(case.path, path, lambda n, packet: [copy_of(packet, 10 * case.times[-1] if n >= last - 3 else 0)])
    yield replace(case, path=path, may_be_read=False)


def timestamps_twice(case, folder, random):
    half = len(case.times) // 2
    with av.open(str(case.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    following = packets[half + 1].pts if packets[half + 1].pts is not None else packets[half + 1].dts
    if packets[half].dts is not None and following < packets[half].dts:
        following = packets[half + 2].pts

    def change(number, packet):
        made = copy_of(packet)
        if number == half:
            made.pts = following
        return [made]

    path = folder / f"twice{case.path.suffix}"
    try:
        remuxed(case.path, path, change)
    except (av.error.FFmpegError, ValueError):
        return  # a muxer that does not write this
    yield replace(case, path=path)


def packets_swapped(case, folder, random):
    half = len(case.times) // 2
    with av.open(str(case.path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    packets[half], packets[half + 3] = packets[half + 3], packets[half]
    numbers = list(case.numbers)

    def change(number, packet):
        made = av.Packet(packets[number])
        made.time_base, made.pts, made.dts = packet.time_base, packet.pts, packet.dts
        made.duration, made.is_keyframe = packet.duration, packet.is_keyframe
        return [made]

    path = folder / f"swapped{case.path.suffix}"
    remuxed(case.path, path, change)
    intra = "mjpeg" in case.path.name
    if intra:
        numbers[half], numbers[half + 3] = numbers[half + 3], numbers[half]
    yield replace(case, path=path, numbers=tuple(numbers))


def rotation_tag(case, folder, random):
    if case.turned:
        return
    path = folder / "turned.mp4"
    try:
        remuxed(case.path, path, lambda n, packet: [copy_of(packet)], set_up=lambda s: s.set_display_rotation(90))
    except (av.error.FFmpegError, ValueError):
        return
    yield replace(case, path=path, turned=True)


def field_coding(case, folder, random):
    """Its first frames coded in fields, in two containers."""
    numbers = case.numbers[:60]
    greys = (np.pad(awkward.picture(number)[..., 0], ((0, 16), (0, 0)), mode="edge") for number in numbers)
    units = [unit for picture in fields.pictures(greys) for unit in picture]
    raw = io.BytesIO(b"".join(units))
    for suffix in (".ts", ".mp4", ".mkv"):
        path = folder / f"fields{suffix}"
        raw.seek(0)
        with av.open(raw, format="h264") as given, av.open(str(path), "w", format=_muxer(path)) as out:
            stream = out.add_stream_from_template(given.streams.video[0])
            for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
                made = av.Packet(bytes(packet))
                made.time_base, made.pts, made.dts, made.duration = Fraction(1, 50), number, number, 1
                made.stream, made.is_keyframe = stream, number % 32 == 0
                out.mux(made)
        times = tuple(Fraction(n, 25) for n in range(len(numbers)))
        yield Case(path, times, numbers)


def one_frame(case, folder, random):
    path = folder / f"one{case.path.suffix}"
    remuxed(case.path, path, lambda n, packet: [copy_of(packet)] if n == 0 else [])
    yield replace(case, path=path, may_be_read=False)


EDITS = {
    "cut anywhere": cut_anywhere,
    "foreign bytes before": junk_before,
    "clock jump": clock_jump,
    "track added": track_added,
    "resolution changes": resolution_change,
    "header declares half": header_lies,
    "10 times the length declared": ten_times_as_long,
    "timestamps twice": timestamps_twice,
    "packets swapped": packets_swapped,
    "rotation tag": rotation_tag,
    "coded in fields": field_coding,
    "one frame": one_frame,
}


def cases(edit, name, folder):
    """The cases an edit makes of a file; the same every time."""
    seed = sorted(EDITS).index(edit) * 100 + HEALTHY.index(name)
    yield from EDITS[edit](truth(name), folder, np.random.default_rng(seed))


def main(*edits):
    """Print how often each edit's files were read right and were refused."""
    sys.stdout.write("| edit | files | right frames | refused by name | wrong |\n|---|---|---|---|---|\n")
    for edit in edits or EDITS:
        count, reasons = Counter(), Counter()
        for name in HEALTHY:
            with tempfile.TemporaryDirectory() as folder:
                for case in cases(edit, name, Path(folder)):
                    try:
                        answer = outcome(case)
                    except (AssertionError, StateError) as wrong:
                        answer = "wrong"
                        sys.stderr.write(f"{edit}, {name}: {wrong}\n")
                    count[answer if answer in {"read", "wrong"} else "refused"] += 1
                    reasons[answer] += 1
        sys.stdout.write(f"| {edit} | {count.total()} | {count['read']} | {count['refused']} | {count['wrong']} |\n")
        sys.stdout.flush()
        sys.stderr.write("".join(f"    {n} {reason}\n" for reason, n in reasons.most_common(6)))


if __name__ == "__main__":
    main(*sys.argv[1:])
