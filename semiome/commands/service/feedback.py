"""`semiome feedback`: what people have said on the review page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

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
            *(one.at[:19], one.author, one.video_id, one.relevance.replace("_", " "), one.query_video_id, one.label),
            *(", ".join(one.semiology), one.note),
        )
        for one in said
    ]

    def show() -> None:
        screen.table("What was said", ("at", "by", "video", "is", "to", "label", "signs", "note"), rows)
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
    from index.tables.store import Store
    from index.workspace import Workspace

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

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "events.tsv", write_events)
    write_text_atomically(folder / "events.json", json.dumps(events_sidecar(), indent=2) + "\n")
    write_atomically(folder / "label-studio.json", write_tasks)
    screen = Screen(as_json=as_json)
    screen.result({"feedback": count}, lambda: screen.say(f"{count} pieces of feedback written to {folder}"))
