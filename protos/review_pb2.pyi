from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetCallerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCallerResponse(_message.Message):
    __slots__ = ("identity", "roles")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    identity: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, identity: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class GetPreviewRequest(_message.Message):
    __slots__ = ("video_id", "offset_bytes", "length_bytes")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    offset_bytes: int
    length_bytes: int
    def __init__(self, video_id: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ...) -> None: ...

class GetPreviewResponse(_message.Message):
    __slots__ = ("size_bytes", "frames_per_second", "chunk")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    frames_per_second: int
    chunk: bytes
    def __init__(self, size_bytes: _Optional[int] = ..., frames_per_second: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class GetThumbnailsRequest(_message.Message):
    __slots__ = ("video_id", "clip_index")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_INDEX_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    clip_index: int
    def __init__(self, video_id: _Optional[str] = ..., clip_index: _Optional[int] = ...) -> None: ...

class GetThumbnailsResponse(_message.Message):
    __slots__ = ("jpeg",)
    JPEG_FIELD_NUMBER: _ClassVar[int]
    jpeg: bytes
    def __init__(self, jpeg: _Optional[bytes] = ...) -> None: ...

class GetMapRequest(_message.Message):
    __slots__ = ("offset", "page_size")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    page_size: int
    def __init__(self, offset: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class GetMapResponse(_message.Message):
    __slots__ = ("provenance", "total", "method", "positions", "videos", "video_of_point", "clip_index_of_point", "step")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    VIDEO_OF_POINT_FIELD_NUMBER: _ClassVar[int]
    CLIP_INDEX_OF_POINT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    total: int
    method: str
    positions: bytes
    videos: _containers.RepeatedCompositeFieldContainer[MapVideo]
    video_of_point: bytes
    clip_index_of_point: bytes
    step: float
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., total: _Optional[int] = ..., method: _Optional[str] = ..., positions: _Optional[bytes] = ..., videos: _Optional[_Iterable[_Union[MapVideo, _Mapping]]] = ..., video_of_point: _Optional[bytes] = ..., clip_index_of_point: _Optional[bytes] = ..., step: _Optional[float] = ...) -> None: ...

class MapVideo(_message.Message):
    __slots__ = ("video_id", "patient_id", "label", "semiology", "recorded_at")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    patient_id: str
    label: str
    semiology: _containers.RepeatedScalarFieldContainer[str]
    recorded_at: str
    def __init__(self, video_id: _Optional[str] = ..., patient_id: _Optional[str] = ..., label: _Optional[str] = ..., semiology: _Optional[_Iterable[str]] = ..., recorded_at: _Optional[str] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("feedback_id", "author", "at", "video_id", "clip_id", "query_video_id", "query_clip_id", "relevance", "label", "semiology", "start_seconds", "end_seconds", "note", "event")
    class Relevance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RELEVANCE_UNSPECIFIED: _ClassVar[Feedback.Relevance]
        RELEVANCE_RELEVANT: _ClassVar[Feedback.Relevance]
        RELEVANCE_NOT_RELEVANT: _ClassVar[Feedback.Relevance]
    RELEVANCE_UNSPECIFIED: Feedback.Relevance
    RELEVANCE_RELEVANT: Feedback.Relevance
    RELEVANCE_NOT_RELEVANT: Feedback.Relevance
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[Feedback.Event]
        EVENT_SEIZURE: _ClassVar[Feedback.Event]
        EVENT_NOT_A_SEIZURE: _ClassVar[Feedback.Event]
    EVENT_UNSPECIFIED: Feedback.Event
    EVENT_SEIZURE: Feedback.Event
    EVENT_NOT_A_SEIZURE: Feedback.Event
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    feedback_id: str
    author: str
    at: str
    video_id: str
    clip_id: str
    query_video_id: str
    query_clip_id: str
    relevance: Feedback.Relevance
    label: str
    semiology: _containers.RepeatedScalarFieldContainer[str]
    start_seconds: float
    end_seconds: float
    note: str
    event: Feedback.Event
    def __init__(self, feedback_id: _Optional[str] = ..., author: _Optional[str] = ..., at: _Optional[str] = ..., video_id: _Optional[str] = ..., clip_id: _Optional[str] = ..., query_video_id: _Optional[str] = ..., query_clip_id: _Optional[str] = ..., relevance: _Optional[_Union[Feedback.Relevance, str]] = ..., label: _Optional[str] = ..., semiology: _Optional[_Iterable[str]] = ..., start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., note: _Optional[str] = ..., event: _Optional[_Union[Feedback.Event, str]] = ...) -> None: ...

class SaveFeedbackRequest(_message.Message):
    __slots__ = ("feedback",)
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    feedback: Feedback
    def __init__(self, feedback: _Optional[_Union[Feedback, _Mapping]] = ...) -> None: ...

class SaveFeedbackResponse(_message.Message):
    __slots__ = ("feedback",)
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    feedback: Feedback
    def __init__(self, feedback: _Optional[_Union[Feedback, _Mapping]] = ...) -> None: ...

class ListFeedbackRequest(_message.Message):
    __slots__ = ("video_ids", "page_size", "page_token")
    VIDEO_IDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    video_ids: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    page_token: str
    def __init__(self, video_ids: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFeedbackResponse(_message.Message):
    __slots__ = ("feedback", "next_page_token")
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    feedback: _containers.RepeatedCompositeFieldContainer[Feedback]
    next_page_token: str
    def __init__(self, feedback: _Optional[_Iterable[_Union[Feedback, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteFeedbackRequest(_message.Message):
    __slots__ = ("feedback_id",)
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    feedback_id: str
    def __init__(self, feedback_id: _Optional[str] = ...) -> None: ...

class DeleteFeedbackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListReportsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListReportsResponse(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[Report]
    def __init__(self, reports: _Optional[_Iterable[_Union[Report, _Mapping]]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("report_id", "written_at", "size_bytes")
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    report_id: str
    written_at: str
    size_bytes: int
    def __init__(self, report_id: _Optional[str] = ..., written_at: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("report_id",)
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    report_id: str
    def __init__(self, report_id: _Optional[str] = ...) -> None: ...

class GetReportResponse(_message.Message):
    __slots__ = ("html",)
    HTML_FIELD_NUMBER: _ClassVar[int]
    html: str
    def __init__(self, html: _Optional[str] = ...) -> None: ...
