"""The checks of `gpu.py` that run whole jobs: a run that is stopped, torchrun, encoding, the baselines."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoder.model.architecture import architecture, preset
from encoder.model.identity import new_encoder
from index.processors import usable_cores
from trainer.backbones.i3d import I3D
from trainer.backbones.r2plus1d import R2Plus1D
from trainer.pretraining.ranks import Ranks

Found = dict[str, Any]


def check_resumed(device: str, quick: bool) -> Found:
    """A run that is stopped half-way and goes on, against one that is not."""
    from trainer.clips import TrainingClip, TrainingClips
    from trainer.pretraining.config import PretrainConfig
    from trainer.pretraining.pretrain import Interrupted, Watch, pretrain

    shape = architecture(4, 32, 64, 2, 2, embedding_dim=64) if quick else preset("timesformer-demo")
    size = (48, shape.num_frames, shape.image_size, shape.image_size, 3)
    frames = np.random.default_rng(1).integers(0, 255, size, np.uint8)
    clips = tuple(TrainingClip(f"v{n // 3}", f"p{n // 6}", n % 3) for n in range(48))
    config = PretrainConfig(max_steps=8 if quick else 30, epochs=10, learning_rate=1e-3, checkpoint_every=100)
    ranks, half = Ranks(0, 1, torch.device(device)), (8 if quick else 30) // 2

    def run(folder: Path | None, watch: Watch | None = None) -> list[float]:
        model = new_encoder(shape, seed=0).trainable.to(device)
        return [log.loss for log in pretrain(model, TrainingClips(frames, clips), config, ranks, folder, watch)]

    whole = run(None)
    with tempfile.TemporaryDirectory() as folder:
        seen: list[int] = []
        watch = Watch(on_step=lambda log: seen.append(log.step), should_stop=lambda: len(seen) >= half)
        with suppress(Interrupted):
            run(Path(folder), watch)
        rest = run(Path(folder))
    apart = float(np.abs(np.array(whole[half:]) - rest).max())
    return {"stopped_after": half, "losses_differ": apart, "goal": 1e-3, "holds": apart < 1e-3}


def check_torchrun(device: str, quick: bool) -> Found:  # noqa: ARG001  as all checks
    """One process that torchrun starts, on a small frame cache."""
    from trainer.clips import TrainingClip
    from trainer.frame_cache import write_cache

    shape = preset("timesformer-demo")
    size = (24, shape.num_frames, shape.image_size, shape.image_size, 3)
    clips = [
        TrainingClip(f"v{n // 2}", f"p{n // 4}", n % 2, label=("TLE", "exTLE")[n // 4 % 2], source_sha256=f"{n // 2}")
        for n in range(24)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_cache(folder / "frames", np.random.default_rng(2).integers(0, 255, size, np.uint8), clips)
        (folder / "study.toml").write_text(
            f'name = "gpu"\nframe_cache = "frames"\nencoder = "timesformer-demo"\nfolds = 2\nrepeats = 1\n'
            f'device = "{device}"\n[pretrain]\nmax_steps = 2\n[head]\nepochs = 1\n'
        )
        command = ["-m", "semiome", "ablate", str(folder / "study.toml"), "-w", str(folder / "w"), "--json"]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
        outcomes = []
        for launcher in ([], torchrun):
            ran = subprocess.run([sys.executable, *launcher, *command], capture_output=True, text=True, check=False)
            outcomes.append((ran.returncode, ran.stderr[-300:]))
            for path in (folder / "w").glob("runs/*"):
                path.rename(folder / f"run-{len(outcomes)}")
        logs = [sorted(folder.glob(f"run-{n}/both-*/log.jsonl")) for n in (1, 2)]
        losses = [
            [json.loads(line).get("loss") for line in found[0].read_text().splitlines()] if found else None
            for found in logs
        ]
    return {"exit": [code for code, _ in outcomes], "losses": losses, "said": [said for code, said in outcomes if code]}


def check_job(device: str, quick: bool) -> Found:
    """The whole encode job on videos, against the CPU's vectors."""
    from encoder.job.pipeline import EncodeOptions, encode
    from encoder.manifest import read_manifest
    from encoder.model.embed import Embedder
    from index.tables.store import Store
    from index.workspace import Workspace
    from semiome.simulation.cohort import simulate_cohort
    from semiome.simulation.files import write_cohort

    encoder = new_encoder(architecture(4, 32, 64, 2, 2, embedding_dim=64) if quick else preset("timesformer-b"), seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = write_cohort(simulate_cohort(4, 1 if quick else 2, seed=3), folder, usable_cores())
        vectors, seconds = [], []
        for place in ("cpu", device):
            store, started = Store(Workspace(folder / f"w-{len(vectors)}")), time.monotonic()
            encode(read_manifest(manifest), Embedder(encoder, place, "fp32"), store, EncodeOptions())
            seconds.append(round(time.monotonic() - started, 2))
            stored = store.clips(encoder.encoder_id)
            order = np.argsort([clip.clip_id for clip in stored.clips])
            vectors.append(stored.vectors[order])
    apart = float(np.abs(vectors[0] - vectors[1]).max())
    return {"clips": len(vectors[0]), "seconds_cpu_and_here": seconds, "largest_difference": apart}


def check_baselines(device: str, quick: bool) -> Found:
    """Features of the baselines' backbones, against the CPU's."""
    found: Found = {}
    side = 32 if quick else 112
    for name, model in (("i3d", I3D(4).eval()), ("r2plus1d", R2Plus1D(18, 4).eval())):
        snippets = torch.randn(2, 3, 16, side, side)
        with torch.inference_mode():
            wanted = model(snippets)
            here = model.to(device)(snippets.to(device)).cpu()
        found[name] = float((here - wanted).abs().max() / wanted.abs().max())
    return {"relative_difference": found}
