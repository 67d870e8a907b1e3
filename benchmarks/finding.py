"""Finding seizures again in recordings: does the trimmed original find its own seizure, and others of its patient?

    .venv/bin/python benchmarks/finding.py [--quick] [--patients 20] [--seizures 3] [--minutes 20] [--out DIR]

Simulated patients lie in bed for twenty minutes, do everyday things, and have seizures at known times off the grid of
clips. The recording of each is H.264 at 5 pictures a second, small and strongly compressed. The trimmed original of
each seizure is a file of its own, at 12.5 pictures a second and less compressed, that begins 2.5 to 7.5 s beside a
clip of the recording. Recordings are cut into clips every 10, 5 and 2.5 s, originals every 10 s, and all of them are
embedded by the shipped encoder.

Printed for each stride: the share of seizures whose original finds them first with an overlap (intersection over union)
of at least one half; the same of a plain subsequence match in NumPy without any stretching of time, of vectors less
their mean and of whitened ones; and the share of a patient's other seizures that are found before three false moments
an hour. One JSON object a figure on stdout. Files and embeddings are kept in DIR and not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from figures import figure, say
from numpy.typing import NDArray
from subsequence_peers import Match, subsequence_peers

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from index.intervals import share
from index.processors import usable_cores
from index.query import SearchFilter, VideoQuery
from index.records import CLIP_SECONDS
from index.search.moments import find_moments
from index.search.snapshot import Snapshot
from index.tables.clip_table import ClipTable
from index.tables.rows import StoredClips
from index.tables.store import Store
from index.vectors.generation import FLAT, build_generation, load_generation
from index.workspace import Workspace
from semiome.shipped import shipped_encoder
from semiome.simulation.cohort import Recording, simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import ACTIVITIES, Event, move

STRIDES, K = (10.0, 5.0, 2.5), 50
GOAL, LEAST_OVERLAP, FALSE_AN_HOUR = 0.95, 0.5, 3
_WIDTH, _HEIGHT, _AT_ONCE = 160, 120, 200
_RECORDED, _TRIMMED = (5, "33"), (2, "23")
"""Which of the simulator's pictures: every fifth and every second; and x264's quality."""


class Seizure(NamedTuple):
    """Where a seizure is: its video, whose recording holds it, and from when to when, in seconds."""

    video_id: str
    patient_id: str
    begin: float
    end: float


def main() -> None:
    """Make recordings, embed them, and look for each seizure."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="few and short: proves that the script runs")
    options.add_argument("--patients", type=int, default=20)
    options.add_argument("--seizures", type=int, default=3)
    options.add_argument("--minutes", type=float, default=20)
    options.add_argument("--out", type=Path, default=Path("finding-runs"))
    chosen = options.parse_args()
    if chosen.quick:
        chosen.patients, chosen.minutes, chosen.out = 4, 2, chosen.out / "quick"
    seizures = made(chosen.patients, chosen.seizures, chosen.minutes, chosen.out)
    stored = embedded(chosen.out)
    videos = Store(Workspace(chosen.out / "workspace")).videos()
    for stride in STRIDES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            build_generation(with_stride(stored, stride), folder, kind=FLAT)
            name = next(one.name for one in folder.glob("[0-9]*"))
            snapshot = Snapshot(load_generation(folder, name), videos)
            show(stride, snapshot, seizures)


def made(patients: int, seizures: int, minutes: float, out: Path) -> list[Seizure]:
    """The files and the manifest, unless they are there."""
    known = out / "seizures.json"
    if known.exists():
        return [Seizure(*one) for one in json.loads(known.read_text())]
    out.mkdir(parents=True, exist_ok=True)
    cohort = simulate_cohort(patients, seizures, 411, prefix="mom")
    of_patient: dict[str, list[Recording]] = {}
    for recording in cohort:
        of_patient.setdefault(recording.patient.patient_id, []).append(recording)
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        found: list[Seizure] = []
        for place in pool.map(partial(recorded, minutes=minutes, folder=out), of_patient.values()):
            found += place
            say(f"{len(found)} of {patients * seizures} seizures drawn")
    rows = [(f"{name}.mp4", name, f"{name}-recording", "recording") for name in of_patient]
    rows += [(f"{one.video_id}.mp4", one.patient_id, one.video_id, "original") for one in found]
    for kind in ("recording", "original"):
        with (out / f"{kind}s.csv").open("w", newline="") as file:
            written = csv.writer(file)
            written.writerow(("file_name", "patient_id", "video_id", "camera"))
            written.writerows(row for row in rows if row[3] == kind)
    known.write_text(json.dumps(found))
    return found


def recorded(recordings: Sequence[Recording], minutes: float, folder: Path) -> list[Seizure]:
    """Draw the recording of one patient, and the trimmed originals of its seizures."""
    first = recordings[0]
    random = np.random.default_rng(first.seed)
    between = minutes * 60 / (len(recordings) + 1)
    events: list[Event] = []
    seizures: list[Seizure] = []
    now = 0.0
    for recording in [*recordings, None]:
        until = now + between
        while now < until:
            length = float(random.uniform(6, 25))
            events.append(
                Event(str(random.choice(list(ACTIVITIES))), now, min(now + length, until), first.patient.side, 1.0, 1.0)
            )
            now += length + float(random.uniform(0, 15))
        if recording is None:
            break
        begin = float(np.ceil(max(now, until) / CLIP_SECONDS) * CLIP_SECONDS + round(random.uniform(2.5, 7.5), 2))
        now = begin + recording.seconds
        events += [replace(one, start_s=one.start_s + begin, end_s=one.end_s + begin) for one in recording.events]
        seizures.append(Seizure(recording.video_id, first.patient.patient_id, begin, now))
    motion = move(events, now, FPS, random)
    scene = replace(first.scene, nurse_s=None)

    def film(name: str, begin: float, end: float, every: int, quality: str) -> None:
        moments = np.arange(round(begin * FPS), min(round(end * FPS), motion.moments), every)
        parts = (moments[start : start + _AT_ONCE] for start in range(0, len(moments), _AT_ONCE))
        pictures = (
            picture for part in parts for picture in scene.frames(motion.at(part), part / FPS, random, _WIDTH, _HEIGHT)
        )
        write(folder / f"{name}.mp4", pictures, FPS / every, quality)

    film(first.patient.patient_id, 0, now, *_RECORDED)
    for one in seizures:
        film(one.video_id, one.begin, one.end, *_TRIMMED)
    return seizures


def write(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float, quality: str) -> None:
    """An H.264 file."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=round(2 * fps) if fps % 1 else round(fps), options={"crf": quality}
        )
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        repeats = 2 if fps % 1 else 1  # 12.5 a second is 25 with each picture twice
        for picture in pictures:
            for _ in range(repeats):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def embedded(out: Path) -> StoredClips:
    """All clips, of recordings with the shortest stride."""
    encoder, store = shipped_encoder(), Store(Workspace(out / "workspace"))
    embedder = Embedder(encoder)
    for kind, stride in (("recordings", min(STRIDES)), ("originals", None)):
        rows = read_manifest(out / f"{kind}.csv").every(stride)
        report = encode(rows, embedder, store, EncodeOptions(decoders=usable_cores()))
        if report.refused:
            raise SystemExit(str(report.refused))
        say(f"{kind}: {report.clips_written} clips, {report.seconds['total']:.0f} s, {report.where_time_goes()}")
    return store.clips(encoder.encoder_id)


def with_stride(stored: StoredClips, stride: float) -> StoredClips:
    """The clips that there would be with a longer stride."""
    rows, clips = [], []
    numbers: dict[str, int] = {}
    for row, clip in enumerate(stored.clips):
        if clip.start_s % stride == 0 or not clip.video_id.endswith("-recording"):
            rows.append(row)
            clips.append(replace(clip, clip_index=numbers.get(clip.video_id, 0)))
            numbers[clip.video_id] = clips[-1].clip_index + 1
    return StoredClips(stored.encoder_id, stored.table_version, ClipTable.of(clips), stored.vectors[rows])


def show(stride: float, snapshot: Snapshot, seizures: Sequence[Seizure]) -> None:
    """The figures of one stride."""
    where = SearchFilter(cameras=frozenset({"recording"}))
    own, others = [], []
    plain: dict[str, list[bool]] = {name: [] for name in ("less their mean", "whitened")}
    first: Counter[str] = Counter()
    peers = subsequence_peers()
    by_peer: dict[str, list[bool]] = {name: [] for name in peers}
    for one in seizures:
        found = find_moments(snapshot, VideoQuery(one.video_id), K, where, include_own_patient=True)
        recording = f"{one.patient_id}-recording"
        spans = [(moment.start_s, moment.end_s) if moment.video_id == recording else None for moment in found]
        own.append(bool(spans) and spans[0] is not None and overlap(spans[0], one) >= LEAST_OVERLAP)
        first[what_is_found(spans[0] if spans else None, one, seizures)] += 1
        for name, found_plainly in plain.items():
            found_plainly.append(plainly(snapshot, one, whitened=name == "whitened"))
        for name, match in peers.items():
            by_peer[name].append(aligned(snapshot, one, match))
        others += found_before_false(found, one, seizures)
    patients = [one.patient_id for one in seizures]
    what = f"windows every {stride:g} s"
    share, low, high = with_interval(own, patients)
    counts = ", ".join(f"{count} {kind}" for kind, count in first.most_common())
    say(f"{what}: own seizure first {share:.3f} ({low:.3f} to {high:.3f}); first is: {counts}")
    goal = GOAL if stride <= 5 else None
    for name, found_plainly in plain.items():
        against = f"NumPy, vectors {name}, no stretching"
        figure(f"{what}: own seizure found first", share, "share", against, float(np.mean(found_plainly)), share, goal)
    for name, found_by in by_peer.items():
        what_found = f"{what}: own seizure found first"
        figure(what_found, share, "share", f"{name}, whitened", float(np.mean(found_by)), share, None)
    share, low, high = with_interval([hit for _, hit in others], [patient for patient, _ in others])
    say(f"{what}: other seizures of the patient {share:.3f} ({low:.3f} to {high:.3f})")
    name = f"{what}: other seizures of the patient before {FALSE_AN_HOUR} false moments an hour"
    figure(name, share, "share", "none", 0.0, share, None)


def what_is_found(span: tuple[float, float] | None, one: Seizure, seizures: Sequence[Seizure]) -> str:
    """What the first moment is, in words; `span` is None where it is in another patient's recording."""
    if span is None:
        return "another patient"
    if overlap(span, one) >= LEAST_OVERLAP:
        return "the seizure"
    if overlap(span, one) > 0:
        return "a part of the seizure, or more than it"
    theirs = [other for other in seizures if other.patient_id == one.patient_id]
    return "another seizure of the patient" if any(overlap(span, other) > 0 for other in theirs) else "no seizure"


def overlap(span: tuple[float, float], one: Seizure) -> float:
    """Intersection over union."""
    shared = max(min(span[1], one.end) - max(span[0], one.begin), 0.0)
    return shared / (max(span[1], one.end) - min(span[0], one.begin))


def found_before_false(found: Sequence[object], one: Seizure, seizures: Sequence[Seizure]) -> list[tuple[str, bool]]:
    """Patient, and whether a moment lies in it before too many false ones, for each other seizure of the patient."""
    theirs = [other for other in seizures if other.patient_id == one.patient_id]
    hours = max(other.end for other in theirs) / 3600
    hit: set[str] = set()
    false = 0
    for moment in found:
        if moment.video_id != f"{one.patient_id}-recording":  # type: ignore[attr-defined]
            continue
        middle = (moment.start_s + moment.end_s) / 2  # type: ignore[attr-defined]
        inside = [other.video_id for other in theirs if other.begin <= middle <= other.end]
        false += not inside
        if false > FALSE_AN_HOUR * hours:
            break
        hit.update(inside)
    return [(one.patient_id, other.video_id in hit) for other in theirs if other != one]


def aligned(snapshot: Snapshot, one: Seizure, match: Match) -> bool:
    """Whether the stretch of all recordings, one after the other, that a library finds is the seizure."""
    recordings = [name for name in snapshot.video_ids if name.endswith("-recording")]
    rows = np.concatenate([snapshot.rows_of(VideoQuery(name)) for name in recordings])
    asked = snapshot.whitened(snapshot.rows_of(VideoQuery(one.video_id)))
    first, last = snapshot.clips(rows[list(match(asked, snapshot.whitened(rows), 1)[0])])
    if {first.video_id, last.video_id} != {f"{one.patient_id}-recording"}:
        return False
    return overlap((first.start_s, last.start_s + CLIP_SECONDS), one) >= LEAST_OVERLAP


def plainly(snapshot: Snapshot, one: Seizure, *, whitened: bool) -> bool:
    """Whether the best stretch of as many clips, one after the other, in any recording is the seizure."""
    mean = snapshot.generation.vectors.all.mean(axis=0)

    def seen(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors = snapshot.whitened(rows) if whitened else snapshot.vectors(rows) - mean
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    asked = seen(snapshot.rows_of(VideoQuery(one.video_id)))
    best = (-np.inf, "", (0.0, 0.0))
    for video_id in snapshot.video_ids:
        if not video_id.endswith("-recording"):
            continue
        rows = snapshot.rows_of(VideoQuery(video_id))
        begins, ends = snapshot.spans(rows)
        step = round(CLIP_SECONDS / float(np.median(np.diff(begins))))
        cosines = asked @ seen(rows).T
        count = len(rows) - step * (len(asked) - 1)
        total = sum(cosines[number, number * step : number * step + count] for number in range(len(asked))) / len(asked)
        at = int(np.argmax(total))
        last = at + step * (len(asked) - 1)
        best = max(best, (float(total[at]), video_id, (float(begins[at]), float(ends[last]))))
    return best[1] == f"{one.patient_id}-recording" and overlap(best[2], one) >= LEAST_OVERLAP


def with_interval(hits: Sequence[bool], patients: Sequence[str]) -> tuple[float, float, float]:
    """A share and its 95 % interval, patients resampled."""
    _, number = np.unique(patients, return_inverse=True)
    sums, counts = np.bincount(number, hits), np.bincount(number)
    low, high = share(sums, counts)
    return float(np.mean(hits)), float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
