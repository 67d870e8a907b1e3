"""`semiome encode`: a manifest's videos into the store."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.commands.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    WorkspaceOption,
)
from semiome.console import Screen

if TYPE_CHECKING:
    from encoder.pipeline import EncodeReport
    from encoder.weights import Encoder
    from index.workspace import Workspace


def encode(
    manifest: Annotated[Path, typer.Argument(help="CSV, one row a video; files lie in its folder or below.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[str | None, typer.Option(help="Encoder id; by default the one in use.")] = None,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Clips handed over at once; a GPU embeds them together.")] = 4,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Videos decoded at once; default: half the cores.")
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Keep the whole clips before the damage of a cut file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed every clip of every video that is not stored yet, and store it.

    Safe to interrupt and to run again. Ends with 3 when some videos were refused; each is listed with its reason.
    """
    from encoder.embed import Embedder, threads_beside
    from encoder.manifest import read_manifest
    from encoder.pipeline import EncodeOptions
    from encoder.pipeline import encode as run
    from index.store import Store
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    rows = read_manifest(manifest)
    place = Workspace(workspace)
    chosen = encoder_for(place, encoder, screen)
    options = EncodeOptions(batch, decoders or max((os.cpu_count() or 2) // 2, 1), salvage)
    embedder = Embedder(chosen, device, precision, threads_beside(chosen.model.config, options.decoders))
    if embedder.why:
        screen.note(f"computing in {embedder.precision}: {embedder.why}")
    try:
        with screen.progress("Encoding videos") as progress:
            report = run(rows, embedder, Store(place), options, progress)
    except KeyboardInterrupt:
        screen.note("interrupted: every finished video is stored, run the same command to go on")
        raise typer.Exit(130) from None
    screen.result(
        {
            "encoder_id": chosen.encoder_id,
            "encoder_trained": chosen.trained,
            "precision": embedder.precision,
            **asdict(report),
        },
        lambda: show_report(report, chosen.encoder_id, screen),
    )
    if report.refused:
        raise typer.Exit(3)


def encoder_for(workspace: Workspace, encoder_id: str | None, screen: Screen) -> Encoder:
    """The encoder asked for, or the one in use; a workspace that has none gets untrained weights, and is told so."""
    from encoder.timesformer import preset
    from encoder.weights import current_encoder, install_encoder, new_encoder
    from index.workspace import current

    if encoder_id is None and current(workspace.encoders) is None:
        install_encoder(new_encoder(preset("timesformer-demo"), seed=0), workspace.encoders)
    chosen = current_encoder(workspace.encoders, encoder_id)
    if not chosen.trained:
        screen.warn(
            f"encoder {chosen.encoder_id} has random weights, so its neighbours and verdicts mean nothing: "
            "bring trained ones with `semiome encoder import`"
        )
    return chosen


def show_report(report: EncodeReport, encoder_id: str, screen: Screen) -> None:
    """What the job did, in words."""
    seconds = report.seconds
    screen.say(
        f"{report.clips_written} clips of {report.videos_written} videos written, {report.clips_skipped} were stored "
        f"already, {report.videos_updated} videos updated, {len(report.refused)} refused (encoder {encoder_id})"
    )
    if report.clips_written:
        screen.say(
            f"{seconds['total']:.1f} s: {seconds['model'] / seconds['total']:.0%} in the model, "
            f"{seconds['waiting'] / seconds['total']:.0%} waiting for frames, "
            f"{seconds['committing'] / seconds['total']:.0%} committing"
        )
    for ids in report.same_content:
        screen.warn(f"videos {', '.join(ids)} have the same content: keep them on one side of every split")
    for title, refusals in (("Salvaged up to the damage", report.salvaged), ("Refused", report.refused)):
        if refusals:
            rows = [(refusal.video_id, refusal.file_name, refusal.reason) for refusal in refusals]
            screen.table(title, ("video", "file", "reason"), rows)
