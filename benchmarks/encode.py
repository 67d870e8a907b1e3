"""The forward pass of one clip against transformers' TimesformerModel and against the processor's matrix rate.

    .venv/bin/python benchmarks/encode.py [--quick]

Same weights, same frames, on the CPU, in turn (A B A B, medians). One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers import TimesformerModel

from encoder.embed import DTYPES
from encoder.inference import Prepared, flop_of_clip, matrix_rate
from encoder.timesformer import TimeSformer, architecture, normalise, preset


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="a tiny model: proves that the script runs")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    shape = architecture(4, 64, 64, 2, 2, embedding_dim=64) if chosen.quick else preset("timesformer-l")
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
    for _ in range(chosen.rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            embeddings[way] = run()
            seconds[way].append(time.perf_counter() - started)
            sys.stderr.write(f"{way}: {seconds[way][-1]:.2f} s\n")
        rates.append(matrix_rate(torch.bfloat16, seconds=1.0))

    median = {way: statistics.median(values) for way, values in seconds.items()}
    ours, rate = median["ours bf16"], statistics.median(rates)
    _show("ours bf16 against transformers fp32", median["transformers fp32"] / ours, 3.5, ours, "s")
    _show("ours bf16 against transformers bf16", median["transformers bf16"] / ours, 1.4, ours, "s")
    _show(
        "ours fp32 against transformers fp32",
        median["transformers fp32"] / median["ours fp32"],
        None,
        median["ours fp32"],
        "s",
    )
    reached = flop_of_clip(shape) / ours
    _show("share of the bf16 matrix rate", reached / rate, 0.8, rate / 1e9, "GFLOP/s in products")
    exact = embeddings["transformers fp32"]
    for way in ("ours fp32", "ours bf16"):
        cosine = F.cosine_similarity(embeddings[way].float(), exact, dim=0).item()
        _show(f"cosine of {way} to transformers fp32", cosine, 0.999, None, "")


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


def _show(figure: str, ratio: float, goal: float | None, measured: float | None, unit: str) -> None:
    values = {"figure": figure, "ratio": round(ratio, 4), "goal": goal, "measured": measured, "unit": unit}
    sys.stdout.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
