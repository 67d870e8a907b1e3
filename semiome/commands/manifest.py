"""`semiome manifest`: check one before anything is encoded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from semiome.commands.options import JsonOption, MediaRootOption
from semiome.console import Screen

app = typer.Typer(help="The CSV that lists a cohort's videos.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `check` a command of its own."""


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="CSV, one row a video.")],
    media_root: MediaRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a manifest and say everything that is wrong with it, or what it holds."""
    from encoder.identity import doubtful_ids
    from encoder.manifest import read_manifest
    from index.errors import VideoRefused

    screen = Screen(as_json=as_json)
    found = read_manifest(manifest, media_root)
    missing = []
    for row in found.rows:
        try:
            found.path_of(row)
        except VideoRefused as refused:
            missing.append({"video_id": row.video_id, "file_name": row.file_name, "reason": str(refused)})
    doubtful = doubtful_ids(found, {})
    labels = Counter(row.label or "unlabelled" for row in found.rows)
    patients = len({row.patient_id for row in found.rows})

    def show() -> None:
        screen.say(
            f"{len(found.rows)} videos of {patients} patients; " + ", ".join(f"{n} {k}" for k, n in labels.items())
        )
        if missing:
            screen.table("Files that can't be used", ("video", "file", "reason"), [tuple(m.values()) for m in missing])
        for line in doubtful:
            screen.warn(f"ids that differ only as misspellings do: {line}")

    values = {
        "videos": len(found.rows),
        "patients": patients,
        "labels": dict(labels),
        "refused": missing,
        "doubtful": doubtful,
    }
    screen.result(values, show)
    if missing:
        raise typer.Exit(3)
