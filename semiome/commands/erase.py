"""`semiome erase`: a patient out of every file, with a receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen


def erase(
    patient: Annotated[str | None, typer.Option(help="Whom: the manifest's patient_id.")] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="Folder outside the workspace to search too, such as a frame cache.")
    ] = None,
    check: Annotated[Path | None, typer.Option(help="Only say whether this receipt is genuine.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Erase a patient: rows, vectors, old versions, indexes, previews, reports. It can't be undone.

    Run it again if it is interrupted: it goes on where it was. Servers stop finding the patient within a second.
    """
    from index.erasure import check_receipt, erase_patient
    from index.errors import InvalidInput
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    place = Workspace.at(workspace)
    if (patient is None) == (check is None):
        raise InvalidInput("name either --patient or --check")
    if check is not None:
        try:
            receipt = json.loads(check.read_text(encoding="utf-8"))
            genuine = isinstance(receipt, dict) and check_receipt(place, receipt)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"--check can't be read ({type(error).__name__}): give a receipt, a JSON file") from None
        screen.result(
            {"genuine": genuine},
            lambda: screen.say(
                "the receipt is genuine" if genuine else "the receipt is NOT of this workspace, or was changed"
            ),
        )
        raise typer.Exit(0 if genuine else 4)
    if missing := [folder for folder in also or () if not folder.is_dir()]:
        raise InvalidInput(f"--also names no folder: {missing[0].name}")
    if not yes and not as_json:
        typer.confirm("Erase this patient for ever?", abort=True)
    receipt = erase_patient(place, patient or "", also or (), _silent if as_json else screen.say)
    found = receipt["scan"]
    screen.result(
        receipt,
        lambda: screen.say(
            f"erased: {len(receipt['places'])} places cleared, {found['files']} files "
            f"({found['size_bytes'] / 1e6:.1f} MB) searched afterwards for {found['needles']} traces, none found. "
            f"Not covered: {receipt['not_covered']}."
        ),
    )


def _silent(_: str) -> None:
    """Steps are for people; `--json` prints one object."""
