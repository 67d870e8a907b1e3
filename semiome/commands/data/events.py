"""`semiome events`: lists of what happened when, to the rows of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from index.records import BACKGROUND
from index.words import counted
from semiome.console import Screen
from semiome.options import JsonOption, MediaRootOption

if TYPE_CHECKING:
    from encoder.events.cuts import MadeRows

app = typer.Typer(help="Annotation lists of long recordings.", no_args_is_help=True)
_SHOWN = 40


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Annotation lists: EDF+ or BDF+ files, BIDS events.tsv, or CSV and TSV tables."),
    ],
    recordings: Annotated[
        Path, typer.Option(help="CSV of the video files: file_name, patient_id, recorded_at with the time of day, ...")
    ],
    to: Annotated[Path, typer.Option(help="Manifest to write; it must not exist.")],
    mapping: Annotated[
        Path | None, typer.Option(help="TOML with your names of columns, events and labels; see examples/events.toml.")
    ] = None,
    patient: Annotated[str, typer.Option(help="Patient of all lists; default: what each list says.")] = "",
    begins: Annotated[
        str, typer.Option(help="When the EEG of the one list begins, ISO 8601, instead of what its header says.")
    ] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of times that name none, such as Europe/Berlin.")] = "",
    clock_ahead: Annotated[
        float, typer.Option(help="Seconds by which the clock of the lists is ahead of the video's; negative if behind.")
    ] = 0.0,
    lead: Annotated[float, typer.Option(help="Seconds of each row before the seizure.")] = 10.0,
    tail: Annotated[float, typer.Option(help="Seconds of each row after the seizure.")] = 20.0,
    length: Annotated[
        float | None, typer.Option(help="Seconds of a seizure whose end is not in the list; default: leave it out.")
    ] = None,
    background: Annotated[
        float, typer.Option(help="Rows of a minute per hour of recording, far from every event.")
    ] = 0.0,
    media_root: MediaRootOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is understood and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a manifest with a row for each seizure of annotation lists, in the files that show it.

    What is understood is shown first, and what is left out, line by line with the reason. The exit status is 3 if lines
    were left out.
    """
    from encoder.events.annotations import read_mapping
    from encoder.events.clock import read_moment, zone
    from encoder.events.cuts import Choices
    from encoder.events.readers import read_annotations
    from encoder.events.recordings import read_recordings
    from encoder.events.rows import make_rows
    from encoder.manifest import write_manifest
    from index.errors import InvalidInput

    screen = Screen(as_json=as_json)
    if to.exists() and not dry_run:
        raise InvalidInput(f"{to.name} is there already: name another file with --to")
    local = zone(timezone)
    choices = Choices(local, clock_ahead, lead, tail, length, background)
    try:
        began = read_moment(begins) if begins else None
    except ValueError as error:
        raise InvalidInput(f"--begins: {error}") from None
    if began is not None and not hasattr(began, "year"):
        raise InvalidInput("--begins needs a date too, such as 2024-03-01T22:15:00")
    annotations = read_annotations(files, read_mapping(mapping), patient, began)  # type: ignore[arg-type]
    with screen.progress("Looking at recordings") as progress:
        found = read_recordings(recordings, media_root, local, progress)
    if not found.files:
        raise InvalidInput("none of the recordings can be used: " + "; ".join(found.notes))
    made = make_rows(annotations, found.files, choices)
    made.notes[:0] = found.notes
    written = False
    if not as_json:
        _show(made, screen)
    if made.rows and not dry_run:
        if screen.can_ask() and not yes:
            written = typer.confirm(f"Write {counted(len(made.rows), 'row')} to {to}?", err=True)
        elif yes:
            written = True
        else:
            raise InvalidInput("nothing is written without a question that can be answered: give --yes, or --dry-run")
    if written:
        write_manifest(to, [(row, "") for row in made.rows])
        folder = (media_root or recordings.parent).resolve()
        if to.parent.resolve() != folder:
            screen.note(f"the videos are not beside {to.name}: give --media-root {folder} wherever you use it")
    values = {
        "manifest": str(to) if written else None,
        "rows": [
            {
                "video_id": row.video_id,
                "file_name": row.file_name,
                "patient_id": row.patient_id,
                "start_s": row.start_s,
                "end_s": row.end_s,
                "onset_s": row.onset_s,
                "seizure_end_s": row.seizure_end_s,
                "label": row.label,
                "semiology": list(row.semiology),
                "background": BACKGROUND in row.metadata,
            }
            for row in made.rows
        ],
        "left_out": [{"place": one.place, "reason": one.reason} for one in made.left_out],
        "notes": made.notes,
    }
    screen.result(
        values, lambda: screen.say(f"{counted(len(made.rows), 'row')}: {to}" if written else "nothing was written")
    )
    if made.left_out:
        raise typer.Exit(3)


def _show(made: MadeRows, screen: Screen) -> None:
    """What is understood and what is not, with the most frequent reasons first."""
    rows = [row for row in made.rows if BACKGROUND not in row.metadata]
    clocks = [
        (
            row.patient_id,
            row.file_name,
            *map(_clock, (row.start_s, row.onset_s, row.seizure_end_s, row.end_s)),
            row.label,
        )
        for row in rows[:_SHOWN]
    ]
    columns = ("patient", "file", "from", "onset", "seizure ends", "to", "label")
    title = f"{counted(len(rows), 'seizure')}, {counted(made.background, 'row')} of background"
    screen.table(title, columns, clocks)
    if len(rows) > _SHOWN:
        screen.note(f"and {len(rows) - _SHOWN} more; --json lists all")
    for note in made.notes:
        screen.warn(note)
    reasons: dict[str, list[str]] = {}
    for one in made.left_out:
        reasons.setdefault(one.reason, []).append(one.place)
    if reasons:
        lines = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
        shown = [(len(places), places[0], reason) for reason, places in lines[:_SHOWN]]
        screen.table(f"{counted(len(made.left_out), 'line')} left out", ("lines", "the first", "reason"), shown)
        if len(lines) > _SHOWN:
            screen.note(f"and {len(lines) - _SHOWN} more reasons; --json lists all")


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:06.3f}".rstrip("0").rstrip(".")
