"""`semiome ablate`: the paper's Table I for one's own cohort, as text, JSON and one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.commands.models.pretrain import clips_for
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from trainer.clips import TrainingClips
    from trainer.study.ablation import AblationConfig


def ablate(
    config: Annotated[Path, typer.Argument(help="TOML file; see examples/ablation.toml.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    decoders: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Pretrain in four ways, judge with each and with the baselines, and write the table with its intervals."""
    from index.errors import InvalidInput
    from index.files.durable import write_text_atomically
    from index.processors import usable_cores
    from index.workspace import Workspace
    from trainer.frame_cache import read_references
    from trainer.pretraining.ranks import joined, launched_ranks
    from trainer.pretraining.run import initial_encoder, read_config
    from trainer.study.ablation import AblationConfig, ablate
    from trainer.study.pretrained_encoders import Reporter
    from trainer.study.report import as_html, as_text, check_map

    screen = Screen(as_json=as_json)
    if launched_ranks()[1] > 1:
        raise InvalidInput("an ablation runs in one process: start it without torchrun")
    settings = read_config(config, AblationConfig)
    check_map(settings.map)
    start = initial_encoder(settings.encoder, config.parent, settings.seed)
    shape = start.model.config
    clips = _clips(settings, config.parent, shape.num_frames, shape.image_size, decoders or usable_cores(), screen)
    references = {} if settings.frame_cache is None else read_references(config.parent / settings.frame_cache)
    folder = Workspace.at(address).runs / settings.name
    with joined(settings.device) as ranks, screen.progress("Ablation") as progress:

        def step(what: str, done: int, total: int) -> None:
            progress(done, total, what)

        study = ablate(clips, start, settings, folder, config.parent, ranks, references, Reporter(step, screen.warn))
    text = as_text(study)
    write_text_atomically(folder / "table.txt", text)
    write_text_atomically(folder / "report.html", as_html(study))
    values = {**study.values(), "folder": str(folder), "report": str(folder / "report.html")}
    screen.result(values, lambda: screen.say(f"{text}\nReport: {folder / 'report.html'}"))


def _clips(
    settings: AblationConfig, folder: Path, num_frames: int, size: int, decoders: int, screen: Screen
) -> TrainingClips:
    from index.errors import InvalidInput
    from trainer.frame_cache import read_cache

    if settings.manifest is not None:
        return clips_for(
            settings.manifest, settings.frame_cache, folder, num_frames, size, decoders=decoders, screen=screen
        )
    if settings.frame_cache is None:
        raise InvalidInput("expected a manifest or a frame_cache in the configuration, got neither")
    clips = read_cache(folder / settings.frame_cache)
    if clips.frames.shape[1:3] != (num_frames, size):
        raise InvalidInput(
            f"expected a frame cache of {num_frames} frames of {size} pixels, got one of {clips.frames.shape[1:3]}"
        )
    return clips
