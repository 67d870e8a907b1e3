"""`semiome.v1.RetrievalService`: message in, one call to what is known, message out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput, SemiomeError
from index.processors import usable_cores
from index.query import PLAIN, ClipQuery, ExamplesQuery, Options, Query, VectorQuery, VideoQuery
from index.records import Neighbour
from index.search.search import nearest_rows, search_each
from protos import retrieval_pb2 as retrieval
from service.errors import rich_status
from service.gate import disclosure
from service.gate.call import Call, Method
from service.messages import convert, convert_verdict
from service.methods.uploads import Uploads
from service.records import Judged, SearchAnswer
from service.serving.batcher import Batcher
from service.serving.state import Knowledge, check_answered, check_size
from service.serving.watcher import Source

_AT_ONCE = 32
_SERVICE = "/semiome.v1.RetrievalService/"
_BATCH_BYTES = 2**26
"""Vectors of a thousand queries, or a piece of a film: as large as a server's settings allow."""


class Retrieval:
    """Answers searches.

    Args:
        source: what is known.
        uploads: embeds videos.
        on_batch: told how many searches were made in one pass.
        on_verdict: told each verdict on an upload.
    """

    def __init__(
        self,
        source: Source,
        uploads: Uploads,
        on_batch: Callable[[int], None],
        on_verdict: Callable[[Judged], None],
    ) -> None:
        self._source = source
        self._on_verdict = on_verdict
        self._uploads = uploads
        self._batcher: Batcher[Query, _Rows | SearchAnswer] = Batcher(_ask, on_batch)

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
        pages = bool(request.page_size or request.page_token)
        if options is PLAIN and isinstance(query, ClipQuery | VectorQuery) and call.caller.sees_widely and not pages:
            return await self._plain(query, k, call)
        answer = await self._found(query, k, options, call, request.page_size, request.page_token)
        return convert.search_response(answer)

    async def search_batch(
        self, request: retrieval.SearchBatchRequest, call: Call
    ) -> retrieval.SearchBatchResponse | bytes:
        """Many searches, each with its status; plain ones that all go well are answered as bytes."""
        check_size(len(request.queries), "queries")
        queries = convert.queries_from_proto(request.queries)
        k, options = convert.options_from_proto(request.options)
        check_answered(len(queries), k, options)
        for query in queries:
            if not isinstance(query, SemiomeError):
                disclosure.check(call.caller, query, k, options)
        asked_about = [item for one in queries if not isinstance(one, SemiomeError) for item in items_of(one)]
        call.queries(len(queries))
        call.check_deadline()
        knowledge = self._source.knowledge
        if options is PLAIN and call.caller.sees_widely and len(asked_about) == len(queries):
            found = await call.work(_rows_of_many, knowledge, queries, k)
            if found is not None:
                call.check_deadline()
                return knowledge.hit_bytes.batch_response(
                    (one.rows, self._told(one, knowledge, call), query.clip_id)
                    for query, one in zip(queries, found, strict=True)
                    if isinstance(query, ClipQuery)
                )
        narrow = not call.caller.sees_widely
        how = (disclosure.NARROW_HITS, PLAIN) if narrow else (k, options)
        answer = await call.work(knowledge.search_batch, queries, *how)
        call.check_deadline()
        results = tuple(
            replace(one, neighbours=_seen(one.neighbours, k, options, knowledge, call)) for one in answer.results
        )
        patients = {patient for one in results for patient in convert.patients_of(one.neighbours)}
        call.reads(answer.provenance, patients | await call.work(knowledge.patients_of, asked_about))
        return convert.search_batch_response(replace(answer, results=results))

    async def search_stream(
        self, requests: AsyncIterator[retrieval.SearchStreamRequest], call: Call
    ) -> AsyncIterator[retrieval.SearchStreamResponse]:
        """A search for each request; one that fails is answered with its status and ends nothing."""
        async for request in requests:
            try:
                query = convert.query_from_proto(request.query)
                k, options = convert.options_from_proto(request.options)
                answer = await self._found(query, k, options, call)
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
        check_size(len(request.positive) + len(request.negative), "examples")
        query = convert.examples_from_proto(request)
        k, options = convert.options_from_proto(request.options)
        answer = await self._found(query, k, options, call)
        return retrieval.RecommendResponse(
            provenance=convert.provenance_to_proto(answer.provenance), hits=convert.hits_to_proto(answer.neighbours)
        )

    async def search_by_video(
        self, requests: AsyncIterator[retrieval.SearchByVideoRequest], call: Call
    ) -> retrieval.SearchByVideoResponse:
        """What resembles a video that is uploaded."""
        answer = await self._uploads.answer(requests, call)
        neighbours, judged = disclosure.shown(call.caller, answer.neighbours), answer.judged
        if judged is not None:
            judged = disclosure.shown_judged(call.caller, judged)
            self._on_verdict(judged)
        call.reads(answer.provenance, {clip.patient_id for clip in answer.clips} | convert.patients_of(neighbours))
        return convert_verdict.upload_response(replace(answer, neighbours=neighbours, judged=judged))

    async def _plain(self, query: Query, k: int, call: Call) -> bytes | retrieval.SearchResponse:
        """What most searches are, many callers' in one pass."""
        disclosure.check(call.caller, query, k, PLAIN)
        call.queries(1)
        call.check_deadline()
        knowledge = self._source.knowledge
        found = await self._batcher.answer((knowledge, k), query)
        call.check_deadline()
        if isinstance(found, SearchAnswer):
            return convert.search_response(await self._shown(found, query, k, PLAIN, knowledge, call))
        values = self._told(found, knowledge, call)
        clip_id = query.clip_id if isinstance(query, ClipQuery) else ""
        return knowledge.hit_bytes.response(found.rows, values, clip_id)

    def _told(self, found: _Rows, knowledge: Knowledge, call: Call) -> list[float]:
        """Similarities as the caller may see them; whose hits these are goes into the log."""
        names, patient_of_row = knowledge.snapshot.patient_ids, knowledge.snapshot.patient_of_row
        call.reads(knowledge.provenance, map(names.__getitem__, patient_of_row[found.rows].tolist()))
        if found.patient:
            call.patients.add(found.patient)
        return disclosure.shown_values(call.caller, found.similarities)

    async def _found(
        self, query: Query, k: int, options: Options, call: Call, page_size: int = 0, page_token: str = ""
    ) -> SearchAnswer:
        """What is found, as the caller may see it."""
        disclosure.check(call.caller, query, k, options, pages=bool(page_token or page_size))
        call.queries(1)
        call.check_deadline()
        knowledge = self._source.knowledge
        how = (k, options) if call.caller.sees_widely else (disclosure.NARROW_HITS, PLAIN)
        answer = await call.work(knowledge.search, query, *how, page_size, page_token)
        call.check_deadline()
        return await self._shown(answer, query, k, options, knowledge, call)

    async def _shown(
        self, answer: SearchAnswer, query: Query, k: int, options: Options, knowledge: Knowledge, call: Call
    ) -> SearchAnswer:
        answer = replace(answer, neighbours=_seen(answer.neighbours, k, options, knowledge, call))
        call.reads(answer.provenance, await call.work(knowledge.patients_of, items_of(query)))
        call.reads(answer.provenance, convert.patients_of(answer.neighbours))
        return answer


def _seen(
    neighbours: tuple[Neighbour, ...], k: int, options: Options, knowledge: Knowledge, call: Call
) -> tuple[Neighbour, ...]:
    """Hits as the caller may see them."""
    if call.caller.sees_widely:
        return disclosure.shown(call.caller, neighbours)
    return disclosure.chosen(neighbours, k, options, knowledge.snapshot.videos)


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


def _rows_of_many(knowledge: Knowledge, queries: Sequence[Query | InvalidInput], k: int) -> list[_Rows] | None:
    """Rows of plain searches for stored clips, on every core; None where one of them is another kind, or fails."""
    asked = [query for query in queries if isinstance(query, ClipQuery)]
    if len(asked) < len(queries):
        return None
    parts = [asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE)]
    try:
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = list(pool.map(lambda part: nearest_rows(knowledge.snapshot, part, k), parts))
    except SemiomeError:
        return None
    if any(one is None for one in found):
        return None
    return [row for one in found if one for row in map(_Rows, one.rows, one.similarities, one.patients)]


def _ask(key: object, queries: Sequence[Query]) -> list[_Rows | SearchAnswer | BaseException]:
    """Plain searches of one snapshot in one pass over its index; where that can't be, one by one."""
    knowledge: Knowledge
    k: int
    knowledge, k = key  # type: ignore[misc]
    try:
        found = nearest_rows(knowledge.snapshot, queries, k)
    except SemiomeError:  # of one of them
        found = None
    if found is not None:
        return list(map(_Rows, found.rows, found.similarities, found.patients))
    results = search_each(knowledge.snapshot, queries, k)
    return [result if isinstance(result, SemiomeError) else knowledge.answer(result) for result in results]
