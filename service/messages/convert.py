"""Between messages and records of searches, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc
import numpy as np
from google.rpc import status_pb2

from index.errors import InvalidInput
from index.query import (
    ANYTHING,
    PLAIN,
    AllOf,
    AnyOf,
    ClipQuery,
    ExamplesQuery,
    Filter,
    GroupBy,
    Not,
    Options,
    Query,
    SearchFilter,
    VectorQuery,
    VideoQuery,
)
from index.records import Clip, Match, Neighbour, Provenance, SearchAnswer
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from service.records import SearchBatchAnswer, SearchResultItem

_GROUPS = {
    common.GROUP_BY_UNSPECIFIED: GroupBy.CLIP,
    common.GROUP_BY_CLIP: GroupBy.CLIP,
    common.GROUP_BY_VIDEO: GroupBy.VIDEO,
    common.GROUP_BY_PATIENT: GroupBy.PATIENT,
}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_NUMBERS = {name: number for number, name in _CODES.items()}
_FLOAT32 = np.dtype("<f4")
_FILTER_DEPTH, _FILTERS, _FILTER_VALUES = 4, 32, 20_000
_SETS = (
    *("labels", "semiology", "patient_ids", "excluded_patient_ids"),
    *("video_ids", "excluded_video_ids", "cameras"),
)
DEFAULT_K = 10


def query_from_proto(message: retrieval.Query) -> Query:
    """What is searched for.

    Raises:
        InvalidInput: If nothing is, or the vector is not one.
    """
    match message.WhichOneof("query"):
        case "clip_id":
            return ClipQuery(message.clip_id)
        case "video_id":
            return VideoQuery(message.video_id)
        case "vector":
            return vector_from_proto(message.vector)
        case _:
            raise InvalidInput("expected one of clip_id, video_id or vector, got none", field="query")


def query_to_proto(query: Query) -> retrieval.Query:
    """The query as a message.

    Raises:
        InvalidInput: If it is one by examples: see `recommend_request`.
    """
    match query:
        case ClipQuery():
            return retrieval.Query(clip_id=query.clip_id)
        case VideoQuery():
            return retrieval.Query(video_id=query.video_id)
        case VectorQuery():
            return retrieval.Query(vector=vector_to_proto(query))
        case _:
            raise InvalidInput("examples are asked about with recommend, not with search")


def vector_from_proto(message: common.Vector) -> VectorQuery:
    """An embedding.

    Raises:
        InvalidInput: If its bytes are not whole values.
    """
    if len(message.values) % _FLOAT32.itemsize:
        raise InvalidInput(f"expected values of 4 bytes each, got {len(message.values)} bytes", field="vector.values")
    values = np.frombuffer(message.values, _FLOAT32).astype(np.float32)
    return VectorQuery(values, message.encoder_id, message.patient_id)


def vector_to_proto(vector: VectorQuery) -> common.Vector:
    """An embedding as a message."""
    values = np.ascontiguousarray(vector.vector, _FLOAT32).tobytes()
    return common.Vector(values=values, encoder_id=vector.encoder_id, patient_id=vector.patient_id)


def filter_from_proto(message: common.Filter) -> Filter:
    """What a hit must be.

    Raises:
        InvalidInput: If a label or time is none, or filters are too many or nested too deep.
    """
    left = [_FILTERS, _FILTER_VALUES]

    def read(one: common.Filter, depth: int) -> Filter:
        left[0] -= 1
        if depth > _FILTER_DEPTH or left[0] < 0:
            raise InvalidInput(
                f"expected at most {_FILTERS} filters, nested at most {_FILTER_DEPTH} deep", field="filter"
            )
        left[1] -= sum(len(getattr(one, name)) for name in (*_SETS, "metadata"))
        if left[1] < 0:
            raise InvalidInput(f"expected at most {_FILTER_VALUES} values in all filters together", field="filter")
        plain = SearchFilter(
            **{name: frozenset(getattr(one, name)) for name in _SETS},
            metadata=frozenset((pair.name, pair.value) for pair in one.metadata),
            recorded_from=one.recorded_from,
            recorded_until=one.recorded_until,
        )
        parts: list[Filter] = []
        if one.any_of:
            parts.append(AnyOf(tuple(read(part, depth + 1) for part in one.any_of)))
        parts += [Not(read(part, depth + 1)) for part in one.none_of]
        return AllOf((plain, *parts)) if parts else plain

    return read(message, 1)


def filter_to_proto(where: Filter) -> common.Filter:
    """The filter as a message."""
    match where:
        case SearchFilter():
            sets = {name: sorted(getattr(where, name)) for name in _SETS}
            made = common.Filter(**sets, recorded_from=where.recorded_from, recorded_until=where.recorded_until)
            for name, value in sorted(where.metadata):
                made.metadata.add(name=name, value=value)
            return made
        case AnyOf() if where.filters:
            return common.Filter(any_of=map(filter_to_proto, where.filters))
        case Not():
            return common.Filter(none_of=[filter_to_proto(where.filter)])
        case AllOf():  # what holds for all is that it does not fail for one
            return common.Filter(none_of=[filter_to_proto(Not(one)) for one in where.filters])
        case _:
            return common.Filter(none_of=[common.Filter()])


def options_from_proto(message: retrieval.SearchOptions) -> tuple[int, Options]:
    """How many hits, and how to search. An absent k is the default; a k of 0 stays 0 and is refused by the search.

    Raises:
        InvalidInput: If this version does not know the group, or options do not go together.
    """
    k = message.k if message.HasField("k") else DEFAULT_K
    if message.group_by not in _GROUPS:
        raise InvalidInput(f"expected group_by of 0 to {max(_GROUPS)}, got {message.group_by}", field="group_by")
    options = Options(
        where=filter_from_proto(message.filter) if message.HasField("filter") else ANYTHING,
        group_by=_GROUPS[message.group_by],
        mean_of=message.mean_of or 1,
        include_own_patient=message.include_own_patient,
        exact=message.exact,
        aligned=message.aligned,
        signs=message.signs,
    )
    return k, PLAIN if options == PLAIN else options


def options_to_proto(k: int, options: Options) -> retrieval.SearchOptions:
    """The options as a message."""
    return retrieval.SearchOptions(
        k=k,
        group_by=f"GROUP_BY_{options.group_by.name}",
        filter=None if options.where == ANYTHING else filter_to_proto(options.where),
        include_own_patient=options.include_own_patient,
        mean_of=options.mean_of,
        exact=options.exact,
        aligned=options.aligned,
        signs=options.signs,
    )


def item_from_proto(message: common.Item) -> ClipQuery | VideoQuery:
    """A stored clip or video.

    Raises:
        InvalidInput: If nothing is named.
    """
    match message.WhichOneof("item"):
        case "clip_id":
            return ClipQuery(message.clip_id)
        case "video_id":
            return VideoQuery(message.video_id)
        case _:
            raise InvalidInput("expected a clip_id or a video_id, got none", field="item")


def item_to_proto(item: ClipQuery | VideoQuery) -> common.Item:
    """The item as a message."""
    if isinstance(item, ClipQuery):
        return common.Item(clip_id=item.clip_id)
    return common.Item(video_id=item.video_id)


def examples_from_proto(request: retrieval.RecommendRequest) -> ExamplesQuery:
    """What hits should resemble, and what not.

    Raises:
        InvalidInput: If there is no positive example, or there are too many examples.
    """
    return ExamplesQuery(tuple(map(item_from_proto, request.positive)), tuple(map(item_from_proto, request.negative)))


def search_request(query: Query, k: int, options: Options) -> retrieval.SearchRequest:
    """The message that asks for this search."""
    return retrieval.SearchRequest(query=query_to_proto(query), options=options_to_proto(k, options))


def hits_to_proto(neighbours: Iterable[Neighbour]) -> list[common.Hit]:
    """Hits as messages."""
    return [
        common.Hit(
            clip=clip_to_proto(n.clip),
            label=n.label,
            similarity=n.similarity,
            query_clip_id=n.query_clip_id,
            matches=[
                common.Match(clip=clip_to_proto(m.clip), similarity=m.similarity, query_clip_id=m.query_clip_id)
                for m in n.matches
            ],
        )
        for n in neighbours
    ]


def hits_from_proto(hits: Iterable[common.Hit]) -> tuple[Neighbour, ...]:
    """The messages as hits."""
    return tuple(
        Neighbour(
            clip_from_proto(hit.clip),
            hit.label,
            hit.similarity,
            hit.query_clip_id,
            tuple(Match(clip_from_proto(m.clip), m.similarity, m.query_clip_id) for m in hit.matches),
        )
        for hit in hits
    )


def search_response(answer: SearchAnswer) -> retrieval.SearchResponse:
    """The answer as a message."""
    return retrieval.SearchResponse(
        provenance=provenance_to_proto(answer.provenance),
        hits=hits_to_proto(answer.neighbours),
    )


def search_answer(message: retrieval.SearchResponse | retrieval.RecommendResponse) -> SearchAnswer:
    """The message as an answer."""
    return SearchAnswer(provenance_from_proto(message.provenance), hits_from_proto(message.hits))


def search_batch_response(answer: SearchBatchAnswer) -> retrieval.SearchBatchResponse:
    """The answer as a message."""
    results = [
        retrieval.SearchBatchResult(status=status(one.code, one.message), hits=hits_to_proto(one.neighbours))
        for one in answer.results
    ]
    return retrieval.SearchBatchResponse(provenance=provenance_to_proto(answer.provenance), results=results)


def search_batch_answer(message: retrieval.SearchBatchResponse) -> SearchBatchAnswer:
    """The message as an answer."""
    results = tuple(map(search_result, message.results))
    return SearchBatchAnswer(provenance_from_proto(message.provenance), results)


def search_result(message: retrieval.SearchBatchResult | retrieval.SearchStreamResponse) -> SearchResultItem:
    """One result of many."""
    return SearchResultItem(code_name(message.status), message.status.message, hits_from_proto(message.hits))


def status(code: str, message: str) -> status_pb2.Status:
    """A status by its name."""
    return status_pb2.Status(code=_NUMBERS[code], message=message)


def code_name(message: status_pb2.Status) -> str:
    """The name of a status."""
    return _CODES.get(message.code, "UNKNOWN")


def clip_to_proto(clip: Clip) -> common.Clip:
    """A clip as a message."""
    return common.Clip(
        clip_id=clip.clip_id,
        video_id=clip.video_id,
        patient_id=clip.patient_id,
        clip_index=clip.clip_index,
        start_seconds=clip.start_s,
        valid_seconds=clip.valid_seconds,
    )


def clip_from_proto(message: common.Clip) -> Clip:
    """The message as a clip."""
    return Clip(
        clip_id=message.clip_id,
        video_id=message.video_id,
        patient_id=message.patient_id,
        clip_index=message.clip_index,
        start_s=message.start_seconds,
        valid_seconds=message.valid_seconds,
    )


def provenance_to_proto(provenance: Provenance) -> common.Provenance:
    """Provenance as a message."""
    return common.Provenance(
        encoder_id=provenance.encoder_id,
        generation=provenance.generation,
        head_id=provenance.head_id,
        table_version=provenance.table_version,
        encoder_kind=provenance.encoder_kind,
    )


def provenance_from_proto(message: common.Provenance) -> Provenance:
    """The message as provenance."""
    return Provenance(
        message.encoder_id, message.generation, message.head_id, message.table_version, message.encoder_kind
    )


def patients_of(neighbours: Iterable[Neighbour]) -> set[str]:
    """Whose clips hits are."""
    patients = set()
    for hit in neighbours:
        patients.add(hit.clip.patient_id)
        patients.update(match.clip.patient_id for match in hit.matches)
    return patients


def queries_from_proto(messages: Sequence[retrieval.Query]) -> list[Query | InvalidInput]:
    """Many queries; one that can't be understood stands there as its error."""
    queries: list[Query | InvalidInput] = []
    for message in messages:
        try:
            queries.append(query_from_proto(message))
        except InvalidInput as error:
            queries.append(error)
    return queries
