"""`semiome audit`: who read what."""

from __future__ import annotations

from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

app = typer.Typer(help="The audit log: who read or was refused what.", no_args_is_help=True)


@app.command()
def verify(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    noted: Annotated[str, typer.Option(help="Hash that an earlier check gave: it must still be there.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check that no line was changed, dropped, inserted or moved; if one was, name it and exit with status 4."""
    from index.workspace import Workspace
    from service.audit.trail import verify as check

    verified = check(Workspace.at(address), noted)
    screen = Screen(as_json=as_json)
    screen.result(
        {"lines": verified.lines, "last": verified.last},
        lambda: screen.say(
            f"{verified.lines} lines, all as they were written. Note {verified.last} elsewhere: with --noted it shows "
            "later that nothing was cut off the end."
        ),
    )


@app.command()
def report(
    patient: Annotated[str, typer.Option(help="The manifest's patient_id.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Who read something of one patient, and who was refused."""
    from index.workspace import Workspace
    from service.audit.trail import of_patient
    from service.audit.trail import verify as check

    workspace = Workspace.at(address)
    check(workspace)
    lines = of_patient(workspace, patient)
    screen = Screen(as_json=as_json)
    shown = ("at", "caller", "method", "code", "generation", "request_id")
    rows = [tuple(line[name] for name in shown) for line in lines]
    screen.result(
        {"accesses": [{name: line[name] for name in (*shown, "model")} for line in lines]},
        lambda: screen.table(f"{len(rows)} accesses", shown, rows),
    )
