"""How often `semiome doctor` takes two recordings for one, and how often it notices one recording of two patients.

Simulated patients are filmed; some of their videos are encoded again (smaller, coarser), some are cut from another
second on, and these are stored under other patients. Prints a JSON object for each figure.

    .venv/bin/python benchmarks/alike.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from encoder.job.pipeline import encode
from encoder.manifest import Manifest, ManifestRow
from encoder.model.embed import Embedder
from encoder.video.writer import write_h264
from index.custody.alike import NEARER, too_alike
from index.processors import usable_cores
from index.tables.store import Store
from index.workspace import Workspace
from semiome.shipped import shipped_encoder
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.files import write_cohort

_SHIFT_S = 3.3
_SHARES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def main() -> None:
    """Film, copy, encode and look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    patients, videos = (8, 1) if options.quick else (options.patients, options.videos)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recordings = simulate_cohort(patients, videos, seed=11)
        _say(f"drawing {len(recordings)} videos")
        write_cohort(recordings, folder, usable_cores(), lambda done, total: None)
        rows = [ManifestRow(f"videos/{r.video_id}.mp4", r.patient.patient_id, r.video_id) for r in recordings]
        copies: dict[frozenset[str], str] = {}
        for number, recording in enumerate(recordings[::2]):
            kind = ("again", "cut")[number % 2]
            name = f"copy-{recording.video_id}"
            _copy(folder / f"videos/{recording.video_id}.mp4", folder / f"videos/{name}.mp4", kind)
            rows.append(ManifestRow(f"videos/{name}.mp4", f"other-{number:03d}", name))
            copies[frozenset({recording.video_id, name})] = kind
        _say(f"encoding {len(rows)} videos")
        store, encoder = Store(Workspace(folder / "workspace")), shipped_encoder()
        encode(Manifest(folder, tuple(rows)), Embedder(encoder), store)
        stored = store.clips(encoder.encoder_id)
        patient_of = {row.video_id: row.patient_id for row in rows}
        names = sorted(patient_of)
        strangers = sum(
            patient_of[a] != patient_of[b] and not _related(a, b) for n, a in enumerate(names) for b in names[n + 1 :]
        )
        for share in _SHARES:
            pairs, _ = too_alike(stored, share)
            told = {frozenset(pair.videos) for pair in pairs}
            wrong = [pair for pair in told if not _related(*sorted(pair))]
            figures: dict[str, object] = {"name": "too alike", "share": share, "used": share == NEARER}
            for kind in ("again", "cut"):
                of_kind = {pair for pair, made in copies.items() if made == kind}
                figures |= {f"{kind}_found": len(told & of_kind), f"{kind}_copies": len(of_kind)}
            figures |= {"false_alarms": len(wrong), "pairs_of_strangers": strangers}
            print(json.dumps(figures), flush=True)


def _related(one: str, other: str) -> bool:
    """Whether two videos are of one patient, or copies of such."""
    return _patient(one) == _patient(other)


def _patient(video_id: str) -> str:
    return video_id.removeprefix("copy-").rsplit("-", 1)[0]


def _copy(source: Path, target: Path, kind: str) -> None:
    """The same film at three quarters of its size and coarser, or the same from `_SHIFT_S` on."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        rate, width, height = int(stream.average_rate or 15), stream.width, stream.height
        frames = list(container.decode(stream))
    if kind == "cut":
        frames = frames[round(Fraction(_SHIFT_S) * rate) :]
        size = (width, height)
    else:
        size = (width * 3 // 4 // 2 * 2, height * 3 // 4 // 2 * 2)
    pictures = [frame.reformat(*size, "rgb24").to_ndarray() for frame in frames]
    write_h264(target, [np.ascontiguousarray(picture) for picture in pictures], rate, *size)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
