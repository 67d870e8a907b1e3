from google.rpc import status_pb2 as _status_pb2
from protos import classification_pb2 as _classification_pb2
from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Query(_message.Message):
    __slots__ = ("clip_id", "video_id", "vector")
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    clip_id: str
    video_id: str
    vector: _common_pb2.Vector
    def __init__(self, clip_id: _Optional[str] = ..., video_id: _Optional[str] = ..., vector: _Optional[_Union[_common_pb2.Vector, _Mapping]] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("k", "group_by", "filter", "include_own_patient", "mean_of", "exact", "aligned", "signs")
    K_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_OWN_PATIENT_FIELD_NUMBER: _ClassVar[int]
    MEAN_OF_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    ALIGNED_FIELD_NUMBER: _ClassVar[int]
    SIGNS_FIELD_NUMBER: _ClassVar[int]
    k: int
    group_by: _common_pb2.GroupBy
    filter: _common_pb2.Filter
    include_own_patient: bool
    mean_of: int
    exact: bool
    aligned: bool
    signs: str
    def __init__(self, k: _Optional[int] = ..., group_by: _Optional[_Union[_common_pb2.GroupBy, str]] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., include_own_patient: _Optional[bool] = ..., mean_of: _Optional[int] = ..., exact: _Optional[bool] = ..., aligned: _Optional[bool] = ..., signs: _Optional[str] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("query", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: Query
    options: SearchOptions
    def __init__(self, query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("provenance", "hits")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ...) -> None: ...

class SearchBatchRequest(_message.Message):
    __slots__ = ("queries", "options")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    options: SearchOptions
    def __init__(self, queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class SearchBatchResult(_message.Message):
    __slots__ = ("status", "hits")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ...) -> None: ...

class SearchBatchResponse(_message.Message):
    __slots__ = ("provenance", "results")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    results: _containers.RepeatedCompositeFieldContainer[SearchBatchResult]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., results: _Optional[_Iterable[_Union[SearchBatchResult, _Mapping]]] = ...) -> None: ...

class SearchStreamRequest(_message.Message):
    __slots__ = ("query", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: Query
    options: SearchOptions
    def __init__(self, query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class SearchStreamResponse(_message.Message):
    __slots__ = ("status", "provenance", "hits")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    provenance: _common_pb2.Provenance
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("positive", "negative", "options")
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    positive: _containers.RepeatedCompositeFieldContainer[_common_pb2.Item]
    negative: _containers.RepeatedCompositeFieldContainer[_common_pb2.Item]
    options: SearchOptions
    def __init__(self, positive: _Optional[_Iterable[_Union[_common_pb2.Item, _Mapping]]] = ..., negative: _Optional[_Iterable[_Union[_common_pb2.Item, _Mapping]]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("provenance", "hits")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("options", "patient_id", "store_as_video_id", "label", "size_bytes", "classify", "moments", "max_per_hour")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_AS_VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLASSIFY_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    options: SearchOptions
    patient_id: str
    store_as_video_id: str
    label: str
    size_bytes: int
    classify: bool
    moments: int
    max_per_hour: float
    def __init__(self, options: _Optional[_Union[SearchOptions, _Mapping]] = ..., patient_id: _Optional[str] = ..., store_as_video_id: _Optional[str] = ..., label: _Optional[str] = ..., size_bytes: _Optional[int] = ..., classify: _Optional[bool] = ..., moments: _Optional[int] = ..., max_per_hour: _Optional[float] = ...) -> None: ...

class SearchByVideoRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class SearchByVideoResponse(_message.Message):
    __slots__ = ("provenance", "clips", "hits", "stored", "verdict", "patient_known", "known_as_video_id", "clips_without_picture", "moments")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_KNOWN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AS_VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    CLIPS_WITHOUT_PICTURE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    clips: _containers.RepeatedCompositeFieldContainer[_common_pb2.Clip]
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    stored: bool
    verdict: _classification_pb2.Verdict
    patient_known: bool
    known_as_video_id: str
    clips_without_picture: int
    moments: _containers.RepeatedCompositeFieldContainer[Moment]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., clips: _Optional[_Iterable[_Union[_common_pb2.Clip, _Mapping]]] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., stored: _Optional[bool] = ..., verdict: _Optional[_Union[_classification_pb2.Verdict, _Mapping]] = ..., patient_known: _Optional[bool] = ..., known_as_video_id: _Optional[str] = ..., clips_without_picture: _Optional[int] = ..., moments: _Optional[_Iterable[_Union[Moment, _Mapping]]] = ...) -> None: ...

class FindMomentsRequest(_message.Message):
    __slots__ = ("query", "k", "filter", "include_own_patient", "max_per_hour")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_OWN_PATIENT_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    query: _common_pb2.Item
    k: int
    filter: _common_pb2.Filter
    include_own_patient: bool
    max_per_hour: float
    def __init__(self, query: _Optional[_Union[_common_pb2.Item, _Mapping]] = ..., k: _Optional[int] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., include_own_patient: _Optional[bool] = ..., max_per_hour: _Optional[float] = ...) -> None: ...

class FindMomentsResponse(_message.Message):
    __slots__ = ("provenance", "moments")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    moments: _containers.RepeatedCompositeFieldContainer[Moment]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., moments: _Optional[_Iterable[_Union[Moment, _Mapping]]] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("video_id", "patient_id", "label", "start_seconds", "end_seconds", "onset_seconds", "similarity", "pairs", "per_hour_patient", "per_hour_others")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ONSET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    PER_HOUR_PATIENT_FIELD_NUMBER: _ClassVar[int]
    PER_HOUR_OTHERS_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    patient_id: str
    label: str
    start_seconds: float
    end_seconds: float
    onset_seconds: float
    similarity: float
    pairs: _containers.RepeatedCompositeFieldContainer[MomentPair]
    per_hour_patient: BackgroundRate
    per_hour_others: BackgroundRate
    def __init__(self, video_id: _Optional[str] = ..., patient_id: _Optional[str] = ..., label: _Optional[str] = ..., start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., onset_seconds: _Optional[float] = ..., similarity: _Optional[float] = ..., pairs: _Optional[_Iterable[_Union[MomentPair, _Mapping]]] = ..., per_hour_patient: _Optional[_Union[BackgroundRate, _Mapping]] = ..., per_hour_others: _Optional[_Union[BackgroundRate, _Mapping]] = ...) -> None: ...

class BackgroundRate(_message.Message):
    __slots__ = ("per_hour", "low", "high", "hours")
    PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    per_hour: float
    low: float
    high: float
    hours: float
    def __init__(self, per_hour: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., hours: _Optional[float] = ...) -> None: ...

class MomentPair(_message.Message):
    __slots__ = ("query_clip_id", "clip_id", "query_start_seconds", "start_seconds")
    QUERY_CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    query_clip_id: str
    clip_id: str
    query_start_seconds: float
    start_seconds: float
    def __init__(self, query_clip_id: _Optional[str] = ..., clip_id: _Optional[str] = ..., query_start_seconds: _Optional[float] = ..., start_seconds: _Optional[float] = ...) -> None: ...

class GetSimilarityRequest(_message.Message):
    __slots__ = ("query", "video_id")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    query: _common_pb2.Item
    video_id: str
    def __init__(self, query: _Optional[_Union[_common_pb2.Item, _Mapping]] = ..., video_id: _Optional[str] = ...) -> None: ...

class GetSimilarityResponse(_message.Message):
    __slots__ = ("provenance", "start_seconds", "similarity")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    start_seconds: _containers.RepeatedScalarFieldContainer[float]
    similarity: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., start_seconds: _Optional[_Iterable[float]] = ..., similarity: _Optional[_Iterable[float]] = ...) -> None: ...
