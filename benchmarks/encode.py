"""Encoding, from the forward pass to the whole job.

    .venv/bin/python benchmarks/encode.py [--quick] [--parts forward memory job ray] [--device cuda]

`forward`: one clip of timesformer-l, the same weights and frames, against transformers' TimesformerModel and against
the processor's rate in matrix products. `memory`: loading it and embedding one clip, in a process of its own. `job`:
the whole job on files against the model alone and decoding alone. `ray`: `--engine ray` with two workers against the
local engine. With `--device cuda`: clips a second with frames made up, and from files. (`decode.py` measures decoding.)
In turn (A B A B, medians); one JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from encode_job import cuda_part, job_part, memory_part, ray_part
from figures import figure, say
from torch.nn import functional as F
from transformers import TimesformerModel

from encoder.model.architecture import architecture, preset
from encoder.model.embed import DTYPES
from encoder.model.inference import Prepared, flop_of_clip, matrix_rate
from encoder.model.timesformer import TimeSformer, normalise

PARTS = ("forward", "memory", "job", "ray")


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="tiny models: proves that the script runs")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    chosen = options.parse_args()
    if chosen.device == "cuda":
        cuda_part(quick=chosen.quick)
        return
    if "forward" in chosen.parts:  # first: jobs with a small model leave torch fewer threads
        say("-- forward")
        forward_part(chosen.rounds, quick=chosen.quick)
    for name, part in {"memory": memory_part, "job": job_part, "ray": ray_part}.items():
        if name in chosen.parts:
            say(f"-- {name}")
            part(quick=chosen.quick)


def forward_part(rounds: int, *, quick: bool) -> None:
    """One clip through ours and through transformers'."""
    shape = architecture(4, 64, 64, 2, 2, embedding_dim=64) if quick else preset("timesformer-l")
    torch.manual_seed(0)
    model = TimeSformer(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained, attention along time would add nothing
            parameter.add_(0.03 * torch.randn_like(parameter))
    theirs = TimesformerModel(shape).eval()
    theirs.load_state_dict(model.state_dict())
    size = shape.image_size
    frames = torch.randint(0, 256, (shape.num_frames, size, size, 3), dtype=torch.uint8)

    ways: dict[str, Callable[[], torch.Tensor]] = {}
    for name, dtype in DTYPES.items():
        ways[f"ours {name}"] = _ours(model, frames, dtype)
        ways[f"transformers {name}"] = _theirs(theirs, frames, dtype)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rates: list[float] = []
    embeddings: dict[str, torch.Tensor] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            embeddings[way] = run()
            seconds[way].append(time.perf_counter() - started)
            say(f"{way}: {seconds[way][-1]:.2f} s")
            rates.append(matrix_rate(torch.bfloat16, seconds=1.0))

    median = {way: statistics.median(values) for way, values in seconds.items()}
    rate = statistics.median(rates)
    for way, against, goal in (
        ("ours bf16", "transformers fp32", 3.5),
        ("ours bf16", "transformers bf16", 1.4),
        ("ours fp32", "transformers fp32", None),
    ):
        name = f"timesformer-l cpu {way.removeprefix('ours ')}"
        figure(name, median[way], "s/clip", against, median[against], median[against] / median[way], goal)
    reached = flop_of_clip(shape) / median["ours bf16"]
    against = "products of the model's largest shape, the best of a second each time"
    figure("share of the bf16 matrix rate", reached / 1e9, "GFLOP/s", against, rate / 1e9, reached / rate, 0.8)
    exact = embeddings["transformers fp32"]
    for way in ("ours fp32", "ours bf16"):
        cosine = F.cosine_similarity(embeddings[way].float(), exact, dim=0).item()
        figure(f"cosine of {way}", cosine, "", "transformers fp32", 1.0, cosine, 0.999)


def _ours(model: TimeSformer, frames: torch.Tensor, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    prepared = Prepared(model, dtype)
    return lambda: prepared.embed(frames)


def _theirs(model: TimesformerModel, frames: torch.Tensor, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    own = TimesformerModel(model.config).eval()
    own.load_state_dict(model.state_dict())
    own = own.to(dtype)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        embedding: torch.Tensor = own(normalise(frames[None], dtype)).last_hidden_state[0, 0]
        return embedding

    return run


if __name__ == "__main__":
    main()
