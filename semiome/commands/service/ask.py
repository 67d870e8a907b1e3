"""`semiome search` and `semiome classify`: clients of a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.commands.service.since import NewOption, new_videos
from semiome.console import Screen
from semiome.options import (
    DEFAULT_SERVER,
    CaOption,
    CertificateOption,
    JsonOption,
    KeyOption,
    ServerOption,
    TokenOption,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.query import ClipQuery, Options, Query, VideoQuery
    from index.records import Neighbour, Provenance
    from service.client import Client
    from service.records import BatchItem

_AT_ONCE = 500


def search(
    clip: Annotated[str | None, typer.Option(help="Id of a stored clip.")] = None,
    video: Annotated[str | None, typer.Option(help="Id of a stored video.")] = None,
    file: Annotated[Path | None, typer.Option(help="Video file that is not stored; nothing of it is kept.")] = None,
    vector: Annotated[Path | None, typer.Option(help="File of one embedding: .npy or a JSON list.")] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Id of a clip or video that hits should resemble. May be given more than once."),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(help="With --like: id that hits should not resemble. May be given more than once."),
    ] = None,
    new: NewOption = None,
    encoder: Annotated[str, typer.Option(help="Encoder id of --vector.")] = "",
    patient: Annotated[str, typer.Option(help="Patient of --vector or --file: left out of the answer.")] = "",
    k: Annotated[int, typer.Option("--k", "-k", help="Number of hits.")] = 10,
    group_by: Annotated[str, typer.Option(help="clip, video or patient.")] = "clip",
    aligned: Annotated[bool, typer.Option("--aligned", help="Align whole videos, clip by clip in time.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every clip, whatever the index.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="Only hits of this label; repeat for more.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only hits with this semiology tag; repeat for more.")] = None,
    signs: Annotated[
        str, typer.Option(help="Only hits in videos that show this course, such as 'versive then tonic within 30 s'.")
    ] = "",
    recorded_from: Annotated[str, typer.Option(help="Only hits recorded then or later, ISO 8601.")] = "",
    recorded_until: Annotated[str, typer.Option(help="Only hits recorded before, ISO 8601.")] = "",
    metadata: Annotated[
        list[str] | None, typer.Option(help="Only hits with this metadata, NAME=VALUE; repeat for more.")
    ] = None,
    include_own_patient: Annotated[
        bool, typer.Option("--include-own-patient", help="Also find clips of the query's patient.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    ca: CaOption = None,
    token_file: TokenOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which past seizures look like this one? Asks a running server."""
    from index.errors import InvalidInput
    from index.query import MAX_K, GroupBy, Options, SearchFilter
    from service.calling.connection import Connection
    from service.client import Client

    if group_by not in {group.value for group in GroupBy}:
        raise InvalidInput(f"expected --group-by clip, video or patient, got {group_by!r}")
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected --k of 1 to {MAX_K}, got {k}")
    if sum(bool(given) for given in (clip, video, file, vector, like, new)) != 1:
        raise InvalidInput("name exactly one of --clip, --video, --file, --vector, --like and --new")
    where = SearchFilter(
        labels=frozenset(label or ()),
        semiology=frozenset(tag or ()),
        recorded_from=recorded_from,
        recorded_until=recorded_until,
        metadata=frozenset(map(_pair, metadata or ())),
    )
    grouped = GroupBy.VIDEO if aligned else GroupBy(group_by)
    options = Options(
        *(where, grouped), include_own_patient=include_own_patient, exact=exact, aligned=aligned, signs=signs
    )
    screen = Screen(as_json=as_json)
    with Client(Connection(server, ca=ca, certificate=certificate, key=key, token_file=token_file)) as client:
        if new is not None:
            _search_new(client, new, server, k, options, screen)
            return
        if file is not None:
            _search_file(client, file, k, options, patient, screen)
            return
        query = _query(clip, video, vector, encoder, patient, like, unlike)
        answer = client.search(query, k, options)
    if vector is not None and not (patient or include_own_patient):
        screen.warn(
            "it is not known whose --vector this is: the same patient's clips may be among the hits; name --patient"
        )
    _warn_of(answer.provenance, screen)
    screen.result(
        {**asdict(answer.provenance), "neighbours": [neighbour_values(n) for n in answer.neighbours]},
        lambda: _show_hits(f"Nearest of generation {answer.provenance.generation}", answer.neighbours, screen),
    )


def _search_file(client: Client, file: Path, k: int, options: Options, patient: str, screen: Screen) -> None:
    from index.errors import InvalidInput

    if not file.is_file():
        raise InvalidInput("--file names no file")
    answer = client.search_by_video(file, k, options, patient_id=patient)
    _warn_of(answer.provenance, screen)
    if answer.known_as:
        screen.note(f"this file is stored as video {answer.known_as}: its patient is left out")
    elif not answer.patient_known and not options.include_own_patient:
        screen.warn(
            "it is not known whose video this is: the same patient's clips may be among the hits; name --patient"
        )
    if answer.clips_without_picture:
        screen.warn(f"{answer.clips_without_picture} of its clips show no picture and were left out")
    screen.result(
        {
            **asdict(answer.provenance),
            "patient_known": answer.patient_known,
            "known_as": answer.known_as,
            "clips_without_picture": answer.clips_without_picture,
            "clips": [asdict(one) for one in answer.clips],
            "neighbours": [neighbour_values(n) for n in answer.neighbours],
        },
        lambda: _show_hits(f"Nearest of generation {answer.provenance.generation}", answer.neighbours, screen),
    )


def _search_new(client: Client, since: str, server: str, k: int, options: Options, screen: Screen) -> None:
    """The hits of each new video."""
    from index.query import VideoQuery

    videos, remember = new_videos(client, since, "search", server)
    found = []
    for start in range(0, len(videos), _AT_ONCE):
        part = videos[start : start + _AT_ONCE]
        answer = client.search_batch([VideoQuery(video.video_id) for video in part], k, options)
        found += list(zip(part, answer.results, strict=True))
        _warn_of(answer.provenance, screen)
    failed = [video.video_id for video, result in found if result.code != "OK"]

    def show() -> None:
        if not found:
            screen.say("no new videos")
        for video, result in found:
            _show_hits(f"{video.video_id} of {video.patient_id}", result.neighbours, screen)

    values = [
        {
            "video_id": video.video_id,
            "code": result.code,
            "message": result.message,
            "neighbours": [neighbour_values(n) for n in result.neighbours],
        }
        for video, result in found
    ]
    screen.result({"new": values}, show)
    remember()
    if failed:
        screen.warn(f"{len(failed)} could not be searched for: {', '.join(failed[:5])}")
        raise typer.Exit(3)


def classify(
    clip: Annotated[list[str] | None, typer.Option(help="Id of a stored clip; repeat for more.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="Id of a stored video; repeat for more.")] = None,
    new: NewOption = None,
    server: ServerOption = DEFAULT_SERVER,
    ca: CaOption = None,
    token_file: TokenOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of which class stored clips or videos are: temporal or extratemporal, or what `semiome classes` has set.

    The exit status is 3 if some failed.
    """
    from index.errors import InvalidInput
    from index.query import ClipQuery, VideoQuery
    from index.words import counted
    from service.calling.connection import Connection
    from service.client import Client

    items: list[ClipQuery | VideoQuery] = [*map(ClipQuery, clip or ()), *map(VideoQuery, video or ())]
    if bool(items) == (new is not None):
        raise InvalidInput("give either clips and videos, or --new")
    screen = Screen(as_json=as_json)
    results: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    with Client(Connection(server, ca=ca, certificate=certificate, key=key, token_file=token_file)) as client:
        remember: Callable[[], None] = lambda: None  # noqa: E731
        if new is not None:
            found, remember = new_videos(client, new, "classify", server)
            items = [VideoQuery(one.video_id) for one in found]
        for start in range(0, len(items), _AT_ONCE):
            part = items[start : start + _AT_ONCE]
            answer = client.classify_batch(part)
            made = asdict(answer.provenance)
            names = [item.clip_id if isinstance(item, ClipQuery) else item.video_id for item in part]
            results += [verdict_values(name, result) for name, result in zip(names, answer.results, strict=True)]
            _warn_of(answer.provenance, screen)
    judged = [one for one in results if one["code"] == "OK"]
    if any(one["separates_nothing"] for one in judged):
        screen.warn("this head separates nothing: its verdicts mean nothing; see `semiome head train`")
    if own := [one["id"] for one in judged if one["trained_on_this_patient"]]:
        screen.warn(
            f"the head learned from the patients of {counted(len(own), 'item')}: it may just remember them, and their "
            "probabilities are not calibrated"
        )
    screen.result({**made, "verdicts": results}, lambda: _show_verdicts(results, screen))
    remember()
    if len(judged) < len(results):
        raise typer.Exit(3)


def _show_verdicts(results: list[dict[str, Any]], screen: Screen) -> None:
    if not results:
        screen.say("no new videos")
        return
    rows = [
        _verdict_row(one) if one["code"] == "OK" else (one["id"], one["code"], "", "", "", one["message"])
        for one in results
    ]
    columns = ("item", "verdict", "probabilities", "possible classes", "votes", "")
    screen.table("Verdicts (research use only)", columns, rows)


def _verdict_row(one: dict[str, Any]) -> tuple[str, ...]:
    sets, notes = one["set"], []
    if sets and sets["abstains"]:
        notes.append("abstains")
    if one["tie"]:
        notes.append("tie")
    if one["trained_on_this_patient"]:
        notes.append("learned from this patient")
    if one["clips_without_picture"]:
        notes.append(f"{one['clips_without_picture']} clips without picture")
    if one["clips_outside_seizure"]:
        notes.append(f"{one['clips_outside_seizure']} clips outside the seizure")
    if one["clips_overlapping"]:
        notes.append(f"{one['clips_overlapping']} clips that overlap with others")
    likely = ", ".join(f"{label} {probability:.3f}" for label, probability in one["probabilities"].items())
    likely += "" if one["calibrated"] else " (not calibrated)"
    named = "not known" if sets is None else " or ".join(sets["labels"]) or "none of them"
    votes = ", ".join(f"{label} {count}" for label, count in one["votes"].items()) + f" (margin {one['margin']})"
    return one["id"], one["label"], likely, named, votes, ", ".join(notes)


def _show_hits(title: str, neighbours: Sequence[Neighbour], screen: Screen) -> None:
    rows = [
        (
            *(rank, n.similarity, n.label or "-", n.clip.patient_id, n.clip.video_id),
            *(f"{n.clip.start_s:.0f} s", n.clip.clip_id),
        )
        for rank, n in enumerate(neighbours, start=1)
    ]
    screen.table(title, ("", "similarity", "label", "patient", "video", "at", "clip"), rows)


def _warn_of(made: Provenance, screen: Screen) -> None:
    from encoder.model.kind import what_it_means

    if says := what_it_means(made.encoder_kind):
        screen.warn(says)


def neighbour_values(neighbour: Neighbour) -> dict[str, Any]:
    """A neighbour as JSON: its clip's fields beside its own."""
    return {
        **asdict(neighbour.clip),
        "label": neighbour.label,
        "similarity": neighbour.similarity,
        "query_clip_id": neighbour.query_clip_id,
    }


def verdict_values(name: str, result: BatchItem) -> dict[str, Any]:
    """One item of a batch as JSON."""
    if result.judged is None:
        return {"id": name, "code": result.code, "message": result.message}
    verdict, clips = result.judged.verdict, result.judged.clips
    evidence = result.judged.evidence
    sets = evidence.prediction_set
    return {
        "id": name,
        "code": result.code,
        "label": verdict.label,
        "probabilities": dict(zip(verdict.classes, verdict.probabilities, strict=True)),
        "calibrated": evidence.calibrated,
        "votes": dict(zip(verdict.classes, verdict.votes, strict=True)),
        "margin": verdict.margin,
        "tie": verdict.tie,
        "set": None if sets is None else {**asdict(sets), "abstains": sets.abstains},
        "trained_on_this_patient": evidence.trained_on_this_patient,
        "separates_nothing": evidence.separates_nothing,
        "clips_without_picture": evidence.clips_without_picture,
        "clips_outside_seizure": evidence.clips_outside_seizure,
        "clips_overlapping": evidence.clips_overlapping,
        "clips": [
            {
                "clip_id": clip.clip_id,
                "start_s": clip.start_s,
                "probabilities": dict(zip(verdict.classes, vote.probabilities, strict=True)),
                "label": vote.label,
            }
            for clip, vote in zip(clips, verdict.clips, strict=True)
        ],
    }


def _pair(given: str) -> tuple[str, str]:
    from index.errors import InvalidInput

    name, equals, value = given.partition("=")
    if not (name and equals):
        raise InvalidInput(f"expected --metadata NAME=VALUE, got {given[:64]!r}")
    return name, value


def _query(
    clip: str | None,
    video: str | None,
    vector: Path | None,
    encoder: str,
    patient: str,
    like: list[str] | None,
    unlike: list[str] | None,
) -> Query:
    from index.query import ClipQuery, ExamplesQuery, VectorQuery, VideoQuery

    if like:
        return ExamplesQuery(tuple(map(_item, like)), tuple(map(_item, unlike or ())))
    if clip is not None:
        return ClipQuery(clip)
    if video is not None:
        return VideoQuery(video)
    return VectorQuery(_read_vector(vector), encoder, patient)


def _item(name: str) -> ClipQuery | VideoQuery:
    """A clip's id is 32 hex digits; anything else is a video's."""
    import re

    from index.query import ClipQuery, VideoQuery

    return ClipQuery(name) if re.fullmatch("[0-9a-f]{32}", name) else VideoQuery(name)


def _read_vector(path: Path | None) -> Any:  # noqa: ANN401
    import json

    import numpy as np

    from index.errors import InvalidInput

    if path is None:
        raise InvalidInput("name a file with --vector")
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else json.loads(path.read_text())
        return np.asarray(values, np.float32).ravel()
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InvalidInput(
            f"--vector can't be read ({type(error).__name__}): give a .npy file or a JSON list"
        ) from None
