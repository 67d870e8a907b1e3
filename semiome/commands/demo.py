"""`semiome demo`: Semiome from end to end on a simulated cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import JsonOption


def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where to leave everything.")] = Path("demo"),
    patients: Annotated[int, typer.Option(min=6, help="Simulated patients.")] = 20,
    videos: Annotated[int, typer.Option(min=2, help="Videos of each.")] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="Pretraining epochs.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Decides the cohort and the training.")] = 0,
    page: Annotated[
        bool | None,
        typer.Option("--page/--no-page", help="Serve the review page at the end; by default on a terminal."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate a cohort, pretrain, encode, train the head, build the index, serve, ask. A few minutes on two cores.

    It ends with the review page of what it made.
    """
    import sys

    from semiome.demo import DemoConfig, run, show_page

    screen = Screen(as_json=as_json)
    result = run(workspace, DemoConfig(patients=patients, videos=videos, epochs=epochs, seed=seed), screen)
    screen.result(result.values(), lambda: result.show(screen))
    wait = page if page is not None else open_page or (sys.stdout.isatty() and not as_json)
    show_page(workspace, screen, wait=wait, open_it=open_page)
