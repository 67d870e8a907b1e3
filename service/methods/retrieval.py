"""`semiome.v1.RetrievalService`: message in, one call to what is known, message out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput, SemiomeError
from index.moment_records import MomentsAnswer, SimilarityAnswer
from index.processors import usable_cores
from index.query import MAX_EXAMPLES, PLAIN, ClipQuery, ExamplesQuery, Options, Query, VectorQuery, VideoQuery
from index.records import SearchAnswer
from index.search.moments import course_of, find_moments, similarity_along
from index.search.search import nearest_rows, search_each
from protos import retrieval_pb2 as retrieval
from service.errors import rich_status
from service.gate import disclosure
from service.gate.call import Call, Method
from service.messages import convert, convert_moments, convert_verdict
from service.methods.uploads import Uploads
from service.records import Judged
from service.serving.batcher import Batcher
from service.serving.state import ServingState, check_answered, check_size
from service.serving.watcher import StateWatcher

_AT_ONCE = 32
_SERVICE = "/semiome.v1.RetrievalService/"
_BATCH_BYTES = 2**26
"""Vectors of a thousand queries, or a piece of a film: as large as a server's settings allow."""


class Retrieval:
    """Answers searches.

    Args:
        watcher: gives the state that serves.
        uploads: embeds videos.
        on_batch: told how many searches were made in one pass.
        on_verdict: told each verdict on an upload.
    """

    def __init__(
        self,
        watcher: StateWatcher,
        uploads: Uploads,
        on_batch: Callable[[int], None],
        on_verdict: Callable[[Judged], None],
    ) -> None:
        self._watcher = watcher
        self._on_verdict = on_verdict
        self._uploads = uploads
        self._batcher: Batcher[Query, _Rows | None] = Batcher(_ask, on_batch)

    def methods(self) -> tuple[Method, ...]:
        """Everything this service answers."""
        return (
            Method(f"{_SERVICE}Search", retrieval.SearchRequest, self.search),
            Method(f"{_SERVICE}SearchBatch", retrieval.SearchBatchRequest, self.search_batch, most_bytes=_BATCH_BYTES),
            Method(
                f"{_SERVICE}SearchStream",
                retrieval.SearchStreamRequest,
                self.search_stream,
                streams_in=True,
                streams_out=True,
            ),
            Method(f"{_SERVICE}Recommend", retrieval.RecommendRequest, self.recommend),
            Method(f"{_SERVICE}FindMoments", retrieval.FindMomentsRequest, self.find_moments),
            Method(f"{_SERVICE}GetSimilarity", retrieval.GetSimilarityRequest, self.get_similarity),
            Method(
                f"{_SERVICE}SearchByVideo",
                retrieval.SearchByVideoRequest,
                self.search_by_video,
                streams_in=True,
                most_bytes=_BATCH_BYTES,
            ),
        )

    def close(self) -> None:
        """End the search thread."""
        self._batcher.close()

    async def search(self, request: retrieval.SearchRequest, call: Call) -> retrieval.SearchResponse | bytes:
        """Nearest clips, videos or patients; of most searches the answer is put together as bytes."""
        query = convert.query_from_proto(request.query)
        k, options = convert.options_from_proto(request.options)
        state, (found,) = await self._found([query], k, options, call, rows=True)
        if isinstance(found, _Rows):
            return state.hit_bytes.response(found.rows, self._shown_rows(found, state, call), _clip_id(query))
        return convert.search_response(_or_raise(found))

    async def search_batch(
        self, request: retrieval.SearchBatchRequest, call: Call
    ) -> retrieval.SearchBatchResponse | bytes:
        """Many searches, each with its status; plain ones that all go well are answered as bytes."""
        check_size(len(request.queries), "queries")
        queries = convert.queries_from_proto(request.queries)
        k, options = convert.options_from_proto(request.options)
        check_answered(len(queries), k, options)
        state, found = await self._found(queries, k, options, call, rows=True)
        rows = [one for one in found if isinstance(one, _Rows)]
        if len(rows) == len(found):
            return state.hit_bytes.batch_response(
                (one.rows, self._shown_rows(one, state, call), _clip_id(query))
                for query, one in zip(queries, rows, strict=True)
            )
        answers = [one for one in found if not isinstance(one, _Rows)]
        return convert.search_batch_response(state.batch_answer(answers))

    async def search_stream(
        self, requests: AsyncIterator[retrieval.SearchStreamRequest], call: Call
    ) -> AsyncIterator[retrieval.SearchStreamResponse]:
        """A search for each request; one that fails is answered with its status and ends nothing."""
        async for request in requests:
            try:
                query = convert.query_from_proto(request.query)
                answer = await self._one(query, *convert.options_from_proto(request.options), call)
            except SemiomeError as error:
                yield retrieval.SearchStreamResponse(status=rich_status(error, call.request_id))
                continue
            yield retrieval.SearchStreamResponse(
                status=convert.status("OK", ""),
                provenance=convert.provenance_to_proto(answer.provenance),
                hits=convert.hits_to_proto(answer.neighbours),
            )

    async def recommend(self, request: retrieval.RecommendRequest, call: Call) -> retrieval.RecommendResponse:
        """What resembles some examples and not others."""
        check_size(len(request.positive) + len(request.negative), "examples", MAX_EXAMPLES)
        query = convert.examples_from_proto(request)
        answer = await self._one(query, *convert.options_from_proto(request.options), call)
        return retrieval.RecommendResponse(
            provenance=convert.provenance_to_proto(answer.provenance), hits=convert.hits_to_proto(answer.neighbours)
        )

    async def find_moments(self, request: retrieval.FindMomentsRequest, call: Call) -> retrieval.FindMomentsResponse:
        """Stretches of stored videos that show the same course of signs."""
        query, k, where = convert_moments.moments_wanted(request)
        disclosure.check_hits(call.caller, k)
        call.queries(1)
        call.check_deadline()
        state = self._watcher.state
        moments = await call.work(
            find_moments,
            *(state.snapshot, query, k, where),
            include_own_patient=request.include_own_patient,
            max_per_hour=request.max_per_hour if request.HasField("max_per_hour") else None,
            in_time=call.deadline_check(),
        )
        call.check_deadline()
        shown = disclosure.shown_moments(call.caller, moments)
        call.reads(state.provenance, {one.patient_id for one in shown})
        call.reads(state.provenance, await call.work(state.patients_of, [query]))
        return convert_moments.moments_response(MomentsAnswer(state.provenance, shown))

    async def get_similarity(
        self, request: retrieval.GetSimilarityRequest, call: Call
    ) -> retrieval.GetSimilarityResponse:
        """How similar each part of a stored video is to a course of signs."""
        query, video = convert.item_from_proto(request.query), VideoQuery(request.video_id)
        call.queries(1)
        call.check_deadline()
        state, in_time = self._watcher.state, call.deadline_check()
        course = await call.work(course_of, state.snapshot, query)
        starts, similarities = await call.work(similarity_along, state.snapshot, course, video.video_id, in_time)
        call.check_deadline()
        call.reads(state.provenance, await call.work(state.patients_of, [query, video]))
        shown = disclosure.shown_along(call.caller, similarities)
        answer = SimilarityAnswer(state.provenance, tuple(starts.round(3).tolist()), shown)
        return convert_moments.similarity_response(answer)

    async def search_by_video(
        self, requests: AsyncIterator[retrieval.SearchByVideoRequest], call: Call
    ) -> retrieval.SearchByVideoResponse:
        """What resembles a video that is uploaded."""
        answer = await self._uploads.answer(requests, call)
        neighbours, judged = disclosure.shown(call.caller, answer.neighbours), answer.judged
        if judged is not None:
            judged = disclosure.shown_judged(call.caller, judged)
            self._on_verdict(judged)
        moments = disclosure.shown_moments(call.caller, answer.moments)
        call.reads(answer.provenance, {clip.patient_id for clip in answer.clips} | convert.patients_of(neighbours))
        call.reads(answer.provenance, {one.patient_id for one in moments})
        shown = replace(answer, neighbours=neighbours, judged=judged, moments=moments)
        return convert_verdict.upload_response(shown)

    async def _one(self, query: Query, k: int, options: Options, call: Call) -> SearchAnswer:
        """What one search finds, as the caller may see it."""
        _, (found,) = await self._found([query], k, options, call)
        return _or_raise(found)

    async def _found(
        self,
        queries: Sequence[Query | InvalidInput],
        k: int,
        options: Options,
        call: Call,
        *,
        rows: bool = False,
    ) -> tuple[ServingState, Sequence[_Rows | SearchAnswer | SemiomeError]]:
        """What searches find, as the caller may see it, in the order of the queries; the one way of all methods.

        Args:
            queries: one that can't be understood stands there as its error.
            k: number of hits of each.
            options: options of all.
            call: the call.
            rows: give numbers instead of hits where all are plain searches, as most are.
        """
        asked = [query for query in queries if not isinstance(query, SemiomeError)]
        for query in asked:
            disclosure.check(call.caller, query, k, options)
        call.queries(len(queries))
        call.check_deadline()
        state = self._watcher.state
        if options.signs:
            options = await call.work(state.with_signs, options)
        if rows and options is PLAIN and call.caller.sees_widely:
            found = await self._rows(state, queries, k, call)
            if found is not None:
                call.check_deadline()
                return state, found
        how = (k, options) if call.caller.sees_widely else (disclosure.NARROW_HITS, PLAIN)
        answers = iter(await call.work(search_each, state.snapshot, asked, *how) if asked else ())
        call.check_deadline()
        results = [
            one if isinstance(one, SemiomeError) else _seen(one, k, options, state, call)
            for one in (query if isinstance(query, SemiomeError) else next(answers) for query in queries)
        ]
        went_well = [
            query
            for query, one in zip(queries, results, strict=True)
            if not isinstance(query, SemiomeError) and not isinstance(one, SemiomeError)
        ]
        asked_about = list(chain.from_iterable(map(items_of, went_well)))
        call.reads(state.provenance, await call.work(state.patients_of, asked_about))
        return state, results

    async def _rows(
        self, state: ServingState, queries: Sequence[Query | InvalidInput], k: int, call: Call
    ) -> Sequence[_Rows] | None:
        """Plain searches as numbers: one of many callers' in one pass over the index, many on every core."""
        if len(queries) > 1:
            return await call.work(_rows_of_many, state, queries, k)
        query = queries[0]
        if not isinstance(query, ClipQuery | VectorQuery):
            return None
        found = await self._batcher.answer((state, k), query)
        return [found] if isinstance(found, _Rows) else None

    def _shown_rows(self, found: _Rows, state: ServingState, call: Call) -> list[float]:
        """Similarities as the caller may see them; whose hits these are goes into the log."""
        names, patient_of_row = state.snapshot.patient_ids, state.snapshot.patient_of_row
        call.reads(state.provenance, map(names.__getitem__, patient_of_row[found.rows].tolist()))
        if found.patient:
            call.patients.add(found.patient)
        return disclosure.shown_values(call.caller, found.similarities)


def _seen(answer: SearchAnswer, k: int, options: Options, state: ServingState, call: Call) -> SearchAnswer:
    """Hits as the caller may see them; whose they are goes into the log."""
    if call.caller.sees_widely:
        neighbours = disclosure.shown(call.caller, answer.neighbours)
    else:
        neighbours = disclosure.chosen(answer.neighbours, k, options, state.snapshot.videos)
    call.reads(state.provenance, convert.patients_of(neighbours))
    return SearchAnswer(state.provenance, neighbours)


def _or_raise(found: _Rows | SearchAnswer | SemiomeError) -> SearchAnswer:
    if isinstance(found, SearchAnswer):
        return found
    assert isinstance(found, SemiomeError)  # noqa: S101  numbers come only where they are asked for
    raise found


def _clip_id(query: Query | InvalidInput) -> str:
    """The stored clip that a hit resembles, where a query names one."""
    return query.clip_id if isinstance(query, ClipQuery) else ""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What one plain search found: rows and similarities, best first, and whose clip was asked about."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    patient: str


def items_of(query: Query) -> list[ClipQuery | VideoQuery]:
    """The stored clips and videos that a query is about."""
    match query:
        case ClipQuery() | VideoQuery():
            return [query]
        case ExamplesQuery():
            return [*query.positive, *query.negative]
        case _:
            return []


def _rows_of_many(state: ServingState, queries: Sequence[Query | InvalidInput], k: int) -> list[_Rows] | None:
    """Rows of plain searches for stored clips, on every core; None where one of them is another kind, or fails."""
    asked = [query for query in queries if isinstance(query, ClipQuery)]
    if len(asked) < len(queries):
        return None
    parts = [asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE)]
    try:
        with ThreadPoolExecutor(usable_cores()) as pool:
            parts_found = list(pool.map(lambda part: nearest_rows(state.snapshot, part, k), parts))
    except SemiomeError:
        return None
    if any(one is None for one in parts_found):
        return None
    return [row for one in parts_found if one for row in map(_Rows, one.rows, one.similarities, one.patients)]


def _ask(key: object, queries: Sequence[Query]) -> list[_Rows | None]:
    """Plain searches of one snapshot in one pass over its index; None where that can't be, or one fails."""
    state: ServingState
    k: int
    state, k = key  # type: ignore[misc]
    try:
        nearest = nearest_rows(state.snapshot, queries, k)
    except SemiomeError:
        return [None] if len(queries) == 1 else [row for query in queries for row in _ask(key, [query])]
    if nearest is None:
        return [None] * len(queries)
    return list(map(_Rows, nearest.rows, nearest.similarities, nearest.patients))
