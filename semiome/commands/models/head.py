"""`semiome head`: the classifier on the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, FromOnsetOption, JsonOption, WorkspaceOption, encoder_in_use

if TYPE_CHECKING:
    from encoder.head import Head
    from index.tables.store import Store
    from index.workspace import Workspace
    from trainer.judging.head import HeadConfig, LabelledClips

app = typer.Typer(help="The head: train it on stored, labelled clips.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `train` a command of its own."""


@app.command()
def train(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    hold_out_split: Annotated[
        str, typer.Option(help="Split of the manifest whose patients are left out; empty to train on all.")
    ] = "test",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the clips.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and batches.")] = 0,
    alpha: Annotated[
        float | None, typer.Option(help="How often a conformal set may miss; by default 0.1 if the patients allow it.")
    ] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Also learn the labels that people gave on the review page.")
    ] = False,
    trust_one: Annotated[
        bool,
        typer.Option("--trust-one", help="With --feedback: one person is enough to turn a stored label; else two are."),
    ] = False,
    from_onset: FromOnsetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a head on the labelled clips of the encoder in use, and use it from now on."""
    from dataclasses import asdict

    from index.errors import InvalidInput
    from index.feedback.labels import labels_of
    from index.feedback.store import FeedbackStore
    from index.tables.store import Store
    from index.words import counted
    from index.workspace import Workspace
    from trainer.judging.head import HeadConfig

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    if trust_one and not feedback:
        raise InvalidInput("--trust-one says how far --feedback goes: give both")
    with screen.progress("Training the head") as progress:
        config = HeadConfig(epochs=epochs, seed=seed, from_onset_s=from_onset)
        said = (
            labels_of(FeedbackStore(workspace).each(), Store(workspace).videos(), trust_one=trust_one)
            if feedback
            else None
        )
        head = train_and_install(workspace, config, hold_out_split, progress, alpha, said.labels if said else {})
    card = head.card
    values = {
        "head_id": head.head_id,
        "encoder_id": card.encoder_id,
        "clips": card.clips,
        "videos": card.videos,
        "patients": card.patients,
        "held_out_patients": len(card.held_out_patients),
        "clips_outside_seizure": card.outside_seizure or 0,
        "temperature": card.temperature,
        "separates_nothing": card.separates_nothing,
        "conformal": None if card.conformal is None else asdict(card.conformal),
    }
    if said is not None:
        values["feedback"] = {**asdict(said), "labels": len(said.labels)}
        for author, count in said.contradicts.items():
            screen.note(f"{author} contradicts {counted(count, 'stored label')}")
        if said.alone:
            screen.note(
                f"{counted(len(said.alone), 'stored label')} contradicted by one person alone, which is not enough: "
                "let a second one look, or give --trust-one"
            )
    if card.outside_seizure:
        of = "the seizure" if from_onset is None else f"the first {from_onset:g} s of a seizure"
        screen.note(f"{counted(card.outside_seizure, 'clip')} outside {of} did not count")
    if card.separates_nothing:
        screen.warn(
            "this head separates nothing: patients it had not seen were judged no better than by chance, so its "
            "verdicts mean nothing; label more patients, or bring an encoder that was trained on seizures"
        )
    if not card.held_out_patients and hold_out_split:
        screen.warn(
            "no patient is held out, since no video has a split: figures on these patients will flatter the head"
        )
    sets = (
        "no conformal sets: too few patients of a class"
        if card.conformal is None
        else (f"conformal sets that miss with probability {card.conformal.alpha:g}")
    )
    screen.result(
        values,
        lambda: screen.say(
            f"head {head.head_id} is in use: trained on {counted(card.clips, 'clip')} of "
            f"{counted(card.videos, 'video')} of {counted(card.patients, 'patient')}, "
            f"{counted(len(card.held_out_patients), 'patient')} held out; temperature "
            f"{card.temperature:.2f}, {sets}"
        ),
    )


def train_and_install(
    workspace: Workspace,
    config: HeadConfig,
    hold_out_split: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    alpha: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Head:
    """Train on what a workspace holds, calibrate, save, and make the head the one in use.

    Labels that are given, by video, count instead of the stored ones.
    """
    from dataclasses import replace

    from encoder.head import Head, save_head
    from index.tables.blocklist import patient_hash, workspace_key
    from index.tables.store import Store
    from index.workspace import set_current
    from trainer.judging.calibrate import calibrated
    from trainer.judging.head import train_head

    store, encoder_id = Store(workspace), encoder_in_use(workspace)
    data, held_out = labelled_clips(store, encoder_id, hold_out_split, labels, config.from_onset_s)
    head = calibrated(train_head(data, config, held_out, progress), data, config, alpha)
    key = workspace_key(workspace)  # a head outlives its patients' erasure, and goes to other machines
    kept_out, learned = (
        tuple(sorted(patient_hash(key, patient) for patient in patients or ()))
        for patients in (head.card.held_out_patients, head.card.training_patients)
    )
    head = Head(head.layers, replace(head.card, held_out_patients=kept_out, training_patients=learned))
    save_head(head, workspace.heads)
    set_current(workspace.heads, head.head_id)
    return head


def labelled_clips(
    store: Store,
    encoder_id: str,
    hold_out_split: str,
    labels: Mapping[str, str] | None = None,
    from_onset_s: float | None = None,
) -> tuple[LabelledClips, list[str]]:
    """The stored clips of labelled videos, and which of their patients are held out.

    Args:
        store: holds the clips.
        encoder_id: the encoder of the embeddings.
        hold_out_split: patients with a video of it are held out.
        labels: of videos, that count instead of the stored ones.
        from_onset_s: of seizures whose onset is known, the first seconds only; None for all of the seizure.

    Raises:
        InvalidInput: If no video has this split though some have others.
        Leak: If a recording is both held out and learned from.
    """
    from index.feedback.labels import with_labels
    from index.phases import counted_rows
    from index.workspace import classes_of
    from semiome.commands.models.evaluate import training_clip
    from trainer.judging.folds import check_leaks, patients_held_out
    from trainer.judging.head import LabelledClips

    stored, videos = store.clips(encoder_id), with_labels(store.videos(), labels or {})
    labelled = {name for name, video in videos.items() if video.label}
    of_labelled = [row for row, clip in enumerate(stored.clips) if clip.video_id in labelled]
    rows, outside, _ = counted_rows(stored.clips, videos, of_labelled, from_onset_s)
    clips = [stored.clips[row] for row in rows]
    said = [videos[clip.video_id].label for clip in clips]
    # By patient, and whether or not the video of that split has a label: none of their clips may be learned from.
    of_split = patients_held_out(((video.patient_id, video.split) for video in videos.values()), hold_out_split)
    known = [training_clip(clip, videos) for clip in stored.clips if clip.video_id in videos]
    check_leaks(
        [clip for clip in known if clip.patient_id not in of_split and clip.label],
        [clip for clip in known if clip.patient_id in of_split],
    )
    held_out = sorted(of_split & {clip.patient_id for clip in clips})
    classes = classes_of(store.workspace)
    return LabelledClips(encoder_id, clips, said, stored.vectors[rows], outside, classes), held_out
