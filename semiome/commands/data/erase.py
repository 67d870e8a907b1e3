"""`semiome erase`: a patient out of every file, with a receipt; and back onto the list of those who may be stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from index.custody.erasure import Forecast
    from index.workspace import Workspace

_MOST_SHOWN = 200


def erase(
    patient: Annotated[str | None, typer.Option(help="Patient to erase: the manifest's patient_id.")] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Folder outside the workspace to clear of the patient too, such as a frame cache."),
    ] = None,
    also_text: Annotated[
        bool | None,
        typer.Option(
            "--also-text/--keep-text",
            help="What to do with texts and file names that contain the id but may not mean this patient, such as a "
            "plain number: remove or keep them. By default you are asked; with --yes they are kept and listed as "
            "undecided.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed; change nothing.")] = False,
    check: Annotated[Path | None, typer.Option(help="Receipt to check: is it genuine and complete?")] = None,
    lift: Annotated[
        str | None, typer.Option(help="Patient who may be stored again: an erasure by mistake, or new consent.")
    ] = None,
    reason: Annotated[str, typer.Option(help="With --lift: why. It is kept beside the receipts.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Erase a patient: rows, vectors, old versions, indexes, previews, notes and reports. It can't be undone.

    Everything that will be removed is listed first. If the command is interrupted, run it again: it resumes. Servers
    stop finding the patient within a second. The exit code is 3 if something is undecided or left to do.
    """
    from index.custody.erasure import erase_patient, forecast
    from index.errors import InvalidInput
    from index.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace.at(address)
    if sum(option is not None for option in (patient, check, lift)) != 1:
        raise InvalidInput("name one of --patient, --check and --lift")
    if check is not None:
        _check(workspace, check, screen)
    if lift is not None:
        _lift(workspace, lift, reason, screen)
        return
    if missing := [folder for folder in also or () if not folder.is_dir()]:
        raise InvalidInput(f"--also: no such folder: {missing[0].name}")
    patient, folders = patient or "", list(also or ())
    _check_id(workspace, patient, screen)
    expected = forecast(workspace, patient, folders) if dry_run or not as_json else None
    if dry_run and expected is not None:
        values = {
            "videos": expected.videos,
            "clips": expected.clips,
            "feedback": dict(zip(("rows", "notes", "doubtful"), expected.feedback, strict=True)),
            "traces": [{"path": str(t.path), "kind": t.kind, "action": t.action} for t in expected.traces],
        }
        screen.result(values, lambda: _list(expected, screen))
        return
    if expected is not None:
        _list(expected, screen)
    if not yes:
        if expected is None or not screen.can_ask():
            raise InvalidInput("expected --yes, since no question can be asked here: an erasure can't be undone")
        typer.confirm("Erase this patient permanently?", abort=True)
        if also_text is None and (expected.feedback[2] or any(t.kind == "doubtful" for t in expected.traces)):
            also_text = typer.confirm("Remove these texts too, and rename files and folders? (No: they are kept)")
    receipt = erase_patient(workspace, patient, folders, _silent if as_json else screen.say, texts=also_text)
    screen.result(receipt, lambda: _tell(receipt, screen))
    if not receipt["complete"]:
        raise typer.Exit(3)


def _check_id(workspace: Workspace, patient: str, screen: Screen) -> None:
    """Ids that differ from the one given only as typing errors do are asked about before anything is done."""
    from index.errors import NotFound
    from index.near_misses import like
    from index.tables.store import Store

    store = Store(workspace)
    patients = store.patients() if store.exists() else set()
    near = sorted(like(patient, patients))
    if near and patient not in patients and not store.erased({patient}):
        raise NotFound(f"patient {patient!r} is not stored; similar ids are: {', '.join(near)}")
    if near:
        screen.warn(f"similar ids stay, as other patients: {', '.join(near)}. If they are the same, erase each of them")


def _list(expected: Forecast, screen: Screen) -> None:
    from index.words import counted

    rows, notes, asked = expected.feedback
    screen.say(f"stored: {counted(expected.clips, 'clip')} of {counted(expected.videos, 'video')}, with their indexes")
    if rows or notes:
        screen.say(f"feedback: {counted(rows, 'row')} to remove, {counted(notes, 'note')} to blank")
    found = [("" if t.kind == "goes" else t.kind, str(t.path), t.action) for t in expected.traces]
    if asked:
        found.append(("doubtful", "feedback", f"{counted(asked, 'note')} may name them"))
    if found:
        screen.table("In files", ("", "file", "what happens"), found[:_MOST_SHOWN])
    if len(found) > _MOST_SHOWN:
        screen.say(f"and {len(found) - _MOST_SHOWN} more: --dry-run --json lists all")


def _tell(receipt: dict[str, Any], screen: Screen) -> None:
    from index.words import counted

    scan = receipt["scan"]
    shared = scan["shared_with_others"]
    screen.say(
        f"erased: {counted(len(receipt['places']), 'place')} cleared; {counted(scan['files'], 'file')} "
        f"({scan['size_bytes'] / 1e6:.1f} MB) searched afterwards for {counted(scan['needles'], 'byte pattern')} "
        f"unique to the patient, none found{f' ({shared} more belong to others too)' if shared else ''}. "
        f"Not covered: {receipt['not_covered']}."
    )
    if receipt["undecided"]:
        screen.warn(
            f"undecided: {_first(receipt['undecided'])} may name the patient, or mean something else: run it again "
            "with --also-text to remove these texts, or with --keep-text to keep them"
        )
    if receipt["left"]:
        screen.warn(
            f"left: {_first(receipt['left'])} name the patient and can't be changed here: correct them yourself"
        )
    if receipt["not_looked_into"]:
        screen.warn(f"not looked into, since the format can't be read here: {_first(receipt['not_looked_into'])}")


def _first(places: list[str]) -> str:
    return ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")


def _check(workspace: Workspace, path: Path, screen: Screen) -> None:
    from index.custody.receipts import check_receipt
    from index.errors import InvalidInput

    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        genuine = isinstance(receipt, dict) and check_receipt(workspace, receipt)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--check can't be read ({type(error).__name__}): give a receipt, a JSON file") from None
    complete = genuine and bool(receipt.get("complete", True))
    what = "record of a lifted erasure" if "lifted_at" in receipt else "receipt"
    says = f"the {what} is genuine" if genuine else "the receipt is NOT of this workspace, or was changed"
    if genuine and not complete:
        says += ", and says that the erasure is not complete"
    screen.result({"genuine": genuine, "complete": complete}, lambda: screen.say(says))
    raise typer.Exit(0 if genuine else 4)


def _lift(workspace: Workspace, patient: str, reason: str, screen: Screen) -> None:
    from index.custody.erasure import lift_erasure
    from index.errors import InvalidInput

    if not reason.strip():
        raise InvalidInput("expected --reason with --lift: why may this patient be stored again?")
    record = lift_erasure(workspace, patient, reason)
    screen.result(record, lambda: screen.say("the patient may be stored again; what was erased does not come back"))


def _silent(_: str) -> None:
    """Steps are for people; `--json` prints one object."""
