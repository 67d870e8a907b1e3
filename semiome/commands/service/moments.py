"""`semiome moments`: where in long recordings the same course of signs turns up, asked of a server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from index.moment_records import Moment


def moments(
    clip: Annotated[str | None, typer.Option(help="Id of a stored clip.")] = None,
    video: Annotated[
        str | None, typer.Option(help="Id of a stored video; its seizure, where the onset is known.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Video file that is not stored; nothing of it is kept.")] = None,
    patient: Annotated[str, typer.Option(help="Patient of --file: left out of the answer.")] = "",
    within: Annotated[
        list[str] | None, typer.Option("--in", help="Id of a video to look in; repeat for more; default: all.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only in videos of this label; repeat for more.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Number of moments.")] = 10,
    include_own_patient: Annotated[
        bool, typer.Option("--include-own-patient", help="Also find moments of the query's patient.")
    ] = False,
    max_per_hour: Annotated[
        float | None,
        typer.Option(
            help="Leave out a moment if stretches as similar occur more often than this in an hour of background."
        ),
    ] = None,
    onset: Annotated[
        bool, typer.Option("--onset", help="Give times from the onset of the seizure, where it is known.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    ca: CaOption = None,
    token_file: TokenOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the stretches of stored videos and recordings that show the same course of signs. Asks a running server."""
    from encoder.model.kind import what_it_means
    from index.errors import InvalidInput
    from index.moment_records import MomentsAnswer
    from index.query import MAX_K, ClipQuery, Options, SearchFilter, VideoQuery
    from service.calling.connection import Connection
    from service.client import Client

    if sum(given is not None for given in (clip, video, file)) != 1:
        raise InvalidInput("name exactly one of --clip, --video and --file")
    if patient and file is None:
        raise InvalidInput("--patient is about --file: whose stored clips and videos are is known")
    if file is not None and not file.is_file():
        raise InvalidInput("--file names no file")
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected --k of 1 to {MAX_K}, got {k}")
    where = SearchFilter(labels=frozenset(label or ()), video_ids=frozenset(within or ()))
    screen = Screen(as_json=as_json)
    with Client(Connection(server, ca=ca, certificate=certificate, key=key, token_file=token_file)) as client:
        if within:
            known = {one.video_id for one in client.videos(SearchFilter(video_ids=frozenset(within)))}
            if unknown := sorted(set(within) - known):
                raise InvalidInput(f"--in: {unknown[0]} is not stored: check the id")
        if file is not None:
            options = Options(where, include_own_patient=include_own_patient)
            found = client.search_by_video(file, 1, options, patient_id=patient, moments=k, max_per_hour=max_per_hour)
            answer = MomentsAnswer(found.provenance, found.moments)
            if not (found.patient_known or include_own_patient):
                screen.warn(
                    "it is not known whose video this is: moments of the same patient may be among them; name --patient"
                )
        else:
            query = VideoQuery(video) if video is not None else ClipQuery(clip or "")
            answer = client.moments(query, k, where, include_own_patient=include_own_patient, max_per_hour=max_per_hour)

    if warning := what_it_means(answer.provenance.encoder_kind):
        screen.warn(warning)
    if not answer.moments and max_per_hour is None:
        screen.note(
            "no other video matches --in and --label"
            + (
                ""
                if include_own_patient
                else "; those of the query's own patient are searched with --include-own-patient"
            )
        )

    def show() -> None:
        rows = [(rank, *_row(one, from_onset=onset)) for rank, one in enumerate(answer.moments, start=1)]
        columns = (
            "",
            "similarity",
            "label",
            "patient",
            "video",
            "from",
            "to",
            "per hour",
            *(["from its"] if onset else []),
        )
        times = "from the onset where it is known, else of the file" if onset else "of each video's file"
        screen.table(f"Moments of generation {answer.provenance.generation}, seconds {times}", columns, rows)
        if any(one.per_hour is None for one in answer.moments):
            screen.note(
                "too little background is stored to say how often stretches as similar occur: an hour is needed, of "
                "the moment's patient or of others; `semiome events import --background` makes rows of it"
            )

    screen.result(
        {**asdict(answer.provenance), "moments": [_values(one, from_onset=onset) for one in answer.moments]}, show
    )


def _times(moment: Moment, *, from_onset: bool) -> tuple[float, float, str]:
    """Where it begins and ends, and what the seconds count from."""
    if from_onset and moment.onset_s is not None:
        return round(moment.start_s - moment.onset_s, 3), round(moment.end_s - moment.onset_s, 3), "onset"
    return moment.start_s, moment.end_s, "file"


def _row(moment: Moment, *, from_onset: bool) -> tuple[object, ...]:
    start, end, of = _times(moment, from_onset=from_onset)
    shown = (moment.similarity, moment.label or "-", moment.patient_id, moment.video_id)
    return (*shown, f"{start:.12g} s", f"{end:.12g} s", _often(moment), *([of] if from_onset else []))


def _often(moment: Moment) -> str:
    """How often a stretch as similar turns up by chance, and in whose background that was counted."""
    rate = moment.rate
    if rate is None:
        return "-"
    return f"{rate.per_hour:.2g} ({'own' if rate is moment.per_hour_patient else 'others'})"


def _values(moment: Moment, *, from_onset: bool) -> dict[str, object]:
    start, end, of = _times(moment, from_onset=from_onset)
    zero = moment.start_s - start
    pairs = [{**asdict(pair), "start_s": round(pair.start_s - zero, 3)} for pair in moment.pairs]
    return {
        **asdict(moment),
        "start_s": start,
        "end_s": end,
        "seconds_from": of,
        "pairs": pairs,
        "per_hour": moment.per_hour,
    }
