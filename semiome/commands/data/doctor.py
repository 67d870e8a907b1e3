"""`semiome doctor`: is everything in this workspace as it should be?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from index.custody.doctor import Finding
    from index.workspace import Workspace


def doctor(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what can be; what is torn is moved to quarantine/.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every row, version and index of a workspace, and decode a video; exit status 4 if one is damaged."""
    from encoder.video.decoder import check_decoding
    from index.custody.doctor import DAMAGED, OK, WARNING, Finding, examine
    from index.errors import StateError
    from index.workspace import Workspace

    try:
        slow = "decord" not in check_decoding()
        decoding = Finding("decoding", OK, "a video is decoded here as it should be")
        if slow:
            decoding = Finding("decoding", WARNING, "decord can't be used: PyAV reads in its place")
    except StateError as error:
        decoding = Finding("decoding", DAMAGED, f"{error}; install Semiome again, with all its libraries in one place")
    workspace = Workspace.at(address)
    findings = [decoding, _decoders(), *examine(workspace, repair=repair), *in_use(workspace)]
    damaged = [finding for finding in findings if finding.state == DAMAGED and not finding.repaired]
    screen = Screen(as_json=as_json)
    rows = [(f.what, "repaired" if f.repaired else f.state, f.says) for f in findings]
    screen.result(
        {"healthy": not damaged, "findings": [asdict(finding) for finding in findings]},
        lambda: screen.table(_headline(findings, damaged=bool(damaged)), ("what", "state", "found"), rows),
    )
    if damaged:
        raise typer.Exit(4)


def _headline(findings: list[Finding], *, damaged: bool) -> str:
    if damaged:
        return "DAMAGED"
    empty = any(finding.what == "store" and finding.state == "warning" for finding in findings)
    return "nothing is stored here yet: is this the right workspace?" if empty else "healthy"


def in_use(workspace: Workspace) -> list[Finding]:
    """The encoder and the heads that are in use, which no row tells of."""
    from encoder.head import load_head
    from encoder.model.kind import check_stored
    from encoder.signs import load_signs
    from index.custody.doctor import DAMAGED, OK, WARNING, Finding
    from index.errors import SemiomeError
    from index.workspace import classes_of, current

    findings = []
    kinds: tuple[tuple[str, Path, Callable[[Path, str], Any]], ...] = (
        ("encoder", workspace.encoders, check_stored),
        ("head", workspace.heads, load_head),
        ("sign heads", workspace.signs, load_signs),
    )
    for what, folder, load in kinds:
        try:
            name = current(folder)
            if name is None:
                continue
            found = load(folder, name)
            findings.append(Finding(what, OK, f"{name} there, and whole"))
            if what == "head" and set(found.card.class_names) != set(classes_of(workspace).names):
                says = f"{name} tells other classes apart than the workspace: no verdicts until `semiome head train`"
                findings.append(Finding(what, WARNING, says))
        except SemiomeError as error:
            findings.append(Finding(what, DAMAGED, str(error)))
    return findings


def _decoders() -> Finding:
    """How far a decoding child, which a hostile file might take over, is sandboxed on this machine."""
    from encoder.video.sandbox import LEVELS, level_here
    from index.custody.doctor import OK, WARNING, Finding

    level = level_here()
    says = f"decoders are sandboxed at level {level}"
    if level == LEVELS[-1]:
        return Finding("decoders", OK, says)
    return Finding("decoders", WARNING, f"{says} of {', '.join(LEVELS)}: docs/decoding.md says what the rest needs")
