"""`semiome beds`: what part of each video an encoder would look at, for a person to check before encoding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, DeviceOption, JsonOption, MediaRootOption, WorkspaceOption


def beds(
    manifest: Annotated[Path, typer.Argument(help="CSV, one row a video; files lie in its folder or below.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[str | None, typer.Option(help="Encoder id; by default the one in use.")] = None,
    device: DeviceOption = "cpu",
    media_root: MediaRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the bed in the first picture of every video, and draw contact sheets.

    The boxes go into `beds.csv`, a manifest with them as fixed crops: correct what is wrong in it, and encode it.
    Exits with status 3 if some videos would be refused.
    """
    from encoder.job.bed_survey import survey, write_survey
    from encoder.manifest import read_manifest
    from encoder.model.folder import current_encoder
    from index.processors import usable_cores
    from index.tables.store import Store
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace.at(address)
    rows = read_manifest(manifest, media_root, None)
    chosen = current_encoder(workspace.encoders, encoder)
    with screen.progress("Looking for beds") as progress:
        surveyed = survey(rows, chosen, Store(workspace), max(usable_cores() // 2, 1), progress, device)
    boxes, *sheets = write_survey(surveyed, workspace.new_run("beds"))
    counts = Counter((one.row.camera, one.kind) for one in surveyed)
    refused = [(one.row.video_id, one.row.file_name, one.reason) for one in surveyed if one.reason]

    def show() -> None:
        table = [(camera, kind, count) for (camera, kind), count in sorted(counts.items())]
        screen.table("What would be used", ("camera", "crop", "videos"), table)
        if refused:
            screen.table("Would be refused", ("video", "file", "reason"), refused)
        screen.say(f"look at {', '.join(map(str, sheets))}")
        screen.say(f"then, with what you corrected: semiome encode {boxes} --media-root {rows.folder}")

    screen.result(
        {
            "encoder_id": chosen.encoder_id,
            "videos": [
                {"video_id": one.row.video_id, "crop": str(one.crop or ""), "kind": one.kind, "reason": one.reason}
                for one in surveyed
            ],
            "boxes_csv": str(boxes),
            "sheets": [str(sheet) for sheet in sheets],
        },
        show,
    )
    raise typer.Exit(3 if refused else 0)
