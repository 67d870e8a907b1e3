"""`semiome previews`: small copies of videos for the review page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    LeastSandboxOption,
    MediaRootOption,
    WorkspaceOption,
    ask_for_sandbox,
)


def previews(
    manifest: Annotated[Path, typer.Argument(help="CSV that names the videos.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    media_root: MediaRootOption = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Videos at once; by default one a core.")] = None,
    least_sandbox: LeastSandboxOption = "limits",
    as_json: JsonOption = False,
) -> None:
    """Make what the review page shows of stored videos: a small film without sound, and thumbnails.

    What is there is not made again. It is kept in the workspace and erased with the patient.
    """
    from encoder.manifest import read_manifest
    from encoder.previews.library import make_previews
    from index.processors import usable_cores
    from index.workspace import Workspace

    ask_for_sandbox(least_sandbox)
    screen = Screen(as_json=as_json)
    with screen.progress("Making previews") as progress:
        made = make_previews(
            read_manifest(manifest, media_root, None), Workspace.at(address), decoders or usable_cores(), progress
        )

    def show() -> None:
        screen.say(f"{len(made.made)} previews made, {len(made.there)} were there")
        for video_id, reason in made.refused.items():
            screen.say(f"no preview of {video_id}: {reason}")

    screen.result(asdict(made), show)
    if made.refused:
        raise typer.Exit(3)
