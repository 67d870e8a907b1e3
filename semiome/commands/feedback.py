"""`semiome feedback`: what people have said on the review page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen

app = typer.Typer(help="What people have said of videos: look at it, take it elsewhere.", no_args_is_help=True)


@app.command("list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """All that was said, oldest first, and the labels that follow from it."""
    from index.feedback import FeedbackStore, newest_labels
    from index.workspace import Workspace

    said = FeedbackStore(Workspace.at(workspace)).all()
    labels, disputed = newest_labels(said)
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
        screen.say(f"{len(labels)} videos labelled by people, {len(disputed)} on which they do not agree")

    screen.result({"feedback": [asdict(one) for one in said], "labels": labels, "disputed": disputed}, show)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write events.tsv with HED tags (and events.json), and label-studio.json."""
    from index.feedback import FeedbackStore
    from index.feedback_export import events_sidecar, events_tsv, label_studio
    from index.files import write_text_atomically
    from index.store import Store
    from index.workspace import Workspace

    place = Workspace.at(workspace)
    said, videos = FeedbackStore(place).all(), Store(place).videos()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("events.tsv", events_tsv(said, videos)),
        ("events.json", json.dumps(events_sidecar(), indent=2) + "\n"),
        ("label-studio.json", json.dumps(label_studio(said, videos), indent=2) + "\n"),
    ):
        write_text_atomically(folder / name, text)
    screen = Screen(as_json=as_json)
    screen.result({"feedback": len(said)}, lambda: screen.say(f"{len(said)} pieces of feedback written to {folder}"))
