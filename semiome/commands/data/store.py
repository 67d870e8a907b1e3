"""`semiome store`: keep it small, take from it, bring to it, back it up."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from index.words import counted
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, EncoderOption, JsonOption, WorkspaceOption, encoder_in_use

if TYPE_CHECKING:
    from index.tables.compaction import TableFacts
    from index.tables.exchange import Moved

app = typer.Typer(help="The store: compact, export, import, back up, restore.", no_args_is_help=True)


@app.command()
def compact(
    keep_hours: Annotated[
        float,
        typer.Option(min=0, help="Keep versions younger than this: a server may be reading them."),
    ] = 1.0,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Merge small files and remove old versions, as every `encode` does at its end; fit for cron."""
    from index.tables.compaction import compact as merge
    from index.tables.compaction import table_facts
    from index.tables.store import Store
    from index.workspace import Workspace

    store = Store(Workspace.at(address))
    before = [table_facts(store, name) for name in store.table_names()]
    with store.writing() as still_mine:
        merge(store, still_mine, keep_versions=timedelta(hours=keep_hours))
    after = [table_facts(store, name) for name in store.table_names()]
    screen = Screen(as_json=as_json)
    rows = [
        (new.name, new.rows, f"{old.fragments} -> {new.fragments}", f"{old.versions} -> {new.versions}", _mb(old, new))
        for old, new in zip(before, after, strict=True)
    ]
    screen.result(
        {"before": [asdict(facts) for facts in before], "after": [asdict(facts) for facts in after]},
        lambda: screen.table("Tables", ("table", "rows", "files", "versions", "MB"), rows),
    )


def _mb(old: TableFacts, new: TableFacts) -> str:
    return f"{old.size_bytes / 1e6:.1f} -> {new.size_bytes / 1e6:.1f}"


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New folder to write.")],
    kind: Annotated[
        Literal["parquet", "projector"], typer.Option("--as", help="Everything, or a sample to look at in TensorBoard.")
    ] = "parquet",
    clips: Annotated[int, typer.Option(min=1, help="Largest number of clips to write with projector.")] = 10_000,
    encoder: EncoderOption = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write an encoder's clips, vectors and videos into a folder. It holds pseudonyms: treat it as patients' data."""
    from index.tables.exchange import export_parquet, export_projector
    from index.tables.store import Store
    from index.workspace import Workspace

    workspace = Workspace.at(address)
    encoder_id = encoder_in_use(workspace, encoder)
    if kind == "parquet":
        moved = export_parquet(Store(workspace), encoder_id, folder)
    else:
        moved = export_projector(Store(workspace), encoder_id, folder, clips)
    _say(moved, "written", Screen(as_json=as_json))


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="What `semiome store export` wrote.")],
    distinct_ids: Annotated[
        bool, typer.Option("--distinct-ids", help="Treat ids that look like misspellings of each other as different.")
    ] = False,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Take in clips and videos that another workspace exported; what is here already is not written again."""
    from index.tables.exchange import import_parquet
    from index.tables.store import Store
    from index.workspace import Workspace

    moved = import_parquet(Store(Workspace.at(address)), folder, distinct_ids=distinct_ids)
    _say(moved, "new or changed", Screen(as_json=as_json))


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="New folder to write.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Copy tables, models, key and the list of the erased; generations are built again. Guard it as the workspace."""
    from index.custody.backup import back_up
    from index.workspace import Workspace

    made = back_up(Workspace.at(address), folder)
    screen = Screen(as_json=as_json)
    screen.result(
        {**asdict(made), "digest": made.digest},
        lambda: screen.say(
            f"{sum(made.clips.values())} clips of {made.videos} videos in {len(made.digests)} files backed up. Its "
            f"digest is {made.digest}: note it elsewhere, and give it to `semiome store verify {folder} --noted DIGEST`"
        ),
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="What `semiome store backup` wrote.")],
    noted: Annotated[str, typer.Option(help="Digest that was printed when the backup was made.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check every file and every row of a backup, and with --noted that it is the one that was made."""
    from index.custody.backup import verify as check

    made = check(folder, noted)
    screen = Screen(as_json=as_json)
    screen.result(
        {**asdict(made), "digest": made.digest},
        lambda: screen.say(
            f"the backup of {made.made_at} is whole: {sum(made.clips.values())} clips of {made.videos} videos; digest "
            f"{made.digest}"
        ),
    )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `semiome store backup` wrote.")],
    erased: Annotated[
        Path | None,
        typer.Option(help="File `erased` of the lost workspace: the patients on it are not restored."),
    ] = None,
    noted: Annotated[str, typer.Option(help="Digest that was printed when the backup was made.")] = "",
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup back as a new workspace; then `semiome index build` makes its index."""
    from index.custody.backup import restore as bring_back
    from index.errors import InvalidInput
    from index.workspace import Workspace

    if erased is not None and not erased.is_file():
        raise InvalidInput("--erased names no file")
    screen = Screen(as_json=as_json)
    made, again = bring_back(folder, Workspace.at(address), erased, screen.note, noted)
    screen.result(
        {**asdict(made), "digest": made.digest, "erased_again": again},
        lambda: screen.say(
            f"restored the backup of {made.made_at}; {again} patients erased since then were left out. Now run "
            "`semiome index build`. Patients erased after the backup who are not on that list have been restored too."
        ),
    )


def _say(moved: Moved, what: str, screen: Screen) -> None:
    screen.result(
        asdict(moved),
        lambda: screen.say(
            f"{counted(moved.clips, 'clip')} {what}, of {counted(moved.videos, 'video')} of "
            f"{counted(moved.patients, 'patient')} "
            f"(encoder {moved.encoder_id})"
        ),
    )
