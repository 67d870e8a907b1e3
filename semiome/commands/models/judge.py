"""`semiome judge`: how good the head in use is on stored patients that it was never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.commands.models.references import (
    CAVEAT,
    LabelledVideos,
    by_signs,
    columns,
    durations,
    motion,
    save_report,
    shown,
    shown_differences,
)
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, encoder_in_use

if TYPE_CHECKING:
    from trainer.judging.metrics import Prediction, Scores


def judge(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    split: Annotated[str, typer.Option(help="Only patients with a video of this split of the manifest.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Judge stored, labelled videos of patients the head in use has not learned from, beside what it has to beat.

    References learn from the head's own patients. What is found is kept in runs/.
    """
    from dataclasses import asdict

    from encoder.head import load_head
    from index.errors import EncoderMismatch, InvalidInput, StateError
    from index.tables.blocklist import patient_hash, workspace_key
    from index.tables.store import Store
    from index.words import counted
    from index.workspace import Workspace, classes_of
    from semiome.commands.models.evaluate import stored_clips
    from trainer.judging.classifiers import constant_judge, logistic_judge, neighbour_judge, sign_judge
    from trainer.judging.evaluate import commonest_class, judge_patients, verdicts
    from trainer.judging.folds import Fold, check_leaks, patients_held_out
    from trainer.judging.metrics import difference, scores

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    encoder_id, store = encoder_in_use(workspace), Store(workspace)
    head = load_head(workspace.heads)
    if head.card.encoder_id != encoder_id:
        raise EncoderMismatch(f"head {head.head_id}", head.card.encoder_id, encoder_id)
    classes = classes_of(workspace)
    if head.card.class_names != classes.names:
        raise StateError("the classes have changed since this head was trained: train one with `semiome head train`")
    if head.card.training_patients is None:
        raise StateError(
            "this head does not say which patients it learned from: train it again with `semiome head train`"
        )
    whole = stored_clips(store, encoder_id, head.card.from_onset_s)
    key = workspace_key(workspace)
    learned_from = set(head.card.training_patients)
    patients = {clip.patient_id for clip in whole.clips}
    training = {patient for patient in patients if patient_hash(key, patient) in learned_from}
    judged = patients - training
    if split:
        judged &= patients_held_out(((clip.patient_id, clip.split) for clip in whole.clips), split)
    if not judged:
        raise InvalidInput(
            "no patient with a label is stored that the head in use has not learned from: hold some out with "
            "`semiome head train --hold-out-split`, or store others"
        )
    rows_judged = [row for row, clip in enumerate(whole.clips) if clip.patient_id in judged]
    clips = [whole.clips[row] for row in rows_judged]
    fold = Fold(tuple(sorted(training)), tuple(sorted(judged)))
    check_leaks([clip for clip in whole.clips if clip.patient_id in training], clips)

    def of_head() -> list[Prediction]:
        return verdicts(clips, head.probabilities(whole.of(fold)[rows_judged]), classes=classes)

    said = {"head in use": of_head()}
    if training:
        references: dict[str, tuple[LabelledVideos, Any]] = {
            "10 nearest clips": (whole, neighbour_judge),
            "logistic regression": (whole, logistic_judge),
            "duration alone": (durations(whole, store), logistic_judge),
        }
        if (signs := by_signs(workspace, store, encoder_id, whole)) is not None:
            references["by its signs"] = LabelledVideos(whole.clips, signs), sign_judge
        with screen.progress("Looking at previews") as progress:
            by_motion, lacking = motion(workspace, store, whole, progress)
        if by_motion is None:
            screen.note(f"no row for motion energy: {counted(lacking, 'video')} without a preview")
        else:
            references["motion energy"] = by_motion, logistic_judge
        commonest = commonest_class([clip for clip in whole.clips if clip.patient_id in training], classes)
        references["majority class"] = whole, constant_judge(commonest)
        for name, (of, how) in references.items():
            said[name] = judge_patients(of.of(fold), of.clips, how, fold.training, fold.test, classes=classes)
    rows: dict[str, Scores] = {name: scores(predictions, classes) for name, predictions in said.items()}
    against = {name: difference(said["head in use"], found) for name, found in said.items() if name != "head in use"}
    values: dict[str, Any] = {
        "head_id": head.head_id,
        "encoder_id": encoder_id,
        "patients_learned_from": len(learned_from),
        "patients_judged": len(judged),
        "rows": {name: asdict(found) for name, found in rows.items()},
        "head_against": {name: asdict(found) for name, found in against.items()},
        "caveat": CAVEAT,
    }
    values["report"] = save_report(workspace, "judge", values)

    def show() -> None:
        first = rows["head in use"]
        screen.table(
            f"{counted(first.videos, 'video')} of {counted(first.patients, 'patient')} the head has not learned from",
            columns(classes),
            shown(rows),
        )
        screen.table("The head against", ("", "accuracy, 95 % interval", "p"), shown_differences(against))
        screen.say(f"{CAVEAT}\nReport: {values['report']}")

    screen.result(values, show)
