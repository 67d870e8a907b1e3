"""`semiome classes`: what seizures are told apart into."""

from __future__ import annotations

from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def classes(
    names: Annotated[list[str] | None, typer.Argument(help="2 to 10 names; without any, show those in use.")] = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    positive: Annotated[
        str | None,
        typer.Option(help="The one that F1 and curves are of; by default the second of two, and none of more."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set the classes of a workspace; TLE and exTLE, as in the paper, where nothing else is set.

    Every label is one of them: in manifests, on the review page and in filters. A head tells apart those it was trained
    with, so train one again after a change.
    """
    from dataclasses import asdict

    from index.errors import InvalidInput
    from index.workspace import Workspace, classes_of, current

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    if names:
        from encoder.head import load_head
        from index.custody.classes import set_classes
        from index.semiology import Classes
        from index.tables.store import Store

        set_classes(Store(workspace), Classes(tuple(names), positive))
        if current(workspace.heads) and set(load_head(workspace.heads).card.class_names) != set(names):
            screen.note("train a head again with `semiome head train`: until then there are no verdicts")
    elif positive is not None:
        raise InvalidInput("expected the names of all classes beside --positive")
    found = classes_of(workspace)
    singled_out = "" if found.positive is None else f"; positive: {found.positive}"
    screen.result(asdict(found), lambda: screen.say(f"{', '.join(found.names)}{singled_out}"))
