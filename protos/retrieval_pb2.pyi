from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_BY_UNSPECIFIED: _ClassVar[GroupBy]
    GROUP_BY_CLIP: _ClassVar[GroupBy]
    GROUP_BY_VIDEO: _ClassVar[GroupBy]
    GROUP_BY_PATIENT: _ClassVar[GroupBy]
GROUP_BY_UNSPECIFIED: GroupBy
GROUP_BY_CLIP: GroupBy
GROUP_BY_VIDEO: GroupBy
GROUP_BY_PATIENT: GroupBy

class Vector(_message.Message):
    __slots__ = ("values", "encoder_id", "patient_id")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ENCODER_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    encoder_id: str
    patient_id: str
    def __init__(self, values: _Optional[_Iterable[float]] = ..., encoder_id: _Optional[str] = ..., patient_id: _Optional[str] = ...) -> None: ...

class SearchFilter(_message.Message):
    __slots__ = ("labels", "semiology", "patient_ids", "excluded_patient_ids", "recorded_from", "recorded_until", "video_ids", "excluded_video_ids", "cameras")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    PATIENT_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_PATIENT_IDS_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FROM_FIELD_NUMBER: _ClassVar[int]
    RECORDED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    VIDEO_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_VIDEO_IDS_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    semiology: _containers.RepeatedScalarFieldContainer[str]
    patient_ids: _containers.RepeatedScalarFieldContainer[str]
    excluded_patient_ids: _containers.RepeatedScalarFieldContainer[str]
    recorded_from: str
    recorded_until: str
    video_ids: _containers.RepeatedScalarFieldContainer[str]
    excluded_video_ids: _containers.RepeatedScalarFieldContainer[str]
    cameras: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., semiology: _Optional[_Iterable[str]] = ..., patient_ids: _Optional[_Iterable[str]] = ..., excluded_patient_ids: _Optional[_Iterable[str]] = ..., recorded_from: _Optional[str] = ..., recorded_until: _Optional[str] = ..., video_ids: _Optional[_Iterable[str]] = ..., excluded_video_ids: _Optional[_Iterable[str]] = ..., cameras: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("clip_id", "video_id", "vector", "k", "group_by", "filter", "include_own_patient")
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_OWN_PATIENT_FIELD_NUMBER: _ClassVar[int]
    clip_id: str
    video_id: str
    vector: Vector
    k: int
    group_by: GroupBy
    filter: SearchFilter
    include_own_patient: bool
    def __init__(self, clip_id: _Optional[str] = ..., video_id: _Optional[str] = ..., vector: _Optional[_Union[Vector, _Mapping]] = ..., k: _Optional[int] = ..., group_by: _Optional[_Union[GroupBy, str]] = ..., filter: _Optional[_Union[SearchFilter, _Mapping]] = ..., include_own_patient: _Optional[bool] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("clip", "label", "similarity", "query_clip_id")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    clip: _common_pb2.Clip
    label: str
    similarity: float
    query_clip_id: str
    def __init__(self, clip: _Optional[_Union[_common_pb2.Clip, _Mapping]] = ..., label: _Optional[str] = ..., similarity: _Optional[float] = ..., query_clip_id: _Optional[str] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("provenance", "hits")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ...) -> None: ...
