"""A contrastive step of ours against one through transformers' TimesformerModel, in the same precision.

    .venv/bin/python benchmarks/pretrain.py [--quick] [--device cuda] [--precision bf16]

Each way runs in a child process of its own, in turn (A B A B, medians), so that its peak memory is its own: the same
frames, the same loss, the same optimiser. Then: how long a run waits for its frame cache. With `--device cuda` it is
timesformer-l at batch 8 in bfloat16, and the goal is 12 clips a second on an H200; on a CPU one of few layers. One JSON
object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers import TimesformerConfig, TimesformerModel

from encoder.model.architecture import architecture, preset
from encoder.model.timesformer import TimeSformer, normalise
from trainer.clips import TrainingClip
from trainer.frame_cache import read_cache, write_cache
from trainer.pretraining.config import DTYPES, PretrainConfig
from trainer.pretraining.pretrain import Watch, pretrain
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.step import Batch, Objective, Projected, backward

OBJECTIVE = Objective(tau=0.5, levels="both", pairs="both", same_patient_negatives=True)
VIDEO = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
Precision = Literal["fp32", "bf16"]
WAYS = ("ours", "ours, two passes", "transformers")


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="a tiny model: proves that the script runs")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--precision", choices=["fp32", "bf16"], help="bf16 on a GPU, else fp32, unless asked for")
    options.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--batch", type=int, default=8)
    chosen = options.parse_args()
    chosen.precision = chosen.precision or ("bf16" if chosen.device == "cuda" else "fp32")
    if chosen.child:
        found = measured(chosen.child, chosen.device, chosen.precision, chosen.quick, chosen.batch)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    shape = config_of(chosen.device, chosen.quick)
    say(
        f"{torch.get_num_threads()} threads, {chosen.device}, {chosen.precision}; batch {chosen.batch}, "
        f"{shape.num_frames} frames of {shape.image_size} px, {shape.num_hidden_layers} layers of {shape.hidden_size}"
    )
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(1 if chosen.quick else 3):
        for way in WAYS:
            found[way].append(child(way, chosen))
            say(f"{way}: {found[way][-1]}")
    seconds, memory = ({way: median(found[way], key) for way in WAYS} for key in ("step_s", "peak_bytes"))
    faster = seconds["transformers"] / seconds["ours"]
    show("step time", "s", seconds["ours"], seconds["transformers"], faster, "at least 1.3", holds=faster >= 1.3)
    for way in ("ours", "ours, two passes"):
        less = memory[way] / memory["transformers"]
        show(
            f"peak memory: {way}", "bytes", memory[way], memory["transformers"], less, "at most 0.6", holds=less <= 0.6
        )
    larger = child("ours, two passes", chosen, batch=4 * chosen.batch)["peak_bytes"]
    growth = larger / memory["ours, two passes"]
    name = "peak memory at 4 times the batch, two passes, against the batch"
    show(name, "bytes", larger, memory["ours, two passes"], growth, "at most 1.2", holds=growth <= 1.2)
    ours, theirs = (chosen.batch / seconds[way] for way in ("ours", "transformers"))
    goal = "at least 12 on a GPU"
    show("clips a second", "clips/s", ours, theirs, faster, goal, holds=chosen.device == "cpu" or ours >= 12)
    waiting = share_waiting(chosen.device, chosen.precision, chosen.quick)
    name = "share of a run spent waiting for the frame cache"
    show(name, "", waiting, 0.0, waiting, "at most 0.1", holds=waiting <= 0.1)


def config_of(device: str, quick: bool) -> TimesformerConfig:
    """What is timed: the paper's on a GPU, one of its width and few layers on a CPU."""
    if quick:
        return architecture(4, 64, 64, 2, 2, embedding_dim=64)
    if device == "cuda":
        return preset("timesformer-l")
    return architecture(8, 112, 768, 4, 12)


def child(way: str, chosen: argparse.Namespace, batch: int | None = None) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--child",
        way,
        "--device",
        chosen.device,
        "--precision",
        chosen.precision,
        "--batch",
        str(batch or chosen.batch),
    ]
    done = subprocess.run([*command, *(["--quick"] if chosen.quick else [])], stdout=subprocess.PIPE, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def measured(way: str, device: str, precision: Precision, quick: bool, batch: int) -> dict[str, float]:
    """Median seconds of a step, and the memory it took on top of the model and its optimiser."""
    torch.manual_seed(0)
    shape = config_of(device, quick)
    ranks = Ranks(0, 1, torch.device(device))
    model: nn.Module = Theirs(shape) if way == "transformers" else TimeSformer(shape)
    if isinstance(model, TimeSformer):
        model.recompute = "selective" if way == "ours" else "full"
    projected = Projected(model, shape.hidden_size, 0).to(device).train()
    optimiser = torch.optim.AdamW(projected.parameters(), lr=1e-5)
    frames = torch.randint(0, 256, (batch, shape.num_frames, shape.image_size, shape.image_size, 3), dtype=torch.uint8)
    video = VIDEO.repeat_interleave(max(batch // 8, 1))[:batch].to(device)
    numbers = Batch(video, video // 2, [batch], lambda places: normalise(frames[list(places)].to(device)))
    at_once = 2 if way == "ours, two passes" else batch

    def step() -> float:
        started = time.monotonic()
        optimiser.zero_grad(set_to_none=True)
        backward(projected, numbers, OBJECTIVE, ranks, at_once=at_once, dtype=DTYPES[precision])
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - started

    for parameter in projected.parameters():  # the optimiser's memory is there before, in every way
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    before = memory_bytes(device)
    if device == "cuda":
        before = float(torch.cuda.memory_allocated())
        torch.cuda.reset_peak_memory_stats()
    times = [step() for _ in range(2 if quick else 4)]
    return {"step_s": statistics.median(times[1:]), "peak_bytes": memory_bytes(device) - before}


class Theirs(nn.Module):
    """transformers' model as it comes."""

    def __init__(self, shape: TimesformerConfig) -> None:
        super().__init__()
        self.model = TimesformerModel(shape)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, D)."""
        embedding: torch.Tensor = self.model(frames_BTCHW).last_hidden_state[:, 0]
        return embedding


def memory_bytes(device: str) -> float:
    """Most memory this process has had so far."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def share_waiting(device: str, precision: Precision, quick: bool) -> float:
    """Share of a real run from a frame cache on disk in which no step computed."""
    shape = config_of(device, quick)
    random = np.random.default_rng(0)
    clips = [TrainingClip(f"v{i // 2}", f"p{i // 4}", i % 2) for i in range(32)]
    frames = random.integers(0, 256, (32, shape.num_frames, shape.image_size, shape.image_size, 3), np.uint8)
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        write_cache(Path(folder), frames, clips)
        config = PretrainConfig(epochs=1 if quick else 2, augmentation="crop", precision=precision)
        started = time.monotonic()
        ranks = Ranks(0, 1, torch.device(device))
        model = TimeSformer(shape).to(device)
        pretrain(model, read_cache(Path(folder)), config, ranks, watch=Watch(on_wait=waited.append))
        whole = time.monotonic() - started
    return sum(waited) / whole


def median(found: list[dict[str, float]], key: str) -> float:
    """Values of one key."""
    return statistics.median(values[key] for values in found)


def show(name: str, unit: str, ours: float, theirs: float, ratio: float, goal: str, *, holds: bool) -> None:
    """One figure."""
    line = {"name": name, "ours": round(ours, 4), "unit": unit, "against": "transformers", "theirs": round(theirs, 4)}
    sys.stdout.write(json.dumps({**line, "ratio": round(ratio, 3), "goal": goal, "holds": holds}) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """To people."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
