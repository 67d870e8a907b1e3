"""`semiome index`: build generations offline, look at them, and say which one serves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from index.words import counted
from semiome.console import Screen
from semiome.options import (
    DEFAULT_WORKSPACE,
    CaOption,
    CertificateOption,
    EncoderOption,
    JsonOption,
    KeyOption,
    TokenOption,
    WorkspaceOption,
    encoder_in_use,
    warn_of_another_account,
)

if TYPE_CHECKING:
    from index.vectors.generation import GenerationManifest
    from index.workspace import Workspace
    from service.calling.connection import Connection
    from service.rollout import Rollout

app = typer.Typer(help="The index: build it offline, publish it, go back, clear away.", no_args_is_help=True)

_RECALL = 0.95
_CANARIES, _TAKEN_UP_S = 64, 120.0


@app.command()
def build(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    publish: Annotated[bool, typer.Option(help="Make it the one that servers use, at once.")] = True,
    recall: Annotated[float, typer.Option(help="Share of the true nearest 10 that it has to find.")] = _RECALL,
    kind: Annotated[
        str | None,
        typer.Option(
            help="flat, ivf-rabitq or ivf-sq8; default: flat up to 20,000 clips, then the first to reach --recall."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish even if recall is below --recall.")] = False,
    map_by: Annotated[str, typer.Option("--map", help="How the review page's map is made: pca or umap.")] = "pca",
    encoder: EncoderOption = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="Wait until this server has loaded the new index, compare its answers before and after, and roll "
            "back if they differ. May be given more than once.",
        ),
    ] = None,
    least_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the hits before that --server must still give.")
    ] = 0.9,
    ca: CaOption = None,
    token_file: TokenOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a generation from everything stored for the encoder in use, or for another one.

    It gives way to whatever else the machine does, such as a server that answers searches. For cron: with --server it
    exits with status 4 if a server does not take the index up, or answers differently; the previous one serves again.
    """
    import os

    from index.errors import InvalidInput
    from index.tables.store import Store
    from index.vectors.generation import build_generation
    from index.vectors.publication import fetch, release
    from index.workspace import Workspace

    if server and not publish:
        raise InvalidInput("--server needs --publish: a server picks up what is published")
    os.nice(19)
    workspace = Workspace.at(address)
    encoder_id = encoder_in_use(workspace, encoder)
    screen = Screen(as_json=as_json)
    warn_of_another_account(workspace, screen)
    fetch(workspace)
    with screen.progress("Building and measuring recall") as progress:
        stored = Store(workspace).clips(encoder_id)
        manifest = build_generation(
            stored, workspace.generations, progress, kind=kind, recall_target=recall, map_by=map_by
        )
    rolled_out: Rollout | None = None
    if server:
        from service.calling.connection import Connection

        connections = [
            Connection(one, ca=ca, certificate=certificate, key=key, token_file=token_file) for one in server
        ]
        with screen.progress("Rolling out"):
            rolled_out = _rolled_out(workspace, manifest, connections, least_overlap, force=force)
    else:
        release(workspace, manifest.generation, publish_it=publish, force=force)
    low, high = manifest.recall_interval
    for other, found in manifest.tried.items():
        screen.note(f"{other} finds {found:.3f}, below {manifest.recall_target}: {manifest.index} was taken")
    said = f"; {rolled_out.workers} workers serve it" if rolled_out else ""
    if rolled_out and rolled_out.overlap is not None:
        said += f" and find {rolled_out.overlap:.1%} of what was found before"
    screen.result(
        {**asdict(manifest), "published": publish, "rollout": asdict(rolled_out) if rolled_out else None},
        lambda: screen.say(
            f"generation {manifest.generation}{' published' if publish else ' built, not published'}: "
            f"{counted(manifest.clips, 'clip')} of {counted(manifest.videos, 'video')} of "
            f"{counted(manifest.patients, 'patient')}, {manifest.index} index, recall@10 excluding "
            f"the query's own patient {manifest.recall:.3f} ({low:.3f} to {high:.3f}){said}"
        ),
    )


@app.command("list")
def list_(address: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Generations of this workspace; the one that serves is marked."""
    from index.vectors.generation import list_generations, read_manifest

    workspace, serving, before = _places(address)
    folder = workspace.generations
    manifests = [read_manifest(folder, name) for name in list_generations(folder)]
    screen = Screen(as_json=as_json)
    marks = {before: "served before", serving: "serves"}
    rows = [
        (m.generation, m.encoder_id, m.clips, m.index, f"{m.recall:.3f}", m.built_at, marks.get(m.generation, ""))
        for m in manifests
    ]
    screen.result(
        {"generations": [asdict(m) for m in manifests], "serving": serving, "served_before": before},
        lambda: screen.table(
            "Generations", ("generation", "encoder", "clips", "index", "recall@10", "built", ""), rows
        ),
    )


@app.command()
def verify(
    generation: Annotated[str | None, typer.Argument(help="By default the one that serves.")] = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check every digest of a generation, and its rows against the store."""
    from index.tables.store import Store
    from index.vectors.generation import load_generation
    from index.vectors.publication import fetch
    from index.workspace import Workspace

    workspace = Workspace.at(address)
    fetch(workspace, everything=True)
    loaded = load_generation(workspace.generations, generation)
    manifest = loaded.manifest
    changes = Store(workspace).changes(manifest.encoder_id, loaded.clips, manifest.table_version)
    screen = Screen(as_json=as_json)
    new, gone = len(changes.added.clips), len(changes.gone)
    screen.result(
        {"generation": manifest.generation, "clips": manifest.clips, "newer_clips": new, "gone_clips": gone},
        lambda: screen.say(
            f"generation {manifest.generation} is whole: {manifest.clips} clips. Since then {new} were stored or "
            f"changed, which a search compares one by one, and {gone} are gone or changed, which none finds."
        ),
    )


@app.command()
def activate(
    generation: Annotated[str, typer.Argument(help="See `semiome index list`.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    force: Annotated[bool, typer.Option("--force", help="Even if its recall is below its target.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a generation serve; its files are checked first."""
    from index.vectors.generation import check_publishable, load_generation
    from index.vectors.publication import publish

    workspace, _, _ = _places(address)
    folder = workspace.generations
    check_publishable(folder, generation, force=force)
    load_generation(folder, generation)
    publish(workspace, generation, force=force)
    _say_who_serves(folder, Screen(as_json=as_json))


@app.command()
def rollback(address: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Let the generation that served before serve again; a second time undoes it."""
    from index.vectors.generation import load_generation
    from index.vectors.publication import roll_back

    workspace, _, before = _places(address)
    folder = workspace.generations
    if before is not None:
        load_generation(folder, before)
    roll_back(workspace)
    _say_who_serves(folder, Screen(as_json=as_json))


@app.command()
def gc(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    keep: Annotated[int, typer.Option(min=0, help="Number of newest generations to keep, besides those in use.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Remove old generations: not the one that serves, nor the one before it."""
    from index.vectors.publication import collect

    workspace, _, _ = _places(address)
    removed = collect(workspace, keep)
    screen = Screen(as_json=as_json)
    screen.result(
        {"removed": removed}, lambda: screen.say(f"removed {', '.join(removed)}" if removed else "nothing to remove")
    )


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Encoder id.")],
    second: Annotated[str, typer.Argument(help="Encoder id.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each clip.")] = 10,
    queries: Annotated[int, typer.Option(min=1, help="Largest number of clips to compare, drawn at random.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Do two encoders find the same neighbours? Asked of the clips that both have, without their own patients."""
    from index.search.compare import compare as overlap_of
    from index.tables.store import Store
    from index.workspace import Workspace

    store = Store(Workspace.at(address))
    overlap = overlap_of(store.clips(first), store.clips(second), k, queries)
    screen = Screen(as_json=as_json)
    interval = (
        f"{overlap.interval[0]:.1%} to {overlap.interval[1]:.1%}" if overlap.interval else "too few patients to tell"
    )
    screen.result(
        asdict(overlap),
        lambda: screen.say(
            f"of the {k} nearest clips of other patients both encoders find {overlap.overlap:.1%} alike "
            f"({interval}; {overlap.by_chance:.1%} by chance), asked of "
            f"{overlap.queries} clips of {overlap.patients} patients; both have {overlap.clips} clips, "
            f"{first} alone {overlap.only_first}, {second} alone {overlap.only_second}"
        ),
    )


def _rolled_out(
    workspace: Workspace,
    manifest: GenerationManifest,
    connections: list[Connection],
    least_overlap: float,
    *,
    force: bool,
) -> Rollout:
    """Publish a generation to servers, or leave everything as it was."""
    from contextlib import ExitStack

    import numpy as np

    from index.vectors.generation import read_clips
    from index.vectors.publication import publish, release
    from index.workspace import current
    from service.client import Client
    from service.rollout import roll_out

    before = current(workspace.generations)
    release(workspace, manifest.generation, publish_it=False)
    ids = read_clips(workspace.generations, manifest.generation).clip_ids
    chosen = np.random.default_rng(0).choice(len(ids), min(_CANARIES, len(ids)), replace=False)
    with ExitStack() as stack:
        return roll_out(
            [stack.enter_context(Client(one)) for one in connections],
            manifest.generation,
            [ids[int(row)].as_py() for row in chosen],
            lambda: publish(workspace, manifest.generation, force=force),
            lambda: publish(workspace, before, force=True) if before else None,
            least_overlap=least_overlap,
            timeout_s=_TAKEN_UP_S,
        )


def _places(address: str) -> tuple[Workspace, str | None, str | None]:
    """The workspace with all its generations here, the one that serves, and the one before."""
    from index.vectors.publication import fetch
    from index.workspace import Workspace, current, previous

    workspace = Workspace.at(address)
    fetch(workspace, everything=True)
    return workspace, current(workspace.generations), previous(workspace.generations)


def _say_who_serves(folder: Path, screen: Screen) -> None:
    from index.vectors.generation import read_manifest
    from index.workspace import current

    serving: GenerationManifest = read_manifest(folder, current(folder) or "")
    screen.result(
        asdict(serving),
        lambda: screen.say(
            f"generation {serving.generation} serves: {serving.clips} clips of encoder {serving.encoder_id}; "
            "running servers switch to it within a second"
        ),
    )
