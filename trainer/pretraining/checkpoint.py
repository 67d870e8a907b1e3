"""Checkpoints of a training run: all that the next step depends on, in one safetensors file, whole or absent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from index.errors import DamagedData, InvalidInput
from index.files.durable import write_atomically
from trainer.pretraining.losses import Memory

_NAME = "checkpoint-{:08d}.safetensors"
_KEPT = 2
_MOMENTS = ("exp_avg", "exp_avg_sq")
_REMEMBERED = ("z_MD", "video_M", "patient_M", "scene_M")


@dataclass(frozen=True, slots=True)
class State:
    """What a run has come to.

    Attributes:
        model: what is trained.
        optimiser: AdamW over all its parameters.
        memory: remembered embeddings, or None.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    memory: Memory | None


def save_checkpoint(folder: Path, step: int, state: State) -> Path:
    """Write the checkpoint after a step, and delete all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimiser.state[parameter]
        tensors |= {f"{kind}.{name}": moments[kind] for kind in _MOMENTS if kind in moments}
    if state.memory is not None:
        remembered = {f"memory.{key}": getattr(state.memory, key) for key in _REMEMBERED}
        tensors |= {name: tensor for name, tensor in remembered.items() if tensor is not None}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": str(step), "sha256": _digest(tensors)}
    path = folder / _NAME.format(step)
    write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))
    for old in checkpoints(folder)[:-_KEPT]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, the oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, Memory | None]:
    """Put a checkpoint back into a model and its optimiser.

    Returns:
        The step it was written after, and the remembered embeddings.

    Raises:
        DamagedData: If the file is torn or altered.
        InvalidInput: If it is of another architecture.
    """
    try:
        with safetensors.safe_open(path, "pt") as archive:
            metadata = archive.metadata() or {}
        tensors = safetensors.torch.load_file(path)
        step, expected = int(metadata["step"]), metadata["sha256"]
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DamagedData(
            f"{path.name} is torn ({type(error).__name__}): delete it, and the run resumes from the one before"
        ) from None
    if _digest(tensors) != expected:
        raise DamagedData(f"{path.name} is not what was written: delete it, and the run resumes from the one before")
    _fill(model, {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    for name, parameter in model.named_parameters():
        if f"{_MOMENTS[0]}.{name}" in tensors:
            moments = {kind: tensors[f"{kind}.{name}"].to(parameter.device) for kind in _MOMENTS}
            optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    if "memory.z_MD" not in tensors:
        return step, None
    device = next(model.parameters()).device
    remembered = {key: tensors[f"memory.{key}"].to(device) for key in _REMEMBERED if f"memory.{key}" in tensors}
    return step, Memory(**remembered)


def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != shapes:
        differing = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        first = differing[0]
        raise InvalidInput(
            f"the checkpoint is of another architecture: {len(differing)} weights differ, the first is {first}, "
            f"expected {wanted.get(first, 'none')}, got {shapes.get(first, 'none')}; train in a new run"
        )
    model.load_state_dict(weights)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tuple(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
