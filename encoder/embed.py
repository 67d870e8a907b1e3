"""Frames to unit embeddings, in batches, on one device and in one precision."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import TimesformerConfig

from encoder.timesformer import normalise
from encoder.weights import Encoder
from index.errors import InvalidInput

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_HEAVY_FLOP = 50e9


def threads_beside(config: TimesformerConfig, decoders: int) -> int:
    """Threads for the model while `decoders` videos are decoded on the same cores.

    A model that takes as long as decoding must leave the decoders their cores: threads that are pushed off theirs
    hold up all others (measured: the demo's encoder is a quarter faster with one thread of two). One that takes far
    longer hardly notices them.
    """
    cores = os.cpu_count() or 1
    tokens = config.num_frames * (config.image_size // config.patch_size) ** 2
    # Multiply-adds of a layer a token: 4 D^2 for each attention, D^2 for `temporal_dense`, 8 D^2 for the MLP.
    flop = 2 * 17 * config.hidden_size**2 * tokens * config.num_hidden_layers
    return cores if flop > _HEAVY_FLOP else max(cores - decoders, 1)


class Embedder:
    """Holds the model where it runs.

    Args:
        encoder: what to run.
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16`.
        threads: of the whole process, from now on; torch's choice by default.

    Raises:
        InvalidInput: no such precision or device.
    """

    def __init__(
        self, encoder: Encoder, device: str = "cpu", precision: str = "fp32", threads: int | None = None
    ) -> None:
        if precision not in DTYPES:
            raise InvalidInput(f"expected a precision of {', '.join(DTYPES)}, got {precision!r}")
        if device not in {"cpu", "cuda"}:
            raise InvalidInput(f"expected a device of cpu or cuda, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise InvalidInput("no CUDA device is here: use --device cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        self.encoder = encoder
        self._device = torch.device(device)
        self._dtype = DTYPES[precision]
        # The encoder itself stays as it is: rounded weights must never be saved under its id.
        as_is = device == "cpu" and self._dtype is torch.float32
        self._model = encoder.model if as_is else copy.deepcopy(encoder.model).to(self._device, self._dtype)

    def embed(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed clips.

        Args:
            frames: (T, S, S, 3) uint8 RGB each.

        Returns:
            (B, D) float32, unit length.

        Raises:
            InvalidInput: the model gave values that are not finite.
        """
        batch = torch.from_numpy(np.stack(frames)).to(self._device)
        with torch.inference_mode():
            embedding = self._model(normalise(batch, self._dtype)).float()
        vectors: NDArray[np.float32] = F.normalize(embedding, dim=1).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise InvalidInput(f"encoder {self.encoder.encoder_id} gave values that are not finite: check its weights")
        return vectors
