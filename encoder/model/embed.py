"""Frames to unit embeddings, in batches, on one device and in one precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import TimesformerConfig

from encoder.model.backbone import Backbone, Shape
from encoder.model.identity import Encoder
from encoder.model.inference import Prepared, flop_of_clip, matrix_rate
from encoder.model.timesformer import TimeSformer, normalise
from index.errors import InvalidInput
from index.processors import usable_cores

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_HEAVY_FLOP = 50e9
_WORTH = 1.5  # a processor without bfloat16 units is slower in it, one with them at least twice as fast


def advised_precision(config: TimesformerConfig | Shape, device: str) -> tuple[str, str]:
    """The precision that an encoder of this size is worth computing in here, and why in words.

    On a CPU a measured probe decides for large models; a small one is as fast as its frames are decoded.
    """
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU has units for it"
        return "fp32", "this GPU has no bfloat16"
    if flop_of_clip(config) < _HEAVY_FLOP:
        return "fp32", "the model is small"
    gain = matrix_rate(torch.bfloat16) / matrix_rate(torch.float32)
    return "bf16" if gain >= _WORTH else "fp32", f"bf16 products run at {gain:.1f} times fp32's rate here"


def threads_beside(config: TimesformerConfig | Shape, decoders: int) -> int:
    """Threads for the model while `decoders` videos are decoded on the same cores.

    A model that takes as long as decoding must leave the decoders their cores: threads that are pushed off theirs
    hold up all others (measured: the demo's encoder is a quarter faster with one thread of two). One that takes far
    longer hardly notices them.
    """
    cores = usable_cores()
    return cores if flop_of_clip(config) > _HEAVY_FLOP else max(cores - decoders, 1)


class Embedder:
    """Holds the model where it runs.

    Args:
        encoder: to run.
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16` in place of the encoder's own, to compare: such vectors are not the encoder's.
        threads: of the whole process, from now on; torch's choice by default.

    Attributes:
        encoder: as given.
        device: as given.
        batches_ahead: how many batches are worth handing over before the first is asked for: a GPU computes while the
            next one is prepared and copied.
        precision: in use.

    Raises:
        InvalidInput: If there is no such precision or device.
    """

    def __init__(
        self, encoder: Encoder, device: str = "cpu", precision: str | None = None, threads: int | None = None
    ) -> None:
        precision = precision or encoder.precision
        if precision not in DTYPES:
            raise InvalidInput(f"expected a precision of {' or '.join(DTYPES)}, got {precision!r}")
        if device not in {"cpu", "cuda"}:
            raise InvalidInput(f"expected a device of cpu or cuda, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise InvalidInput("no CUDA device is here: use --device cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        self.encoder = encoder
        self.device = device
        self.batches_ahead = 1 if device == "cuda" else 0
        if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InvalidInput(f"encoder {encoder.encoder_id} computes in bf16, which this GPU has not: use the CPU")
        self.precision = precision
        dtype = DTYPES[self.precision]
        # The encoder itself stays as it is: rounded weights must never be saved under its id.
        self._forward = _on_gpu(encoder.model, dtype) if device == "cuda" else _on_cpu(encoder.model, dtype)

    def clips_per_s_at_most(self) -> float:
        """What the device's rate in matrix products would allow, measured now, in a twentieth of a second."""
        rate = matrix_rate(DTYPES[self.precision], 0.05, self.device)
        return rate / flop_of_clip(self.encoder.model.config)

    def embed(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed clips.

        Args:
            frames: (T, S, S, 3) uint8 RGB each.

        Returns:
            (B, D) float32, unit length.

        Raises:
            InvalidInput: If the model gave values that are not finite.
        """
        return self.begin(frames)()

    def begin(self, frames: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float32]]:
        """Hand clips over as `embed` does; what comes back waits for their embeddings and gives them."""
        embedding_BD = F.normalize(self._forward(frames), dim=1)

        def finish() -> NDArray[np.float32]:
            vectors: NDArray[np.float32] = embedding_BD.cpu().numpy()
            if not np.isfinite(vectors).all():
                raise InvalidInput(
                    f"encoder {self.encoder.encoder_id} gave values that are not finite: check its weights"
                )
            return vectors

        return finish


_Forward = Callable[[Sequence[NDArray[np.uint8]]], Tensor]


def _on_cpu(model: TimeSformer | Backbone, dtype: torch.dtype) -> _Forward:
    if isinstance(model, Backbone):
        return _by_transformers(model, dtype)
    prepared = Prepared(model, dtype)
    # A copy: a decoder's frames may not be written to, which torch's tensors can't say.
    return lambda clips: torch.stack([prepared.embed(torch.from_numpy(frames.copy())) for frames in clips])


def _by_transformers(model: Backbone, dtype: torch.dtype) -> _Forward:
    """One clip at a time: its embedding does not depend on those that came with it."""
    own = copy.deepcopy(model).to(dtype)

    @torch.inference_mode()
    def forward(clips: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.cat([own(normalise(torch.from_numpy(frames.copy())[None], dtype)).float() for frames in clips])

    return forward


def _on_gpu(model: TimeSformer | Backbone, dtype: torch.dtype) -> _Forward:
    own = copy.deepcopy(model).to("cuda", dtype)

    @torch.inference_mode()
    def forward(clips: Sequence[NDArray[np.uint8]]) -> Tensor:
        batch = torch.from_numpy(np.stack(clips)).pin_memory().to("cuda", non_blocking=True)
        embedding: Tensor = own(normalise(batch, dtype)).float()
        return embedding

    return forward
