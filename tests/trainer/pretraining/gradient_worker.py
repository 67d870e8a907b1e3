"""One rank of the gradient test: the gradient of one batch, in several ways, saved by rank 0. Run by torchrun."""

import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from encoder.model.identity import new_encoder
from tests.conftest import tiny_architecture
from trainer.pretraining.ranks import joined
from trainer.pretraining.sampler import share
from trainer.pretraining.step import Batch, Objective, Projected, backward

VIDEO = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
PATIENT = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
OBJECTIVE = Objective(tau=0.2, levels="both", pairs="both", same_patient_negatives=True)


def gradient(ranks, at_once, dtype=torch.float32, recompute="off", memory=None, steps=1):
    """Loss, embeddings and the gradient of all parameters for one batch of random frames, the last time of several."""
    torch.manual_seed(0)
    encoder = new_encoder(tiny_architecture(), seed=0).model.train()
    encoder.recompute = recompute
    torch.nn.init.normal_(encoder.encoder.layer[0].temporal_dense.weight, std=0.1)
    model = Projected(encoder, 768, 16)
    frames = torch.randn(len(VIDEO), 4, 3, 32, 32)
    sizes = [len(share(range(len(VIDEO)), rank, ranks.world_size)) for rank in range(ranks.world_size)]
    mine = frames[sum(sizes[: ranks.rank]) :][: sizes[ranks.rank]]
    batch = Batch(torch.tensor(VIDEO), torch.tensor(PATIENT), sizes, lambda places: mine[list(places)])
    wrapped = DistributedDataParallel(model) if ranks.world_size > 1 else model
    for _ in range(steps):
        model.zero_grad()
        loss, z_BD = backward(wrapped, batch, OBJECTIVE, ranks, at_once=at_once, dtype=dtype, memory=memory)
    return loss, z_BD, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    with joined("cpu") as ranks:
        for at_once in map(int, sys.argv[2:]):
            loss, embedded, found = gradient(ranks, at_once, steps=2)
            if ranks.rank == 0:
                saved = {"loss": loss.total, "z": embedded, "gradient": found}
                torch.save(saved, Path(sys.argv[1], f"{at_once}.pt"))
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            names.append(Path(task, "comm").read_text())
    if left := [name for name in names if "gloo" in name]:
        sys.exit(f"threads of the process group are left, and may abort the process at its end: {left}")
