"""`semiome encode`: a manifest's videos into the store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from semiome.console import Screen, Terminated, duration
from semiome.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    LeastSandboxOption,
    MediaRootOption,
    WorkspaceOption,
    ask_for_sandbox,
    warn_of_another_account,
)

if TYPE_CHECKING:
    from encoder.job.dry_run import DryRun
    from encoder.job.pipeline import EncodeOptions, Engine
    from encoder.job.report import EncodeReport
    from encoder.manifest import Manifest
    from encoder.model.identity import Encoder
    from index.tables.store import Store
    from index.workspace import Workspace


def encode(
    manifest: Annotated[Path, typer.Argument(help="CSV, one row a video; files lie in its folder or below.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[str | None, typer.Option(help="Encoder id; by default the one in use.")] = None,
    device: DeviceOption = "cpu",
    rehash: Annotated[
        bool,
        typer.Option("--rehash", help="Read every file again, even one that has not changed since the last job."),
    ] = False,
    stride: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=10,
            help="Seconds from one clip to the next, less than 10 for overlapping ones. Default: as stored; 10 for new "
            "videos.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips handed over at once; a GPU embeds them together.")] = 4,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Videos decoded at once; default: half the cores.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local, or ray: the cluster RAY_ADDRESS names (extra `ray`).")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="With ray: models at work, one GPU or one core each.")] = 2,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Keep the whole clips before the damage of a cut file.")
    ] = False,
    with_previews: Annotated[
        bool, typer.Option("--previews", help="Make what the review page shows too; see `semiome previews`.")
    ] = False,
    media_root: MediaRootOption = None,
    distinct_ids: Annotated[
        bool, typer.Option("--distinct-ids", help="Treat ids that look like misspellings of each other as different.")
    ] = False,
    same_recording: Annotated[
        str | None,
        typer.Option(help="Reason to store a recording that is stored under another patient too. Saved with this run."),
    ] = None,
    least_sandbox: LeastSandboxOption = "limits",
    only_ask: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be encoded and how long it would take; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed every clip of every video that is not stored yet, and store it.

    Safe to interrupt and to run again. Exits with status 3 if some videos were refused; each is listed with its
    reason, and in a `refused.csv` that can be given as a manifest again.
    """
    from encoder.job.dry_run import dry_run
    from encoder.job.pipeline import EncodeOptions, encode_with, local_engine
    from encoder.job.report import EncodeReport
    from encoder.manifest import read_manifest
    from encoder.model.embed import Embedder, threads_beside
    from encoder.previews.library import make_previews
    from index.errors import InvalidInput
    from index.processors import usable_cores
    from index.tables.store import Store
    from index.workspace import Workspace, classes_of

    ask_for_sandbox(least_sandbox)
    screen = Screen(as_json=as_json)
    workspace = Workspace.at(address)
    rows = read_manifest(manifest, media_root, classes_of(workspace)).every(stride)
    warn_of_another_account(workspace, screen)
    same_recording = same_recording if same_recording is None else same_recording.strip()
    if same_recording == "":
        raise InvalidInput("expected a reason with --same-recording")
    if not distinct_ids:
        _ask_about_ids(rows, Store(workspace), screen)
    chosen = encoder_for(workspace, encoder, screen, writes=not only_ask)
    options = EncodeOptions(batch, decoders or max(usable_cores() // 2, 1), salvage)
    if engine == "ray" and not only_ask:
        run = _on_cluster(chosen, device, workers, options)
    else:
        embedder = Embedder(chosen, device, threads=threads_beside(chosen.model.config, options.decoders))
        run = local_engine(embedder, options)
    _advise(chosen, device, screen)
    if only_ask:
        with screen.progress("Looking at videos") as progress:
            forecast = dry_run(rows, embedder, Store(workspace), options, progress)
        screen.result(
            {"encoder_id": chosen.encoder_id, "precision": chosen.precision, **asdict(forecast)},
            lambda: _show_forecast(forecast, screen),
        )
        raise typer.Exit(3 if forecast.refused else 0)
    if chosen.crop is not None:
        screen.note(
            f"cropping each video to the bed that detector {chosen.crop.detector_id} finds in its first picture"
        )
    report = EncodeReport()
    try:
        with screen.progress("Encoding videos") as progress:
            encode_with(
                *(run, rows, chosen, Store(workspace)),
                salvage=salvage,
                same_recording=bool(same_recording),
                rehash=rehash,
                progress=progress,
                report=report,
            )
    except KeyboardInterrupt as interrupt:
        screen.note(
            "interrupted: every finished video is stored, and finished clips of a long one are kept; run the same "
            "command again to resume"
        )
        if so_far := _write_refused(report, rows, workspace):
            screen.note(f"{len(report.refused)} videos were refused until then: {so_far}")
        raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from None
    again = _write_refused(report, rows, workspace)
    if same_recording and report.same_content:
        _keep_reason(same_recording, report, workspace)
    previews = None
    if with_previews:
        with screen.progress("Making previews") as progress:
            previews = make_previews(rows, workspace, usable_cores(), progress)
    screen.result(
        {
            "encoder_id": chosen.encoder_id,
            "encoder_trained": chosen.trained,
            "encoder_kind": chosen.kind,
            "precision": chosen.precision,
            **asdict(report),
            "refused_csv": str(again or ""),
            "previews": None if previews is None else asdict(previews),
        },
        lambda: show_report(report, chosen.encoder_id, screen),
    )
    if previews is not None:
        for video_id in sorted(previews.refused.keys() - {refusal.video_id for refusal in report.refused}):
            screen.warn(f"no preview of {video_id}: {previews.refused[video_id]}")
    if again is not None:
        screen.note(f"once they are fixed: semiome encode {again} --media-root {rows.folder} -w {address}")
    if report.refused:
        raise typer.Exit(3)


def _ask_about_ids(rows: Manifest, store: Store, screen: Screen) -> None:
    """Ask about ids that look like misspellings of each other."""
    from encoder.job.identity import doubtful_ids
    from index.errors import InvalidInput

    doubtful = doubtful_ids(rows, store.videos() if store.exists() else {})
    patients = {row.patient_id for row in rows.rows}
    doubtful += [
        f"patient_id: {name} and a patient who was erased"
        for name in sorted(store.alike_to_erased(patients) - store.erased(patients))
    ]
    if not doubtful:
        return
    listed = "; ".join(doubtful[:20]) + ("; …" if len(doubtful) > 20 else "")
    if screen.can_ask():
        screen.warn(f"these ids look like misspellings of each other: {listed}")
        typer.confirm("Are they all different?", abort=True)
        return
    raise InvalidInput(
        f"these ids look like misspellings of each other: {listed}. Correct the manifest, or give --distinct-ids if "
        "they are all different"
    )


def _keep_reason(reason: str, report: EncodeReport, workspace: Workspace) -> None:
    import json

    from index.files.durable import write_text_atomically

    folder = workspace.new_run("encode")
    folder.mkdir(parents=True, exist_ok=True)
    values = {"reason": reason, "videos": [list(ids) for ids in report.same_content]}
    write_text_atomically(folder / "same-recording.json", json.dumps(values, indent=2) + "\n")


def _on_cluster(encoder: Encoder, device: str, workers: int, options: EncodeOptions) -> Engine:
    from encoder.job.cluster import ClusterOptions, ray_engine

    return ray_engine(encoder, ClusterOptions(workers, options.decoders, options.batch, device, limits=options.limits))


def _advise(encoder: Encoder, device: str, screen: Screen) -> None:
    """Say where another precision would be worth an encoder of its own."""
    from encoder.model.embed import advised_precision

    better, why = advised_precision(encoder.model.config, device)
    if better == "bf16" and encoder.precision == "fp32":
        screen.note(
            f"this encoder computes in fp32, and {why}: `semiome encoder precision bf16` makes one that is faster"
        )


def encoder_for(workspace: Workspace, encoder_id: str | None, screen: Screen, *, writes: bool = True) -> Encoder:
    """The encoder asked for, or the one in use; a new workspace that has none gets untrained weights, with a warning.

    Raises:
        StateError: If none is here and clips are stored already, as on a new host of a shared workspace.
    """
    from encoder.model.architecture import preset
    from encoder.model.folder import current_encoder, install_encoder
    from encoder.model.identity import new_encoder
    from encoder.model.kind import what_it_means
    from index.errors import StateError
    from index.tables.store import Store
    from index.workspace import current

    if encoder_id is None and current(workspace.encoders) is None:
        store = Store(workspace)
        if store.exists() and (known := store.encoder_ids()):
            raise StateError(
                f"clips of encoder {', '.join(known)} are stored, and this host has no encoder: bring the same weights "
                "with `semiome encoder import`"
            )
        chosen = new_encoder(preset("timesformer-demo"), seed=0)
        if writes:
            install_encoder(chosen, workspace.encoders)
    else:
        chosen = current_encoder(workspace.encoders, encoder_id)
    if says := what_it_means(chosen.kind):
        screen.warn(f"{says} ({chosen.encoder_id}); bring weights with `semiome encoder import`")
    return chosen


def show_report(report: EncodeReport, encoder_id: str, screen: Screen) -> None:
    """What the job did, in words."""
    from index.words import counted

    seconds = report.seconds
    screen.say(
        f"{counted(report.clips_written, 'clip')} of {counted(report.videos_written, 'video')} written, "
        f"{report.clips_skipped} stored already, {counted(report.videos_updated, 'video')} updated, "
        f"{len(report.refused)} refused (encoder {encoder_id})"
    )
    if report.clips_blank:
        screen.warn(
            f"{counted(report.clips_blank, 'clip')} without a picture (black, one colour, or a still frame): stored, "
            "and left out of searches and verdicts"
        )
    if report.clips_written:
        screen.say(f"{seconds['total']:.1f} s, {report.where_time_goes()}")
    for ids in report.same_content:
        screen.warn(
            f"{', '.join(ids)} are the same file: each has a vote and is a hit of its own; if one is a mistake, "
            "remove it with `semiome remove --video ID`"
        )
    for title, refusals in (("Salvaged up to the damage", report.salvaged), ("Refused", report.refused)):
        if refusals:
            rows = [(refusal.video_id, refusal.file_name, refusal.reason) for refusal in refusals]
            screen.table(title, _COLUMNS, rows)


_COLUMNS = ("video", "file", "reason")


def _show_forecast(forecast: DryRun, screen: Screen) -> None:
    screen.say(
        f"{forecast.clips} clips of {forecast.videos} videos, {forecast.hours:.2f} hours, "
        f"{forecast.clips_stored} stored already; "
        f"about {forecast.store_bytes / 2**20:.1f} MiB of store"
    )
    if forecast.clips:
        least, most = map(duration, forecast.seconds_between)
        between = f" ({least} to {most})" if least != most else ""
        rate = f"{forecast.clips_per_s:.2f} clips/s, the median of some batches"
        screen.say(f"about {duration(forecast.seconds)}{between} at {rate}")
    if forecast.refused:
        rows = [(refusal.video_id, refusal.file_name, refusal.reason) for refusal in forecast.refused]
        screen.table("Would be refused", _COLUMNS, rows)


def _write_refused(report: EncodeReport, manifest: Manifest, workspace: Workspace) -> Path | None:
    """The refused videos as a manifest with reasons, in this run's folder; None when there are none."""
    from encoder.job.reading import ERASED
    from encoder.manifest import write_manifest

    # An erased patient is not named again, not even as refused.
    reasons = {refusal.video_id: refusal.reason for refusal in report.refused if refusal.reason != ERASED}
    if not reasons:
        return None
    path = workspace.new_run("encode") / "refused.csv"
    write_manifest(path, [(row, reasons[row.video_id]) for row in manifest.rows if row.video_id in reasons])
    return path
