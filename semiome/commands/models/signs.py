"""`semiome signs`: which signs are seen when, learned from tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, encoder_in_use

if TYPE_CHECKING:
    from encoder.signs import SignHeads
    from index.records import Clip
    from index.semiology import Stretch
    from index.workspace import Workspace

    Tracks = dict[str, list[Stretch]]

app = typer.Typer(help="Which signs are seen when, learned from tags.", no_args_is_help=True)


@app.command()
def train(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    hold_out_split: Annotated[
        str, typer.Option(help="Split of the manifest whose patients are left out; empty to train on all.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the folds that tell how well each sign is told.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train sign heads on the tags of stored videos and of the review page, and use them from now on.

    A sign needs 5 patients who show it and 5 whose videos are tagged and who do not; one that is told no better than by
    chance in patients who were left out is not judged.
    """
    from dataclasses import asdict

    from index.words import counted
    from index.workspace import Workspace

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    with screen.progress("Training sign heads") as progress:
        heads = train_and_install_signs(workspace, hold_out_split, seed, progress)
    card = heads.card
    values = {
        "signs_id": heads.signs_id,
        "encoder_id": card.encoder_id,
        "videos": card.videos,
        "patients": card.patients,
        "held_out_patients": len(card.held_out_patients),
        "signs": [asdict(sign) for sign in card.signs],
        "not_judged": dict(card.not_judged),
    }

    def show() -> None:
        rows = [
            (s.name, s.patients, s.others, f"{s.auroc:.2f} ({s.auroc_low:.2f} to {s.auroc_high:.2f})")
            for s in card.signs
        ]
        screen.table(
            f"Sign heads {heads.signs_id}, of {counted(card.videos, 'video')} of {counted(card.patients, 'patient')}",
            ("sign", "patients", "others", "AUROC of videos of patients left out"),
            rows,
        )
        for sign, why in card.not_judged:
            screen.say(f"not judged: {sign}: {why}")

    screen.result(values, show)


def train_and_install_signs(
    workspace: Workspace,
    hold_out_split: str,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> SignHeads:
    """Train sign heads on what is tagged in a workspace, and use them from now on.

    Args:
        workspace: the workspace.
        hold_out_split: split of the manifest whose patients are left out; empty for none.
        seed: of the folds that tell how well each sign is told.
        progress: called with what is done and what there is.

    Raises:
        InvalidInput: If nothing is tagged that may be learned from.
        StateError: If no sign can be judged; what was in use stays so.
    """
    from dataclasses import replace

    from encoder.signs import SignHeads, save_signs
    from index.errors import InvalidInput, StateError
    from index.feedback.store import FeedbackStore
    from index.tables.blocklist import patient_hash, workspace_key
    from index.tables.store import Store
    from index.workspace import set_current
    from trainer.judging.folds import patients_held_out
    from trainer.judging.sign_examples import sign_examples
    from trainer.judging.signs import train_signs

    encoder_id, store = encoder_in_use(workspace), Store(workspace)
    stored, videos = store.clips(encoder_id), store.videos()
    said = FeedbackStore(workspace).each()
    examples = sign_examples(encoder_id, list(stored.clips), stored.vectors, videos, said)
    everyone = set(examples.patient_V.tolist())
    outside = patients_held_out(((video.patient_id, video.split) for video in videos.values()), hold_out_split)
    if everyone <= outside:
        raise InvalidInput("every patient whose videos are tagged is held out: name another --hold-out-split")
    trained = train_signs(examples.of(everyone - outside), seed, progress)
    if not trained.card.signs:
        reasons = "; ".join(f"{name}: {why}" for name, why in trained.card.not_judged)
        raise StateError(f"no sign can be judged, and what was in use stays so: {reasons}")
    key = workspace_key(workspace)  # as heads, these outlive their patients' erasure
    learned, left_out = (
        tuple(sorted(patient_hash(key, patient) for patient in patients)) for patients in (everyone - outside, outside)
    )
    card = replace(trained.card, training_patients=learned, held_out_patients=left_out)
    heads = SignHeads(trained.weights_SD, trained.bias_S, card)
    save_signs(heads, workspace.signs)
    set_current(workspace.signs, heads.signs_id)
    return heads


@app.command()
def show(
    video: Annotated[str, typer.Argument(help="Id of a stored video.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show which signs are probable when in a stored video."""
    from index.errors import NotFound
    from index.workspace import Workspace

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    heads, found = _loaded(workspace), None
    for video_id, clips, said in _videos(workspace, heads):
        if video_id == video:
            found = clips, said
    if found is None:
        raise NotFound("that video is not stored for the encoder in use: check the id")
    clips, said = found
    tracks = _tracks(heads, clips, said)
    values = {
        "signs_id": heads.signs_id,
        "clips": [{"clip_id": clip.clip_id, "start_s": clip.start_s} for clip in clips],
        "probabilities": {name: said[:, n].tolist() for n, name in enumerate(heads.card.names)},
        "stretches": {name: [one._asdict() for one in where] for name, where in tracks.items()},
        "not_judged": dict(heads.card.not_judged),
    }

    def in_words() -> None:
        rows = [(name, _seconds(one), f"{one.probability:.2f}") for name, where in tracks.items() for one in where]
        screen.table(f"Signs that are probable in {video}", ("sign", "seconds", "probability"), rows)
        for sign, why in heads.card.not_judged:
            screen.say(f"not judged: {sign}: {why}")

    screen.result(values, in_words)


@app.command()
def find(
    course: Annotated[str, typer.Argument(help="Such as 'versive then tonic within 30 s'.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List stored videos that show a course of signs, and where.

    Signs by their names, without `Semiology-`, or the ILAE's words in quotes; with `and`, `or`, `not`, brackets,
    `A then B within 30 s` (B begins after A has, and at most 30 s after its end) and `A for 20 s`.
    """
    from encoder.sign_grammar import parsed
    from index.words import counted
    from index.workspace import Workspace

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    heads = _loaded(workspace)
    query, found = parsed(course, heads.card.names, dict(heads.card.not_judged)), []
    for video_id, clips, said in _videos(workspace, heads):
        answer = query.holds(_tracks(heads, clips, said))
        if answer.holds:
            found.append((video_id, clips[0].patient_id, answer.where))
    values = {
        "signs_id": heads.signs_id,
        "found": [
            {"video_id": name, "patient_id": patient, "where": [one._asdict() for one in where]}
            for name, patient, where in found
        ],
    }
    videos = len(found)
    rows = [
        (name, patient, _seconds(one) if one else "", f"{one.probability:.2f}" if one else "")
        for name, patient, where in found
        for one in where or (None,)
    ]
    screen.result(
        values,
        lambda: screen.table(
            f"{course}: {counted(videos, 'video')}", ("video", "patient", "seconds", "probability"), rows
        ),
    )


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write the stretches in which signs are probable as events: signs.tsv with HED tags, and signs.json.

    What is written was judged by heads and seen by no person, as signs.json says too.
    """
    import json

    from index.feedback.export import SIGNS_HEAD, sign_line, signs_sidecar
    from index.files.durable import write_atomically, write_text_atomically
    from index.files.locks import make_folder
    from index.words import counted
    from index.workspace import Workspace

    screen, workspace = Screen(as_json=as_json), Workspace.at(address)
    heads, count = _loaded(workspace), 0

    def write(path: Path) -> None:
        nonlocal count
        with path.open("w", encoding="utf-8") as out:
            out.write(SIGNS_HEAD)
            for video_id, clips, said in _videos(workspace, heads):
                for name, where in _tracks(heads, clips, said).items():
                    for one in where:
                        out.write(sign_line(video_id, name, one))
                        count += 1

    make_folder(folder)
    write_atomically(folder / "signs.tsv", write)
    write_text_atomically(folder / "signs.json", json.dumps(signs_sidecar(heads.signs_id), indent=2) + "\n")
    screen.result(
        {"stretches": count}, lambda: screen.say(f"{counted(count, 'stretch|stretches')} written to {folder}")
    )


def _loaded(workspace: Workspace) -> SignHeads:
    """The sign heads in use, which must read the encoder in use."""
    from encoder.signs import load_signs
    from index.errors import EncoderMismatch

    heads = load_signs(workspace.signs)
    encoder_id = encoder_in_use(workspace)
    if heads.card.encoder_id != encoder_id:
        raise EncoderMismatch(f"sign heads {heads.signs_id}", heads.card.encoder_id, encoder_id)
    return heads


def _videos(workspace: Workspace, heads: SignHeads) -> Iterator[tuple[str, list[Clip], Any]]:
    """Each stored video with its clips in time, and (N, S) probabilities of signs."""
    from index.tables.store import Store

    stored = Store(workspace).clips(heads.card.encoder_id)
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(stored.clips):
        rows.setdefault(clip.video_id, []).append(row)
    for video_id, own in sorted(rows.items()):
        own.sort(key=lambda row: stored.clips[row].start_s)
        clips = [stored.clips[row] for row in own]
        yield video_id, clips, heads.probabilities(stored.vectors[own], heads.card.encoder_id)


def _tracks(heads: SignHeads, clips: list[Clip], said: Any) -> Tracks:  # noqa: ANN401  an array of NumPy's
    from encoder.signs import stretches

    return {name: stretches(clips, said[:, number]) for number, name in enumerate(heads.card.names)}


def _seconds(one: Stretch) -> str:
    return f"{one.start_s:g} to {one.end_s:g}"
