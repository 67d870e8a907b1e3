"""`semiome manifest`: check one before anything is encoded, or make a first one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from index.words import counted
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, MediaRootOption, WorkspaceOption

app = typer.Typer(help="The CSV that lists a cohort's videos.", no_args_is_help=True)


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="CSV, one row a video.")],
    media_root: MediaRootOption = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read a manifest, look into its files, and report everything that is wrong, or what it holds.

    Timestamps are read, pictures are not decoded: damage within a video may show only when it is encoded. The exit
    status is 3 if some videos would be refused.
    """
    from encoder.job.identity import doubtful_ids
    from encoder.job.preflight import look_into
    from encoder.manifest import read_manifest
    from index.processors import usable_cores
    from index.workspace import Workspace, classes_of

    screen = Screen(as_json=as_json)
    found = read_manifest(manifest, media_root, classes_of(Workspace.at(address)))
    with screen.progress("Looking at videos") as progress:
        looked = look_into(found, max(usable_cores() // 2, 1), progress)
    refused = [
        {"video_id": one.row.video_id, "file_name": one.row.file_name, "reason": one.reason}
        for one in looked
        if one.reason
    ]
    doubtful = doubtful_ids(found, {})
    labels = Counter(row.label or "unlabelled" for row in found.rows)
    patients = len({row.patient_id for row in found.rows})
    clips, seconds = sum(one.clips for one in looked), sum(one.seconds for one in looked)
    metadata = sorted({name for row in found.rows for name, _ in row.metadata})

    def show() -> None:
        screen.say(
            f"{counted(len(found.rows), 'video')} of {counted(patients, 'patient')}; "
            + ", ".join(f"{n} {k}" for k, n in labels.items())
        )
        screen.say(f"{counted(clips, 'clip')}, {seconds / 3600:.2f} hours")
        if refused:
            screen.table("Files that can't be used", ("video", "file", "reason"), [tuple(r.values()) for r in refused])
        for line in doubtful:
            screen.warn(f"ids that differ only as misspellings do: {line}")
        if metadata:
            screen.note(
                f"kept as metadata, and shown to everyone who may see the videos: {', '.join(metadata)}; make sure "
                "that nothing there tells who a patient is"
            )

    values = {
        "videos": len(found.rows),
        "patients": patients,
        "labels": dict(labels),
        "clips": clips,
        "hours": round(seconds / 3600, 4),
        "refused": refused,
        "doubtful": doubtful,
        "metadata": metadata,
    }
    screen.result(values, show)
    if refused:
        raise typer.Exit(3)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Folder with videos, in it or in folders below.")],
    to: Annotated[Path | None, typer.Option(help="The CSV to write; default: manifest.csv in that folder.")] = None,
    patient: Annotated[
        str,
        typer.Option(
            help="Regular expression that finds the patient's id in a file's path below the folder: its first group. "
            "By default BIDS' sub-..., the file's folder, or its name up to a date or underscore."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Write a first manifest from the names of videos, to be looked over by a person."""
    from encoder.manifest import write_manifest
    from encoder.manifest_draft import first_manifest
    from index.errors import InvalidInput

    screen = Screen(as_json=as_json)
    target = to or folder / "manifest.csv"
    if target.exists():
        raise InvalidInput(f"{target.name} is there already: name another file with --to")
    draft = first_manifest(folder, patient)
    write_manifest(target, [(row, "") for row in draft.rows])
    patients = Counter(row.patient_id for row in draft.rows)
    dated = sum(bool(row.recorded_at) for row in draft.rows)

    def show() -> None:
        screen.say(
            f"{counted(len(draft.rows), 'video')} of {counted(len(patients), 'patient')}, {dated} with a date: {target}"
        )
        rows = [(name, count) for name, count in sorted(patients.items())[:20]]
        screen.table("Patients, as the names give them", ("patient", "videos"), rows)
        if draft.left_out:
            screen.table("Left out", ("file", "reason"), draft.left_out)

    screen.result(
        {
            "manifest": str(target),
            "videos": len(draft.rows),
            "patients": dict(patients),
            "dated": dated,
            "left_out": [{"file_name": name, "reason": reason} for name, reason in draft.left_out],
        },
        show,
    )
    screen.note(
        "look it over before you encode: each patient needs one id, a pseudonym and never a name, and labels are "
        f"missing. Then: semiome manifest check {target}" + (f" --media-root {folder}" if to else "")
    )
