from google.rpc import status_pb2 as _status_pb2
from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("clip_id", "video_id")
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    clip_id: str
    video_id: str
    def __init__(self, clip_id: _Optional[str] = ..., video_id: _Optional[str] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: Item
    def __init__(self, item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class ClipVerdict(_message.Message):
    __slots__ = ("clip", "extle_probability", "label")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    EXTLE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    clip: _common_pb2.Clip
    extle_probability: float
    label: str
    def __init__(self, clip: _Optional[_Union[_common_pb2.Clip, _Mapping]] = ..., extle_probability: _Optional[float] = ..., label: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("label", "extle_probability", "tle_votes", "extle_votes", "tie", "clips")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    EXTLE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TLE_VOTES_FIELD_NUMBER: _ClassVar[int]
    EXTLE_VOTES_FIELD_NUMBER: _ClassVar[int]
    TIE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    label: str
    extle_probability: float
    tle_votes: int
    extle_votes: int
    tie: bool
    clips: _containers.RepeatedCompositeFieldContainer[ClipVerdict]
    def __init__(self, label: _Optional[str] = ..., extle_probability: _Optional[float] = ..., tle_votes: _Optional[int] = ..., extle_votes: _Optional[int] = ..., tie: _Optional[bool] = ..., clips: _Optional[_Iterable[_Union[ClipVerdict, _Mapping]]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("provenance", "verdict")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    verdict: Verdict
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class ClassifyBatchRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class ClassifyBatchResult(_message.Message):
    __slots__ = ("status", "verdict")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    verdict: Verdict
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class ClassifyBatchResponse(_message.Message):
    __slots__ = ("provenance", "results")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    results: _containers.RepeatedCompositeFieldContainer[ClassifyBatchResult]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ClassifyBatchResult, _Mapping]]] = ...) -> None: ...
