"""`semiome remove`: videos that were stored by mistake, without their patients."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, MediaRootOption, WorkspaceOption


def remove(
    video: Annotated[list[str] | None, typer.Option(help="Id of a stored video; repeat for more.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV whose videos are removed, as `encode` reads it.")] = None,
    media_root: MediaRootOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Remove videos that were stored by mistake: rows, vectors, previews and feedback.

    Their patients are not put on the list of the erased, so the same videos can be stored again. To remove all of a
    patient, with a receipt, use `semiome erase`.
    """
    from encoder.manifest import read_manifest
    from index.custody.removal import remove_videos
    from index.errors import InvalidInput, NotFound
    from index.tables.store import Store
    from index.words import counted
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace.at(address)
    if not video and manifest is None:
        raise InvalidInput("name videos with --video or --manifest")
    stored = Store(workspace).videos()
    rows_listed = read_manifest(manifest, media_root, None).rows if manifest else ()
    listed = [row for row in rows_listed if row.video_id in stored]
    if others := [row.video_id for row in listed if stored[row.video_id].patient_id != row.patient_id]:
        raise InvalidInput(
            f"stored for another patient than the manifest says: {', '.join(others[:5])}; nothing is removed"
        )
    wanted = list(dict.fromkeys([*(video or ()), *(row.video_id for row in listed)]))
    if not wanted:
        raise NotFound("none of this manifest's videos is stored")
    known = [stored[name] for name in wanted if name in stored]
    rows = [(one.video_id, one.patient_id, str(one.clip_count), one.recorded_at or "-") for one in known]
    if not as_json and known:
        screen.table("To remove", ("video", "patient", "clips", "recorded"), rows)
    if not yes:
        if not screen.can_ask():
            raise InvalidInput("expected --yes, since no question can be asked here")
        typer.confirm(f"Remove {counted(len(known), 'video')}?", abort=True)
    removed = remove_videos(workspace, wanted, (lambda step: None) if as_json else screen.say)
    screen.result(
        asdict(removed),
        lambda: screen.say(
            f"removed: {counted(removed.clips, 'clip')} of {counted(removed.videos, 'video')}, "
            f"{counted(removed.feedback, 'piece')} of feedback"
            + (f"; {counted(removed.patients, 'patient')} without any video left" if removed.patients else "")
        ),
    )
