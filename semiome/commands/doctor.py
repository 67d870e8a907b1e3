"""`semiome doctor`: is everything in this workspace as it should be?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen


def doctor(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what can be; what is torn is moved to quarantine/.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every row, version and index of a workspace; ends with 4 when something is damaged."""
    from index.doctor import DAMAGED, examine
    from index.workspace import Workspace

    findings = examine(Workspace.at(workspace), repair=repair)
    damaged = [finding for finding in findings if finding.state == DAMAGED and not finding.repaired]
    screen = Screen(as_json=as_json)
    rows = [(f.what, "repaired" if f.repaired else f.state, f.says) for f in findings]
    screen.result(
        {"healthy": not damaged, "findings": [asdict(finding) for finding in findings]},
        lambda: screen.table("healthy" if not damaged else "DAMAGED", ("what", "state", "found"), rows),
    )
    if damaged:
        raise typer.Exit(4)
