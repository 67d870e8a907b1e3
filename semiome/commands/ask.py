"""`semiome search` and `semiome classify`: clients of a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.commands.options import (
    DEFAULT_SERVER,
    CaOption,
    CertificateOption,
    JsonOption,
    KeyOption,
    ServerOption,
    TokenOption,
)
from semiome.console import Screen

if TYPE_CHECKING:
    from index.query import Query
    from index.records import Neighbour
    from service.answers import BatchItem


def search(
    clip: Annotated[str | None, typer.Option(help="Id of a stored clip.")] = None,
    video: Annotated[str | None, typer.Option(help="Id of a stored video.")] = None,
    vector: Annotated[Path | None, typer.Option(help="File of one embedding: .npy or a JSON list.")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder id of --vector.")] = "",
    patient: Annotated[str, typer.Option(help="Whose --vector it is: excluded from the answer.")] = "",
    k: Annotated[int, typer.Option("--k", "-k", help="How many hits.")] = 10,
    group_by: Annotated[str, typer.Option(help="clip, video or patient.")] = "clip",
    label: Annotated[list[str] | None, typer.Option(help="Only hits of this label; repeat for more.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only hits with this semiology tag; repeat for more.")] = None,
    recorded_from: Annotated[str, typer.Option(help="Only hits recorded then or later, ISO 8601.")] = "",
    recorded_until: Annotated[str, typer.Option(help="Only hits recorded before, ISO 8601.")] = "",
    include_own_patient: Annotated[
        bool, typer.Option("--include-own-patient", help="Also the query's patient.")
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
    from index.query import GroupBy, Options, SearchFilter
    from service.client import Client
    from service.connection import Connection

    if group_by not in {group.value for group in GroupBy}:
        raise InvalidInput(f"expected --group-by clip, video or patient, got {group_by!r}")
    if not 0 <= k < 2**32:
        raise InvalidInput(f"expected --k of 1 to 1000, got {k}")
    where = SearchFilter(
        labels=frozenset(label or ()),
        semiology=frozenset(tag or ()),
        recorded_from=recorded_from,
        recorded_until=recorded_until,
    )
    query = _query(clip, video, vector, encoder, patient)
    options = Options(where, GroupBy(group_by), include_own_patient=include_own_patient)
    with Client(Connection(server, ca=ca, certificate=certificate, key=key, token_file=token_file)) as client:
        answer = client.search(query, k, options)
    screen = Screen(as_json=as_json)
    rows = [
        (
            rank,
            n.similarity,
            n.label or "-",
            n.clip.patient_id,
            n.clip.video_id,
            f"{n.clip.start_s:.0f} s",
            n.clip.clip_id,
        )
        for rank, n in enumerate(answer.neighbours, start=1)
    ]
    screen.result(
        {**asdict(answer.provenance), "neighbours": [neighbour_values(n) for n in answer.neighbours]},
        lambda: screen.table(
            f"Nearest of generation {answer.provenance.generation}",
            ("", "similarity", "label", "patient", "video", "at", "clip"),
            rows,
        ),
    )


def classify(
    clip: Annotated[list[str] | None, typer.Option(help="Id of a stored clip; repeat for more.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="Id of a stored video; repeat for more.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    ca: CaOption = None,
    token_file: TokenOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Temporal or extratemporal? Asks a running server; ends with 3 when some items failed."""
    from index.errors import InvalidInput
    from index.query import ClipQuery, VideoQuery
    from service.client import Client
    from service.connection import Connection

    items: list[ClipQuery | VideoQuery] = [*map(ClipQuery, clip or ()), *map(VideoQuery, video or ())]
    if not items:
        raise InvalidInput("name at least one --clip or --video")
    names = [item.clip_id if isinstance(item, ClipQuery) else item.video_id for item in items]
    with Client(Connection(server, ca=ca, certificate=certificate, key=key, token_file=token_file)) as client:
        answer = client.classify_batch(items)
    screen = Screen(as_json=as_json)
    results = [verdict_values(name, result) for name, result in zip(names, answer.results, strict=True)]
    rows = [
        (r["id"], r["label"], f"{r['extle_probability']:.3f}", f"{r['votes'][0]} : {r['votes'][1]}")
        if result.judged
        else (r["id"], r["code"], "", r["message"])
        for r, result in zip(results, answer.results, strict=True)
    ]
    screen.result(
        {**asdict(answer.provenance), "verdicts": results},
        lambda: screen.table(
            "Verdicts (research use only)", ("item", "verdict", "P(exTLE)", "votes TLE : exTLE"), rows
        ),
    )
    if any(result.judged is None for result in answer.results):
        raise typer.Exit(3)


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
    return {
        "id": name,
        "code": result.code,
        "label": verdict.label,
        "extle_probability": verdict.probability,
        "votes": list(verdict.votes),
        "tie": verdict.tie,
        "clips": [
            {
                "clip_id": clip.clip_id,
                "start_s": clip.start_s,
                "extle_probability": vote.probability,
                "label": vote.label,
            }
            for clip, vote in zip(clips, verdict.clips, strict=True)
        ],
    }


def _query(clip: str | None, video: str | None, vector: Path | None, encoder: str, patient: str) -> Query:
    from index.errors import InvalidInput
    from index.query import ClipQuery, VectorQuery, VideoQuery

    if sum(value is not None for value in (clip, video, vector)) != 1:
        raise InvalidInput("name exactly one of --clip, --video and --vector")
    if clip is not None:
        return ClipQuery(clip)
    if video is not None:
        return VideoQuery(video)
    return VectorQuery(_read_vector(vector), encoder, patient)


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
