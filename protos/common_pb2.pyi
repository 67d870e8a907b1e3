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

class Provenance(_message.Message):
    __slots__ = ("encoder_id", "generation", "head_id", "table_version", "encoder_kind")
    ENCODER_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_KIND_FIELD_NUMBER: _ClassVar[int]
    encoder_id: str
    generation: str
    head_id: str
    table_version: int
    encoder_kind: str
    def __init__(self, encoder_id: _Optional[str] = ..., generation: _Optional[str] = ..., head_id: _Optional[str] = ..., table_version: _Optional[int] = ..., encoder_kind: _Optional[str] = ...) -> None: ...

class Clip(_message.Message):
    __slots__ = ("clip_id", "video_id", "patient_id", "clip_index", "start_seconds", "valid_seconds")
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_INDEX_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VALID_SECONDS_FIELD_NUMBER: _ClassVar[int]
    clip_id: str
    video_id: str
    patient_id: str
    clip_index: int
    start_seconds: float
    valid_seconds: float
    def __init__(self, clip_id: _Optional[str] = ..., video_id: _Optional[str] = ..., patient_id: _Optional[str] = ..., clip_index: _Optional[int] = ..., start_seconds: _Optional[float] = ..., valid_seconds: _Optional[float] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("clip_id", "video_id")
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    clip_id: str
    video_id: str
    def __init__(self, clip_id: _Optional[str] = ..., video_id: _Optional[str] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("values", "encoder_id", "patient_id")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ENCODER_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    encoder_id: str
    patient_id: str
    def __init__(self, values: _Optional[bytes] = ..., encoder_id: _Optional[str] = ..., patient_id: _Optional[str] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("labels", "semiology", "patient_ids", "excluded_patient_ids", "recorded_from", "recorded_until", "video_ids", "excluded_video_ids", "cameras", "any_of", "none_of", "metadata")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    PATIENT_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_PATIENT_IDS_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FROM_FIELD_NUMBER: _ClassVar[int]
    RECORDED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    VIDEO_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_VIDEO_IDS_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    NONE_OF_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    semiology: _containers.RepeatedScalarFieldContainer[str]
    patient_ids: _containers.RepeatedScalarFieldContainer[str]
    excluded_patient_ids: _containers.RepeatedScalarFieldContainer[str]
    recorded_from: str
    recorded_until: str
    video_ids: _containers.RepeatedScalarFieldContainer[str]
    excluded_video_ids: _containers.RepeatedScalarFieldContainer[str]
    cameras: _containers.RepeatedScalarFieldContainer[str]
    any_of: _containers.RepeatedCompositeFieldContainer[Filter]
    none_of: _containers.RepeatedCompositeFieldContainer[Filter]
    metadata: _containers.RepeatedCompositeFieldContainer[Metadata]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., semiology: _Optional[_Iterable[str]] = ..., patient_ids: _Optional[_Iterable[str]] = ..., excluded_patient_ids: _Optional[_Iterable[str]] = ..., recorded_from: _Optional[str] = ..., recorded_until: _Optional[str] = ..., video_ids: _Optional[_Iterable[str]] = ..., excluded_video_ids: _Optional[_Iterable[str]] = ..., cameras: _Optional[_Iterable[str]] = ..., any_of: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., none_of: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., metadata: _Optional[_Iterable[_Union[Metadata, _Mapping]]] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("clip", "similarity", "query_clip_id")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    clip: Clip
    similarity: float
    query_clip_id: str
    def __init__(self, clip: _Optional[_Union[Clip, _Mapping]] = ..., similarity: _Optional[float] = ..., query_clip_id: _Optional[str] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("clip", "label", "similarity", "query_clip_id", "matches")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    clip: Clip
    label: str
    similarity: float
    query_clip_id: str
    matches: _containers.RepeatedCompositeFieldContainer[Match]
    def __init__(self, clip: _Optional[_Union[Clip, _Mapping]] = ..., label: _Optional[str] = ..., similarity: _Optional[float] = ..., query_clip_id: _Optional[str] = ..., matches: _Optional[_Iterable[_Union[Match, _Mapping]]] = ...) -> None: ...
