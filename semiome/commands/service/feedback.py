"""`semiome feedback`: what people have said on the review page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, MediaRootOption, WorkspaceOption

if TYPE_CHECKING:
    from index.feedback.statement import Feedback

app = typer.Typer(help="What people have said of videos: look at it, take it elsewhere.", no_args_is_help=True)


@app.command("list")
def list_(address: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """All that was said, oldest first, and the labels that follow from it."""
    from index.feedback.labels import labels_of
    from index.feedback.store import FeedbackStore
    from index.tables.store import Store
    from index.words import counted
    from index.workspace import Workspace

    workspace = Workspace.at(address)
    said = FeedbackStore(workspace).all()
    weighed = labels_of(said, Store(workspace).videos())
    screen = Screen(as_json=as_json)
    rows = [
        (
            *(one.at[:19], one.author, one.video_id, (one.relevance or one.event).replace("_", " ")),
            *(one.query_video_id or _stretch(one), one.label),
            *(", ".join(one.semiology), one.note),
        )
        for one in said
    ]

    def show() -> None:
        screen.table("What was said", ("at", "by", "video", "is", "to or at", "label", "signs", "note"), rows)
        screen.say(
            f"{counted(len(weighed.labels), 'video')} labelled by people, {len(weighed.disputed)} on which they do not "
            f"agree, {len(weighed.alone)} on which one alone contradicts the stored label"
        )
        for author, count in weighed.contradicts.items():
            screen.say(f"{author} contradicts {counted(count, 'stored label')}")

    screen.result({"feedback": [asdict(one) for one in said], **asdict(weighed)}, show)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write events.tsv with HED tags (and events.json), and label-studio.json."""
    from index.feedback.export import EVENTS_HEAD, event_lines, events_sidecar, label_studio_task
    from index.feedback.store import FeedbackStore
    from index.files.durable import write_atomically, write_text_atomically
    from index.files.locks import make_folder
    from index.tables.store import Store
    from index.workspace import Workspace, classes_of

    workspace = Workspace.at(address)
    store, videos, count = FeedbackStore(workspace), Store(workspace).videos(), 0

    def write_events(path: Path) -> None:
        nonlocal count
        with path.open("w", encoding="utf-8") as out:
            out.write(EVENTS_HEAD)
            for one in store.each():
                count += 1
                out.writelines(event_lines([one], videos))

    def write_tasks(path: Path) -> None:
        before = "[\n"
        with path.open("w", encoding="utf-8") as out:
            for video_id in store.video_ids():
                if task := label_studio_task(video_id, store.each([video_id]), videos):
                    out.write(before + json.dumps(task))
                    before = ",\n"
            out.write("[]\n" if before == "[\n" else "\n]\n")

    make_folder(folder)
    write_atomically(folder / "events.tsv", write_events)
    write_text_atomically(folder / "events.json", json.dumps(events_sidecar(classes_of(workspace)), indent=2) + "\n")
    write_atomically(folder / "label-studio.json", write_tasks)
    screen = Screen(as_json=as_json)
    screen.result({"feedback": count}, lambda: screen.say(f"{count} pieces of feedback written to {folder}"))


@app.command()
def rows(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the videos that were looked at.")],
    to: Annotated[Path, typer.Option(help="Manifest to write; it must not exist.")],
    lead: Annotated[float, typer.Option(help="Seconds of each row before the seizure.")] = 10.0,
    tail: Annotated[float, typer.Option(help="Seconds of each row after the seizure.")] = 20.0,
    media_root: MediaRootOption = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write a manifest of the events that were saved: a row for each seizure, and background for what is none.

    Encode it to have them in searches and in the next training. The exit status is 3 if events were left out.
    """
    from encoder.events.cuts import Choices
    from encoder.events.saved import rows_of_events
    from encoder.manifest import read_manifest, write_manifest
    from index.errors import InvalidInput
    from index.feedback.store import FeedbackStore
    from index.tables.store import Store
    from index.words import counted
    from index.workspace import Workspace, classes_of

    if to.exists():
        raise InvalidInput(f"{to.name} is there already: name another file with --to")
    workspace = Workspace.at(address)
    listed = read_manifest(manifest, media_root, classes_of(workspace))
    events, choices = FeedbackStore(workspace).each(), Choices(lead_s=lead, tail_s=tail)
    made = rows_of_events(events, listed, Store(workspace).videos(), choices)
    screen = Screen(as_json=as_json)
    if made.rows:
        write_manifest(to, [(row, "") for row in made.rows])
        if to.parent.resolve() != listed.folder:
            screen.note(f"the videos are not beside {to.name}: give --media-root {listed.folder} wherever you use it")
    for note in made.notes:
        screen.warn(note)

    def show() -> None:
        if made.left_out:
            left_out = [(one.place, one.reason) for one in made.left_out]
            screen.table(f"{counted(len(left_out), 'statement')} left out", ("event", "reason"), left_out)
        seizures = counted(len(made.rows) - made.background, "seizure")
        said = f"{seizures}, {counted(made.background, 'row')} of background"
        screen.say(f"{said}: {to}" if made.rows else "no events were saved that give a row: nothing was written")

    left_out = [asdict(one) for one in made.left_out]
    values = {"manifest": str(to) if made.rows else None, "rows": [row.video_id for row in made.rows]}
    screen.result({**values, "background": made.background, "left_out": left_out, "notes": made.notes}, show)
    if made.left_out:
        raise typer.Exit(3)


def _stretch(one: Feedback) -> str:
    return f"{one.start_s:.12g} to {one.end_s:.12g} s" if one.event else ""
