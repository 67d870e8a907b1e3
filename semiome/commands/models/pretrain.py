"""`semiome pretrain`: contrastive pretraining from a configuration file, on one process or under torchrun."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.commands.models.frames import clips_of
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from encoder.model.identity import Encoder
    from trainer.clips import TrainingClips
    from trainer.pretraining.run import RunConfig


def pretrain(
    config: Annotated[Path, typer.Argument(help="TOML file; see examples/pretrain.toml.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    decoders: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write the log for TensorBoard.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain an encoder on unlabelled clips, and use it from now on. A stopped run resumes.

    On several GPUs or machines: torchrun --nproc-per-node 4 -m semiome pretrain CONFIG.toml
    """
    from encoder.manifest import read_manifest
    from encoder.model.folder import install_encoder
    from index.processors import usable_cores
    from index.workspace import Workspace
    from trainer.pretraining.ranks import check_device, joined, launched_ranks
    from trainer.pretraining.run import RunConfig, initial_encoder, read_config, run_pretraining

    settings = read_config(config, RunConfig)
    rank, world_size, local_rank = launched_ranks()
    screen = Screen(as_json=as_json, silent=rank > 0)
    check_device(settings.device, settings.pretrain.precision)
    workspace = Workspace.at(address)
    start = initial_encoder(settings.encoder, config.parent, settings.pretrain.seed)
    if start.crop is not None:
        screen.warn(
            "the encoder to start from crops to the bed, pretraining crops by the manifest alone: train on the boxes "
            "that `semiome beds` writes, and give the result its crop with `semiome encoder crop`"
        )
    shape = start.trainable.config
    cache = None if settings.frame_cache is None else config.parent / settings.frame_cache
    clips = clips_of(
        *(read_manifest(config.parent / settings.manifest, classes=None), cache, shape.num_frames, shape.image_size),
        decoders=decoders or usable_cores(),
        screen=screen,
        writes=local_rank == 0,
        shared=world_size > 1,
    )
    stop = _Stop()
    with joined(settings.device) as ranks, screen.progress("Pretraining") as progress:
        total = _steps(settings, clips, world_size)
        encoder = run_pretraining(
            start,
            clips,
            settings,
            workspace.runs / settings.name,
            ranks,
            on_step=lambda log: progress(log.step, total),
            warn=screen.warn,
            should_stop=stop.asked,
            tensorboard=tensorboard,
        )
    if rank == 0:
        install_encoder(encoder, workspace.encoders)
        values = _values(encoder, settings, workspace, clips)
        screen.result(values, lambda: _show(values, screen))


def _steps(settings: RunConfig, clips: TrainingClips, world_size: int) -> int:
    from trainer.pretraining.pretrain import planned_batches
    from trainer.pretraining.run import split_for_probes

    return len(planned_batches(split_for_probes(clips, settings.hold_out_split)[0], settings.pretrain, world_size))


class _Stop:
    """Set by SIGTERM: schedulers ask so before they take the machine away."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def asked(self) -> bool:
        return self._asked


def _values(encoder: Encoder, settings: RunConfig, workspace: Any, clips: TrainingClips) -> dict[str, Any]:  # noqa: ANN401
    from dataclasses import asdict

    from trainer.pretraining.run import read_log
    from trainer.pretraining.sampler import coverage

    log = read_log(workspace.runs / settings.name)
    steps = [line for line in log if "loss" in line]
    probes = [line["probes"] for line in log if "probes" in line]
    return {
        "encoder_id": encoder.encoder_id,
        "run": settings.name,
        "steps": len(steps),
        "last_step": steps[-1],
        "probes": probes[-1],
        "coverage": asdict(coverage(clips.video_of, clips.patient_of)),
        "left_out": [asdict(video) for video in clips.left_out],
    }


def _show(values: dict[str, Any], screen: Screen) -> None:
    last, probes = values["last_step"], values["probes"] or {}
    screen.say(
        f"encoder {values['encoder_id']} is in use: {values['steps']} steps, loss {last['loss']:.2f} (guessing: "
        f"{last['chance']:.2f}), mean cosine {last['mean_cosine']:.2f}, effective rank {last['effective_rank']:.1f}"
    )
    rows = [(name, f"{s['found']:.2f}", f"{s['chance']:.2f}") for name, s in probes.items() if isinstance(s, dict)]
    if rows:
        screen.table("Nearest neighbours on held-out patients", ("are of the same", "found", "by chance"), rows)
