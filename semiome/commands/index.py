"""`semiome index`: build generations offline, publish, list."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen

app = typer.Typer(help="The index: build it offline, publish it, list what there is.", no_args_is_help=True)


@app.command()
def build(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    publish: Annotated[bool, typer.Option(help="Let servers take it up at once.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Build a generation from everything stored for the encoder in use."""
    from index.errors import StateError
    from index.generation import build_generation
    from index.generation import publish as make_current
    from index.store import Store
    from index.workspace import Workspace, current

    place = Workspace(workspace)
    encoder_id = current(place.encoders)
    if encoder_id is None:
        raise StateError("this workspace has no encoder yet: run `semiome encode` first")
    screen = Screen(as_json=as_json)
    with screen.progress("Building and measuring recall") as progress:
        manifest = build_generation(Store(place).clips(encoder_id), place.generations, progress)
    if publish:
        make_current(place.generations, manifest.generation)
    screen.result(
        {**asdict(manifest), "published": publish},
        lambda: screen.say(
            f"generation {manifest.generation}{' published' if publish else ' built, not published'}: {manifest.clips} "
            f"clips of {manifest.videos} videos of {manifest.patients} patients, {manifest.index} index, recall@10 "
            f"without the own patient {manifest.recall:.3f}"
        ),
    )


@app.command("list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Generations of this workspace; the one that serves is marked."""
    from index.generation import list_generations, read_manifest
    from index.workspace import Workspace, current

    folder = Workspace(workspace).generations
    serving = current(folder)
    manifests = [read_manifest(folder, name) for name in list_generations(folder)]
    screen = Screen(as_json=as_json)
    rows = [
        (m.generation, m.encoder_id, m.clips, m.built_at, "serves" if m.generation == serving else "")
        for m in manifests
    ]
    screen.result(
        {"generations": [asdict(m) for m in manifests], "serving": serving},
        lambda: screen.table("Generations", ("generation", "encoder", "clips", "built", ""), rows),
    )
