"""Between the review page's JSON and the records of the API, both ways. Pure: no state, no decisions."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from index.errors import InvalidInput
from index.feedback.statement import Feedback
from index.query import MAX_K, ClipQuery, ExamplesQuery, GroupBy, Options, Query, SearchFilter, VideoQuery
from index.records import Clip, Neighbour, Provenance, Video
from service.records import ClassifyAnswer, CountsAnswer, GenerationFacts, MapPage

_SETS = ("labels", "semiology", "cameras", "patient_ids", "video_ids", "excluded_video_ids")
_MOST_SECONDS, _LONGEST_TOKEN = 1e9, 16_384
_TIMES = ("recorded_from", "recorded_until")
_SAID = ("video_id", "clip_id", "query_video_id", "query_clip_id", "relevance", "label", "note")


def search_of(asked: object) -> tuple[Query, int, Options]:
    """What the page wants to be searched for.

    A whole video is compared clip by clip in time, one clip by itself; a stretch, and whatever is refined by examples,
    by the mean of its clips.

    Raises:
        InvalidInput: If it is no search.
    """
    values = _mapping(asked, "a search")
    group = _text(values, "group_by") or "video"
    if group not in {one.value for one in GroupBy}:
        raise InvalidInput("expected group_by of clip, video or patient", field="group_by")
    like, unlike = _items(values, "like"), _items(values, "unlike")
    if not like:
        raise InvalidInput("expected something to search for, got nothing", field="like")
    plain = len(like) == 1 and not unlike
    query: Query = like[0] if plain else ExamplesQuery(like, unlike)
    aligned = plain and isinstance(query, VideoQuery) and group == "video" and values.get("aligned") is True
    options = Options(
        where=filter_of(values.get("filter") or {}),
        group_by=GroupBy.VIDEO if aligned else GroupBy(group),
        include_own_patient=values.get("own_patient") is True,
        aligned=aligned,
    )
    k = values.get("k", 10)
    if not isinstance(k, int) or isinstance(k, bool) or not 0 <= k <= MAX_K:
        raise InvalidInput("expected a whole number of hits", field="k")
    return query, k, options


def filter_of(asked: object) -> SearchFilter:
    """What hits must be.

    Raises:
        InvalidInput: If it is no filter.
    """
    values = _mapping(asked, "a filter")
    if unknown := set(values) - {*_SETS, *_TIMES}:
        raise InvalidInput(f"expected {', '.join((*_SETS, *_TIMES))} in a filter, got {len(unknown)} others")
    given: dict[str, Any] = {name: frozenset(_texts(values, name)) for name in _SETS}
    given |= {name: _text(values, name) for name in _TIMES}
    return SearchFilter(**given)


def feedback_of(said: object) -> Feedback:
    """What somebody says.

    Raises:
        InvalidInput: If it is nothing of the kind.
    """
    values = _mapping(said, "feedback")
    given: dict[str, Any] = {name: _text(values, name) for name in _SAID}
    for name in ("start_s", "end_s"):
        value = values.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidInput("expected seconds", field=name)
        given[name] = float(value) if abs(value) < _MOST_SECONDS else _MOST_SECONDS  # which is refused
    return Feedback(patient_id="", semiology=tuple(_texts(values, "semiology")), **given)


def token_of(given: object) -> str:
    """The token of somebody who signs in; empty for none.

    Raises:
        InvalidInput: If it is no text.
    """
    token = _text(_mapping(given, "a sign-in"), "token").strip()
    if not (token.isascii() and token.isprintable() and len(token) <= _LONGEST_TOKEN):
        raise InvalidInput("expected a token: letters, digits and `. _ -` alone", field="token")
    return token


def feedback_values(said: Feedback) -> dict[str, Any]:
    """What somebody said."""
    return {name: value for name, value in asdict(said).items() if not name.endswith("patient_id")}


def provenance_values(made: Provenance) -> dict[str, Any]:
    """What an answer was made with."""
    return asdict(made)


def clip_values(clip: Clip) -> dict[str, Any]:
    """A clip."""
    return asdict(clip)


def video_values(video: Video) -> dict[str, Any]:
    """A video, without its file's digest."""
    return {name: value for name, value in asdict(video).items() if name not in {"source_sha256", "crop"}}


def hit_values(hit: Neighbour, videos: Mapping[str, Video]) -> dict[str, Any]:
    """A hit, with what is known of its video."""
    video = videos.get(hit.clip.video_id)
    return {
        "clip": clip_values(hit.clip),
        "label": hit.label,
        "similarity": hit.similarity,
        "query_clip_id": hit.query_clip_id,
        "matches": [
            {"clip": clip_values(one.clip), "similarity": one.similarity, "query_clip_id": one.query_clip_id}
            for one in hit.matches
        ],
        "video": None if video is None else video_values(video),
    }


def verdict_values(answer: ClassifyAnswer, clips: range | None = None) -> dict[str, Any]:
    """A verdict with its evidence; of the single clips those whose index is in a range, by default all."""
    judged = answer.judged
    verdict, evidence = judged.verdict, judged.evidence
    sets = evidence.prediction_set
    told = [
        (clip, one)
        for clip, one in zip(judged.clips, verdict.clips, strict=True)
        if clips is None or clip.clip_index in clips
    ]
    flipping = set(evidence.flipping_clip_ids)
    return {
        "provenance": provenance_values(answer.provenance),
        "label": verdict.label,
        "probability": verdict.probability,
        "votes": list(verdict.votes),
        "tie": verdict.tie,
        "threshold": evidence.threshold,
        "temperature": evidence.temperature,
        "clips": [{**clip_values(clip), "probability": one.probability, "label": one.label} for clip, one in told],
        "set": None if sets is None else {**asdict(sets), "abstains": sets.abstains},
        "flipping_clips": len(flipping),
        "flipping_clip_ids": [clip.clip_id for clip, _ in told if clip.clip_id in flipping],
        "fewest_flipping_clips": evidence.fewest_flipping_clips,
        "neighbours": [
            {"label": label, "hits": [hit_values(hit, {}) for hit in hits]} for label, hits in evidence.neighbours
        ],
        "distance": None if evidence.distance is None else asdict(evidence.distance),
        "trained_on_this_patient": evidence.trained_on_this_patient,
        "calibrated": evidence.calibrated,
        "separates_nothing": evidence.separates_nothing,
        "clips_without_picture": evidence.clips_without_picture,
    }


def counts_values(answer: CountsAnswer) -> dict[str, Any]:
    """How much is stored."""
    return {
        "provenance": provenance_values(answer.provenance),
        "total": asdict(answer.total),
        "labels": [asdict(one) for one in answer.labels],
        "semiology": [asdict(one) for one in answer.semiology],
    }


def generation_values(one: GenerationFacts) -> dict[str, Any]:
    """An index generation."""
    return asdict(one)


def map_values(page: MapPage) -> dict[str, Any]:
    """Points of the map; numbers as base64 of little-endian bytes."""
    return {
        "provenance": provenance_values(page.provenance),
        "total": page.total,
        "method": page.method,
        "positions": _base64(page.positions),
        "step": page.step,
        "video_of_point": _base64(page.video_of_point),
        "clip_index_of_point": _base64(page.clip_index_of_point),
        "videos": [asdict(one) for one in page.videos],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _items(values: Mapping[str, Any], name: str) -> tuple[ClipQuery | VideoQuery, ...]:
    found: list[ClipQuery | VideoQuery] = []
    for one in _list(values, name):
        item = _mapping(one, "a clip or video")
        if clip_id := _text(item, "clip_id"):
            found.append(ClipQuery(clip_id))
        elif video_id := _text(item, "video_id"):
            found.append(VideoQuery(video_id))
        else:
            raise InvalidInput("expected a clip_id or a video_id", field=name)
    return tuple(found)


def _mapping(given: object, what: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InvalidInput(f"expected {what}, a JSON object")
    return given


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    given = values.get(name, [])
    if not isinstance(given, list):
        raise InvalidInput("expected a list", field=name)
    return given


def _texts(values: Mapping[str, Any], name: str) -> Iterable[str]:
    given = _list(values, name)
    if not all(isinstance(one, str) and _is_text(one) for one in given):
        raise InvalidInput("expected a list of texts", field=name)
    return given


def _text(values: Mapping[str, Any], name: str) -> str:
    given = values.get(name, "")
    if not isinstance(given, str) or not _is_text(given):
        raise InvalidInput("expected a text", field=name)
    return given


def _is_text(given: str) -> bool:
    """Whether it can be written down: JSON may hold halves of letters."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True
