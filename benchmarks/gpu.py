"""What only a GPU can show, the most telling first: a line of JSON for each check, and a limit on all of them.

    bash benchmarks/gpu.sh            on a GPU, at most ten minutes
    python benchmarks/gpu.py --quick --device cpu     tiny models: proves that the script runs

A check that fails prints why and the next begins; one that would begin after the limit is not begun, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gpu_runs import check_baselines, check_job, check_resumed, check_torchrun
from torch.nn import functional as F
from transformers import TimesformerConfig

from encoder.model.architecture import architecture, preset
from encoder.model.identity import Encoder, identified, new_encoder
from encoder.model.timesformer import Recompute, TimeSformer, normalise
from index.processors import usable_cores
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.step import Batch, Objective, Projected, backward

LIMIT_S = 570.0
OBJECTIVE = Objective(tau=0.5, levels="both", pairs="both", same_patient_negatives=True)
NUMBERS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
Found = dict[str, Any]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="tiny models")
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    options.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which no check begins")
    chosen = options.parse_args()
    began = time.monotonic()
    for name in chosen.only:
        if time.monotonic() - began > chosen.limit:
            show({"check": name, "left_out": f"{chosen.limit:g} s are over"})
            continue
        started = time.monotonic()
        try:
            with released(chosen.device):
                found = CHECKS[name](chosen.device, chosen.quick)
        except Exception as error:  # noqa: BLE001  the next one may tell something still
            found = {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc().splitlines()[-3:]}
        show({"check": name, "seconds": round(time.monotonic() - started, 1), **found})


def show(values: Found) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


@contextmanager
def released(device: str) -> Iterator[None]:
    """Give back what a check took."""
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()


def shape_of(quick: bool) -> TimesformerConfig:
    """Architecture of the full-size encoder, or of a tiny one."""
    return architecture(4, 32, 64, 2, 2, embedding_dim=64) if quick else preset("timesformer-l")


def stirred(shape: TimesformerConfig) -> Encoder:
    """An encoder in which attention along time takes part: untrained, it would add nothing."""
    torch.manual_seed(0)
    model = TimeSformer(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return identified(model, "random initial weights, stirred", trained=False)


def pictures(shape: TimesformerConfig, clips: int) -> np.ndarray:
    """Made-up frames (clips, T, S, S, 3)."""
    size = (clips, shape.num_frames, shape.image_size, shape.image_size, 3)
    return np.random.default_rng(0).integers(0, 255, size, np.uint8)


def loader(frames: np.ndarray, device: str) -> Callable[[Any], torch.Tensor]:
    """Normalised frames of some clips, on the device."""
    return lambda places: normalise(torch.from_numpy(frames[list(places)]).to(device))


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float | None:
    """Most memory that was in use since it was last reset."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None


def check_device(device: str, quick: bool) -> Found:  # noqa: ARG001  as all checks
    """What there is."""
    if device == "cpu":
        return {"torch": torch.__version__, "device": "cpu", "threads": torch.get_num_threads()}
    backends = torch.backends.cuda
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(),
        "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "flash": backends.flash_sdp_enabled(),
        "efficient": backends.mem_efficient_sdp_enabled(),
        "cudnn": backends.cudnn_sdp_enabled(),
        "cores": usable_cores(),
    }


def check_same(device: str, quick: bool) -> Found:
    """One clip in fp32 here and on the CPU, and in bf16 by the `Embedder`."""
    from encoder.model.embed import Embedder

    encoder, clip = stirred(shape_of(quick)), pictures(shape_of(quick), 1)
    on_cpu = Embedder(encoder, "cpu", "fp32").embed(list(clip))
    with torch.inference_mode():
        model = encoder.trainable.to(device)
        here = F.normalize(model(loader(clip, device)([0])).float(), dim=1).cpu().numpy()
        encoder.model.cpu()
    rounded = Embedder(encoder, device, "bf16").embed(list(clip))
    difference, angle = float(np.abs(here - on_cpu).max()), float(1 - (here * rounded).sum())
    return {
        "fp32_largest_difference": difference,
        "bf16_one_minus_cosine": angle,
        "goals": [1e-4, 1e-3],
        "holds": difference < 1e-4 and angle < 1e-3,
    }


def check_embedding(device: str, quick: bool) -> Found:
    """Clips a second with frames made up, by batch."""
    from encoder.model.embed import Embedder

    embedder = Embedder(new_encoder(shape_of(quick), seed=0), device, "bf16" if device == "cuda" else "fp32")
    rates: dict[int, float] = {}
    for batch in (1, 4) if quick else (1, 4, 8, 16):
        frames = list(pictures(shape_of(quick), batch))
        embedder.embed(frames)
        started, rounds = time.monotonic(), 2 if quick else 6
        waiting = embedder.begin(frames)
        for _ in range(rounds - 1):
            following = embedder.begin(frames)
            waiting()
            waiting = following
        waiting()
        rates[batch] = round(rounds * batch / (time.monotonic() - started), 2)
    best = max(rates.values())
    limit = round(embedder.clips_per_s_at_most(), 1)
    return {"precision": embedder.precision, "clips_a_second": rates, "matrix_limit": limit, "goal": 60, "best": best}


def check_memory(device: str, quick: bool) -> Found:
    """Peak memory and seconds of a step of 8 clips, by clips at once and by what is computed again."""
    rows, gradients = [], {}
    frames = pictures(shape_of(quick), 8)
    for recompute in ("off", "selective", "full"):
        for at_once in (1, 8) if quick else (1, 2, 4, 8):
            row = {"at_once": at_once, "activation_checkpointing": recompute}
            try:
                row |= step_of(device, shape_of(quick), frames, at_once, recompute, gradients)
            except torch.OutOfMemoryError:
                row |= {"out_of_memory": True}
            rows.append(row)
    kept = {name: values for name, values in gradients.items() if "off" in gradients}
    apart = {name: float((values - kept["off"]).abs().max()) for name, values in kept.items() if name != "off"}
    return {"rows": rows, "gradient_differs_from_off": apart}


def step_of(
    device: str,
    shape: TimesformerConfig,
    frames: np.ndarray,
    at_once: int,
    recompute: Recompute,
    gradients: dict[str, torch.Tensor],
) -> Found:
    """One step: its time, its memory; with one clip at once its gradient is kept to compare."""
    torch.manual_seed(0)
    model = TimeSformer(shape).to(device).train()
    model.recompute = recompute
    trained = Projected(model, model.embedding_dim, 0).to(device)
    ranks = Ranks(0, 1, torch.device(device))
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    numbers = NUMBERS.to(device)
    batch = Batch(numbers, numbers // 2, [len(frames)], loader(frames, device))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = 0.0
    for _ in range(2):
        trained.zero_grad(set_to_none=True)
        wait(device)
        started = time.monotonic()
        backward(trained, batch, OBJECTIVE, ranks, at_once=at_once, dtype=dtype)
        wait(device)
        took = time.monotonic() - started
    if at_once == 1:
        gradients[recompute] = next(iter(model.encoder.parameters())).grad.float().cpu().flatten()[:4096]
    return {"seconds": round(took, 3), "peak_gib": peak_gib(device)}


def check_training(device: str, quick: bool) -> Found:
    """A hundred contrastive steps on clips that can be told apart: clips a second, and where the loss ends."""
    shape = shape_of(quick)
    torch.manual_seed(0)
    model = TimeSformer(shape).to(device).train()
    model.recompute = "selective"
    trained = Projected(model, model.embedding_dim, 0).to(device)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    frames = pictures(shape, 8) // 4 + (NUMBERS.numpy() * 40).astype(np.uint8)[:, None, None, None, None]
    numbers = NUMBERS.to(device)
    batch = Batch(numbers, numbers // 2, [8], loader(frames, device))
    ranks, losses, chance = Ranks(0, 1, torch.device(device)), [], 0.0
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    started = time.monotonic()
    steps = 10 if quick else 100
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss, _ = backward(trained, batch, OBJECTIVE, ranks, at_once=8, dtype=dtype)
        optimiser.step()
        losses.append(loss.total.item())
        chance = loss.chance
        if time.monotonic() - started > 90:
            break
    wait(device)
    rate = 8 * len(losses) / (time.monotonic() - started)
    return {
        "clips_a_second": round(rate, 2),
        "goal": 12,
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "chance": chance,
        "finite": bool(np.isfinite(losses).all()),
        "peak_gib": peak_gib(device),
    }


def check_last_layer(device: str, quick: bool) -> Found:
    """Attention of the first token alone against that of all tokens, forward and backward."""
    model = stirred(shape_of(quick)).trainable.to(device)
    attention = model.layers[-1].attention
    x = torch.randn(16, 197 if not quick else 5, model.config.hidden_size, device=device, requires_grad=True)
    whole = attention(x)[:, :1]
    first = attention.of_first(x)
    gradients = [torch.autograd.grad(out.square().sum(), x, retain_graph=True)[0] for out in (whole, first)]
    return {
        "forward_differs": float((whole - first).detach().abs().max()),
        "gradient_differs": float((gradients[0] - gradients[1]).abs().max()),
    }


def check_chunks(device: str, quick: bool) -> Found:
    """The gradient of a whole batch against that of two clips at a time, by precision."""
    found: Found = {}
    shape = architecture(4, 32, 64, 2, 2, embedding_dim=64) if quick else preset("timesformer-b")
    frames = pictures(shape, 8)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        parts = []
        for at_once in (8, 2):
            torch.manual_seed(0)
            model = TimeSformer(shape).to(device).train()
            trained = Projected(model, model.embedding_dim, 0).to(device)
            numbers = NUMBERS.to(device)
            batch = Batch(numbers, numbers // 2, [8], loader(frames, device))
            backward(trained, batch, OBJECTIVE, Ranks(0, 1, torch.device(device)), at_once=at_once, dtype=dtype)
            parts.append(torch.cat([p.grad.float().flatten() for p in trained.parameters() if p.grad is not None]))
        cosine = float(F.cosine_similarity(parts[0], parts[1], dim=0))
        found[name] = {"largest_difference": float((parts[0] - parts[1]).abs().max()), "cosine": cosine}
    return found


CHECKS: dict[str, Callable[[str, bool], Found]] = {
    "device": check_device,
    "same vectors": check_same,
    "clips a second": check_embedding,
    "memory": check_memory,
    "training": check_training,
    "last layer": check_last_layer,
    "chunked gradients": check_chunks,
    "resumed": check_resumed,
    "torchrun": check_torchrun,
    "encode job": check_job,
    "baselines": check_baselines,
}


if __name__ == "__main__":
    main()
