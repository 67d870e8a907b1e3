"""`semiome evaluate`: how good the head is on patients it has not seen, by cross-validation on stored embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from index.words import counted
from semiome.commands.models.references import (
    CAVEAT,
    LabelledVideos,
    by_signs,
    columns,
    durations,
    motion,
    save_report,
    show_signs_say,
    shown,
    shown_differences,
    signs_say,
)
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, FromOnsetOption, JsonOption, WorkspaceOption, encoder_in_use

if TYPE_CHECKING:
    from index.records import Clip, Video
    from index.tables.store import Store
    from trainer.clips import TrainingClip
    from trainer.judging.classifiers import Judge
    from trainer.judging.metrics import Difference, Prediction, Scores


def evaluate(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER|patient",
            help="By patient, 5 by default; each is judged by a head that never saw it. `patient`: leave one out at a "
            "time.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often, with other folds.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the head.")] = 10,
    external: Annotated[
        str,
        typer.Option(
            "--external",
            "--hold-out-split",
            help="Judge the patients of this split of the manifest by heads that learned from all others.",
        ),
    ] = "",
    from_onset: FromOnsetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cross-validate the head on the stored, labelled clips of the encoder in use, beside what it has to beat."""
    from dataclasses import asdict

    from index.errors import InvalidInput
    from index.phases import FIRST_S
    from index.tables.store import Store
    from index.workspace import Workspace, classes_of
    from trainer.judging.classifiers import constant_judge, head_judge, logistic_judge, neighbour_judge, sign_judge
    from trainer.judging.evaluate import commonest_class, cross_validate, judge_patients, labelled_patients
    from trainer.judging.folds import Fold, patient_folds, patients_held_out
    from trainer.judging.head import HeadConfig
    from trainer.judging.metrics import difference, scores

    screen = Screen(as_json=as_json)
    if external and folds is not None:
        raise InvalidInput("--external judges the patients of one split, and --folds makes folds of all: give one")
    how_many = _folds("5" if folds is None else str(folds))
    workspace = Workspace.at(address)
    encoder_id = encoder_in_use(workspace)
    store, classes = Store(workspace), classes_of(workspace)
    whole = stored_clips(store, encoder_id, from_onset)
    patients = {clip.patient_id for clip in whole.clips}
    outside = patients_held_out(((clip.patient_id, clip.split) for clip in whole.clips), external) & patients
    learned = [clip for clip in whole.clips if clip.patient_id not in outside]
    classes_of_patients = labelled_patients(learned, classes)
    if not outside:
        patient_folds(classes_of_patients, how_many, 0, classes)  # what can't be done is said before anything is read

    def judged(of: LabelledVideos, judge: Judge, seed: int) -> list[Prediction]:
        if outside:
            fold = Fold(tuple(sorted(patients - outside)), tuple(sorted(outside)))
            return judge_patients(of.of(fold), of.clips, judge, fold.training, fold.test, classes=classes)
        return cross_validate(of.features, of.clips, judge, how_many, seed, classes)

    def head_of(seed: int) -> Judge:
        return head_judge(HeadConfig(epochs=epochs, seed=seed))

    judges: dict[str, tuple[LabelledVideos, Callable[[int], Judge]]] = {
        "head": (whole, head_of),
        "10 nearest clips": (whole, lambda seed: neighbour_judge),
        "logistic regression": (whole, lambda seed: logistic_judge),
        "duration alone": (durations(whole, store), lambda seed: logistic_judge),
    }
    signs = by_signs(workspace, store, encoder_id, whole)
    if signs is not None:
        judges["by its signs"] = LabelledVideos(whole.clips, signs), lambda seed: sign_judge
    with screen.progress("Looking at previews") as progress:
        by_motion, lacking = motion(workspace, store, whole, progress)
    if by_motion is None:
        screen.note(f"no row for motion energy: {counted(lacking, 'video')} without a preview")
    else:
        judges["motion energy"] = by_motion, lambda seed: logistic_judge
    commonest = commonest_class(learned, classes)
    judges["majority class"] = whole, lambda seed: constant_judge(commonest)
    if whole.outside_seizure and from_onset is None:
        judges[f"head, first {FIRST_S} s"] = stored_clips(store, encoder_id, FIRST_S), head_of
    rows: dict[str, tuple[Scores, list[float]]] = {}
    first: dict[str, list[Prediction]] = {}
    with screen.progress("Cross-validating") as progress:
        for number, (name, (of, judge_of)) in enumerate(judges.items()):
            of_seed = []
            for seed in range(seeds):
                of_seed.append(judged(of, judge_of(seed), seed))
                progress(number * seeds + seed + 1, len(judges) * seeds)
            accuracies = [sum(p.truth == p.verdict for p in found) / len(found) for found in of_seed]
            first[name] = of_seed[0]
            rows[name] = scores(of_seed[0], classes), accuracies
    against = {name: difference(first["head"], said) for name, said in first.items() if name != "head"}
    values: dict[str, Any] = {
        "encoder_id": encoder_id,
        "folds": 0 if outside else how_many,
        "external": external,
        "held_out_patients": len(outside),
        "clips": len(whole.clips),
        "clips_outside_seizure": whole.outside_seizure,
        "rows": {name: {**asdict(found), "accuracy_by_seed": by_seed} for name, (found, by_seed) in rows.items()},
        "head_against": {name: asdict(found) for name, found in against.items()},
        "signs_say": None if signs is None else signs_say(signs, whole, classes, outside),
        "caveat": CAVEAT,
    }
    values["report"] = save_report(workspace, "evaluate", values)
    if whole.outside_seizure:
        seizure = "the seizure" if from_onset is None else f"the first {from_onset:g} s of a seizure"
        screen.note(f"{counted(whole.outside_seizure, 'clip')} outside {seizure} did not count")
    screen.result(values, lambda: _show(rows, against, columns(classes), values, screen))


def _folds(said: str) -> int | Literal["patient"]:
    from index.errors import InvalidInput

    if said == "patient":
        return "patient"
    if not (said.isascii() and said.isdigit()) or int(said) < 2:
        raise InvalidInput(f"expected a number of folds of at least 2, or patient, got {said!r}", field="folds")
    return int(said)


def stored_clips(store: Store, encoder_id: str, from_onset_s: float | None = None) -> LabelledVideos:
    """The stored clips of labelled videos that count for their class, with their embeddings.

    Args:
        store: where they are.
        encoder_id: whose embeddings.
        from_onset_s: of seizures whose onset is known, the first seconds only; None for all of the seizure.
    """
    from index.phases import counted_rows

    stored, videos = store.clips(encoder_id), store.videos()
    labelled = [r for r, clip in enumerate(stored.clips) if clip.video_id in videos and videos[clip.video_id].label]
    rows, outside, _ = counted_rows(stored.clips, videos, labelled, from_onset_s)
    clips = [training_clip(stored.clips[row], videos) for row in rows]
    return LabelledVideos(clips, stored.vectors[rows], outside)


def training_clip(clip: Clip, videos: Mapping[str, Video]) -> TrainingClip:
    """A stored clip with what its video says of it."""
    from index.tables.recording import RECORDING_ID, file_begins
    from trainer.clips import TrainingClip

    video = videos[clip.video_id]
    began = file_begins(video.recorded_at, video.start_s)
    return TrainingClip(
        *(clip.video_id, clip.patient_id, clip.clip_index, video.label, video.split),
        source_sha256=video.source_sha256,
        valid_seconds=clip.valid_seconds,
        begins_s=clip.start_s,
        recording_id=dict(video.metadata).get(RECORDING_ID, ""),
        file_began=began.isoformat() if began else "",
    )


def _show(
    rows: dict[str, tuple[Scores, list[float]]],
    against: dict[str, Difference],
    heads: tuple[str, ...],
    values: dict[str, Any],
    screen: Screen,
) -> None:
    first = next(iter(rows.values()))[0]
    how = (
        f"by what the others teach, all of split {values['external']}" if values["external"] else "without its patient"
    )
    by_seed = [" ".join(f"{accuracy:.2f}" for accuracy in found) for _, found in rows.values()]
    lines = shown({name: found for name, (found, _) in rows.items()})
    screen.table(
        f"{counted(first.videos, 'video')} of {counted(first.patients, 'patient')}, each judged {how}",
        (*heads, "by seed"),
        [(*line, seeds) for line, seeds in zip(lines, by_seed, strict=True)],
    )
    compared = ("", "accuracy, 95 % interval", "p, exchanging patients")
    screen.table("The head against", compared, shown_differences(against))
    if values["signs_say"]:
        show_signs_say(values["signs_say"], screen)
    screen.say(f"{CAVEAT}\nReport: {values['report']}")
