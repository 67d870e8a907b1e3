"""The parts of `encode.py` that need files, processes or a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from figures import figure, say

from encoder.job.events import ClipReady
from encoder.job.pipeline import EncodeOptions, Engine, encode_with, local_engine
from encoder.job.reading import Reader, reading
from encoder.manifest import Manifest, ManifestRow, read_manifest
from encoder.model.architecture import architecture, preset
from encoder.model.embed import Embedder, advised_precision, threads_beside
from encoder.model.folder import save_encoder
from encoder.model.identity import Encoder, new_encoder
from encoder.model.inference import matrix_rate
from encoder.video.decoder import DecodeLimits
from index.processors import usable_cores
from index.tables.store import Store
from index.workspace import Workspace
from semiome.shipped import shipped_encoder
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.files import write_cohort

_MIB = 2**20
_CHILD = """
import sys, threading, time
from pathlib import Path
import numpy as np
from encoder.model.embed import Embedder
from encoder.model.folder import load_encoder

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

peak, done = [resident()], False
def watch():
    while not done:
        peak[0] = max(peak[0], resident())
        time.sleep(0.001)
before = resident()
watcher = threading.Thread(target=watch)
watcher.start()
encoder = load_encoder(Path(sys.argv[1]))
loading = peak[0] - before
embedder = Embedder(encoder, precision="bf16")
config = encoder.model.config
embedder.embed([np.zeros((config.num_frames, config.image_size, config.image_size, 3), np.uint8)])
done = True
watcher.join()
print(loading, peak[0])
"""


def memory_part(*, quick: bool) -> None:
    """Loading timesformer-l over the size of its weights; then one clip in bf16, the whole process."""
    shape = architecture(8, 64, 192, 2, 3) if quick else preset("timesformer-l")
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_encoder(new_encoder(shape, seed=0), Path(scratch))
        weights = (folder / "model.safetensors").stat().st_size
        command = [sys.executable, "-c", _CHILD, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    loading, encoding = map(int, done.stdout.split())
    figure(
        "peak memory of loading timesformer-l",
        loading / _MIB,
        "MiB",
        "its weights",
        weights / _MIB,
        loading / weights,
        1.3,
        at_most=True,
    )
    figure(
        "peak memory of encoding a clip in bf16",
        encoding / 1e9,
        "GB",
        "the goal",
        1.6,
        encoding / 1.6e9,
        1.0,
        at_most=True,
    )


@dataclass(frozen=True, slots=True)
class _Timed:
    """A job: seconds of all of it, clips, and clips a second once the first had come."""

    seconds: float
    clips: int
    clips_per_s: float


def _timed(engine: Engine, manifest: Manifest, encoder: Encoder) -> _Timed:
    """A job into a new store."""
    arrivals: list[float] = []

    @contextmanager
    def watched(reader: Reader, rows: Sequence[ManifestRow], report: object) -> Iterator[object]:
        def passing(events):  # noqa: ANN001, ANN202
            for event in events:
                if isinstance(event, ClipReady):
                    arrivals.append(time.perf_counter())
                yield event

        with engine(reader, rows, report) as events:  # type: ignore[arg-type]
            yield passing(events)

    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        encode_with(watched, manifest, encoder, Store(Workspace(Path(scratch))))  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
    begun = sum(moment == arrivals[0] for moment in arrivals)
    span = arrivals[-1] - arrivals[0]
    return _Timed(seconds, len(arrivals), (len(arrivals) - begun) / span if span else 0.0)


def _model_alone(embedder: Embedder, clips: int, batch: int) -> float:
    """Seconds for a number of clips whose frames are ready."""
    config = embedder.encoder.model.config
    shape = (config.num_frames, config.image_size, config.image_size, 3)
    frames = [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in range(batch)]
    embedder.embed(frames[:1])
    started = time.perf_counter()
    for done in range(0, clips, batch):
        embedder.embed(frames[: min(batch, clips - done)])
    return time.perf_counter() - started


def _decoding_alone(manifest: Manifest, encoder: Encoder, decoders: int) -> float:
    """Seconds to bring all frames into this process."""
    config = encoder.model.config
    started = time.perf_counter()
    shape = (config.num_frames, config.image_size)
    with reading(Reader(manifest, {}, {}), manifest.rows, shape, decoders, 16, DecodeLimits()) as events:
        for _ in events:
            pass
    return time.perf_counter() - started


@contextmanager
def _cohort(patients: int, videos: int, copies: int = 1) -> Iterator[Manifest]:
    """Simulated videos, each several times over under other ids."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = read_manifest(write_cohort(simulate_cohort(patients, videos, 7), folder, usable_cores()))
        rows = []
        for copy in range(copies):
            for row in manifest.rows:
                name = f"videos/{copy}-{row.video_id}.mp4"
                shutil.copy(folder / row.file_name, folder / name)
                rows.append(ManifestRow(name, row.patient_id, f"{row.video_id}-{copy}"))
        yield Manifest(folder, tuple(rows))


def job_part(*, quick: bool) -> None:
    """The whole job against its parts alone, in turn."""
    large = architecture(8, 64, 192, 2, 3) if quick else preset("timesformer-l")
    with _cohort(4, 1) as manifest:
        encoder = new_encoder(large, seed=0)
        options = EncodeOptions(batch=4)
        embedder = Embedder(
            encoder, precision=advised_precision(large, "cpu")[0], threads=threads_beside(large, options.decoders)
        )
        whole = _timed(local_engine(embedder, options), manifest, encoder)
        say(f"timesformer-l: {whole.clips} clips in {whole.seconds:.1f} s, {embedder.precision}")
        alone = _model_alone(embedder, whole.clips, options.batch)
    figure(
        "whole job, timesformer-l",
        whole.seconds / whole.clips,
        "s/clip",
        "the model alone",
        alone / whole.clips,
        whole.seconds / alone,
        1.05,
        at_most=True,
    )
    with _cohort(4, 2, copies=1 if quick else 5) as manifest:
        encoder = shipped_encoder()
        options = EncodeOptions(batch=4, decoders=max(usable_cores() // 2, 1))
        embedder = Embedder(encoder, threads=threads_beside(encoder.model.config, options.decoders))
        rounds = []
        for _ in range(1 if quick else 3):
            whole = _timed(local_engine(embedder, options), manifest, encoder)
            model = _model_alone(embedder, whole.clips, options.batch)
            decoding = _decoding_alone(manifest, encoder, options.decoders)
            rounds.append((whole.seconds / max(model, decoding), whole.seconds, model, decoding))
        ratio, seconds, model, decoding = sorted(rounds)[len(rounds) // 2]
    say(f"demo encoder: {whole.clips} clips; whole {seconds:.1f} s, model {model:.1f} s, decoding {decoding:.1f} s")
    figure(
        "whole job, demo encoder",
        seconds / whole.clips,
        "s/clip",
        "the larger of model and decoding alone",
        max(model, decoding) / whole.clips,
        ratio,
        1.3,
        at_most=True,
    )


def ray_part(*, quick: bool) -> None:
    """Two workers on Ray against the local engine, start-up apart, in turn."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from encoder.job.cluster import ClusterOptions, ray_engine

    shape = architecture(8, 64, 192, 2, 3) if quick else preset("timesformer-b")
    encoder = new_encoder(shape, seed=0)
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    with _cohort(4, 2) as manifest:
        for _ in range(1 if quick else 3):
            embedder = Embedder(encoder, precision="fp32", threads=usable_cores())
            rates["local"].append(_timed(local_engine(embedder, EncodeOptions()), manifest, encoder).clips_per_s)
            engine = ray_engine(encoder, ClusterOptions(workers=2, decoders=1, batch=4))
            rates["ray"].append(_timed(engine, manifest, encoder).clips_per_s)
            say(f"clips/s: local {rates['local'][-1]:.2f}, ray {rates['ray'][-1]:.2f}")
    local, ray = (float(np.median(rates[name])) for name in ("local", "ray"))
    figure("ray with 2 workers, timesformer-b", ray, "clips/s", "the local engine", local, ray / local, 0.85)


def cuda_part(*, quick: bool) -> None:
    """Clips a second on a GPU with frames made up, and from files with more and more decoders."""
    shape = architecture(8, 64, 192, 2, 3) if quick else preset("timesformer-l")
    encoder = new_encoder(shape, seed=0)
    embedder = Embedder(encoder, "cuda", advised_precision(shape, "cuda")[0])
    rate = matrix_rate(torch.bfloat16, 1.0, "cuda")
    limit = embedder.clips_per_s_at_most()
    say(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s in bf16 products, {limit:.0f} clips/s at most")
    best = 0.0
    for batch in (1, 2, 4, 8, 16):
        frames = [np.zeros((shape.num_frames, shape.image_size, shape.image_size, 3), np.uint8)] * batch
        embedder.embed(frames)
        torch.cuda.reset_peak_memory_stats()
        started, waiting = time.perf_counter(), embedder.begin(frames)
        rounds = 2 if quick else 10
        for _ in range(rounds - 1):
            following = embedder.begin(frames)
            waiting()
            waiting = following
        waiting()
        found = rounds * batch / (time.perf_counter() - started)
        say(f"batch {batch}: {found:.1f} clips/s, {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
        best = max(best, found)
    figure("timesformer-l cuda bf16, frames made up", best, "clips/s", "the goal for one H200", 60.0, best / 60, 1.0)
    figure("its share of the matrix rate", best, "clips/s", "matrix products alone", limit, best / limit, None)
    with _cohort(4, 2, copies=1 if quick else 4) as manifest:
        cores = usable_cores()
        for decoders in sorted({1, max(cores // 4, 1), max(cores // 2, 1), cores}):
            job = _timed(local_engine(embedder, EncodeOptions(batch=8, decoders=decoders)), manifest, encoder)
            figure(
                f"from files, {decoders} decoders of {cores} cores",
                job.clips_per_s,
                "clips/s",
                "the same model with frames made up",
                best,
                job.clips_per_s / best,
                None,
            )
