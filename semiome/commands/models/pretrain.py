"""`semiome pretrain`: contrastive pretraining from a configuration file, on one process or under torchrun."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from encoder.model.folder import Encoder
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
    from encoder.model.folder import install_encoder
    from index.processors import usable_cores
    from index.workspace import Workspace
    from trainer.pretraining.ranks import joined, launched_ranks
    from trainer.pretraining.run import RunConfig, initial_encoder, read_config, run_pretraining

    settings = read_config(config, RunConfig)
    rank, world_size, local_rank = launched_ranks()
    screen = Screen(as_json=as_json, silent=rank > 0)
    workspace = Workspace.at(address)
    start = initial_encoder(settings.encoder, config.parent, settings.pretrain.seed)
    if start.crop is not None:
        screen.warn(
            "the encoder to start from crops to the bed, pretraining crops by the manifest alone: train on the boxes "
            "that `semiome beds` writes, and give the result its crop with `semiome encoder crop`"
        )
    shape = start.model.config
    clips = clips_for(
        *(settings.manifest, settings.frame_cache, config.parent, shape.num_frames, shape.image_size),
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


def clips_for(
    manifest: Path,
    frame_cache: Path | None,
    folder: Path,
    num_frames: int,
    size: int,
    *,
    decoders: int,
    screen: Screen,
    writes: bool = True,
    shared: bool = False,
) -> TrainingClips:
    """The clips of a manifest, from its frame cache where there is one.

    Args:
        manifest: relative to `folder`.
        frame_cache: relative to `folder`; None to keep frames in memory.
        folder: of the configuration.
        num_frames: T.
        size: S.
        decoders: videos decoded at once.
        screen: for progress, and for what is left out.
        writes: whether this process makes the cache if there is none; others wait for it.
        shared: whether other processes read it too.
    """
    from encoder.manifest import read_manifest
    from index.errors import InvalidInput
    from index.files.locks import exclusive_lock
    from trainer.decoding import as_described, decode_all
    from trainer.frame_cache import build_cache, cache_bytes, check_room, matches, read_cache

    rows = read_manifest(folder / manifest)
    if frame_cache is None:
        if shared:
            raise InvalidInput("several processes share one frame cache: name its folder as frame_cache")
        with screen.progress("Decoding") as progress:
            clips = decode_all(rows, num_frames, size, decoders, progress)
    else:
        cache = folder / frame_cache
        if writes and not (cache / "clips.json").exists():
            with exclusive_lock(cache / "lock", "the frame cache"):
                with screen.progress("Counting clips") as progress:
                    size_bytes = cache_bytes(rows, num_frames, size, decoders, progress)
                screen.note(f"the frame cache will take {size_bytes / 2**30:.2f} GiB")
                check_room(cache, size_bytes)
                with screen.progress("Decoding") as progress:
                    build_cache(rows, cache, num_frames, size, decoders, progress)
        elif not writes:
            _wait_for(cache / "clips.json")
        clips = read_cache(cache)
        matches(clips, rows, num_frames, size)
    for video in clips.left_out if writes else ():
        screen.warn(f"{video.video_id} is left out: {video.reason}")
    return as_described(clips, rows)


def _wait_for(path: Path) -> None:
    """Until another process of this machine has written a file; torchrun ends this one should the other fail."""
    import time

    while not path.exists():
        time.sleep(0.2)


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
