from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Video(_message.Message):
    __slots__ = ("video_id", "patient_id", "label", "recorded_at", "semiology", "camera", "split", "duration_seconds", "clip_count", "salvaged", "metadata", "start_seconds", "end_seconds", "onset_seconds", "seizure_end_seconds")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLIP_COUNT_FIELD_NUMBER: _ClassVar[int]
    SALVAGED_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ONSET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEIZURE_END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    patient_id: str
    label: str
    recorded_at: str
    semiology: _containers.RepeatedScalarFieldContainer[str]
    camera: str
    split: str
    duration_seconds: float
    clip_count: int
    salvaged: bool
    metadata: _containers.RepeatedCompositeFieldContainer[_common_pb2.Metadata]
    start_seconds: float
    end_seconds: float
    onset_seconds: float
    seizure_end_seconds: float
    def __init__(self, video_id: _Optional[str] = ..., patient_id: _Optional[str] = ..., label: _Optional[str] = ..., recorded_at: _Optional[str] = ..., semiology: _Optional[_Iterable[str]] = ..., camera: _Optional[str] = ..., split: _Optional[str] = ..., duration_seconds: _Optional[float] = ..., clip_count: _Optional[int] = ..., salvaged: _Optional[bool] = ..., metadata: _Optional[_Iterable[_Union[_common_pb2.Metadata, _Mapping]]] = ..., start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., onset_seconds: _Optional[float] = ..., seizure_end_seconds: _Optional[float] = ...) -> None: ...

class Patient(_message.Message):
    __slots__ = ("patient_id", "videos", "clips", "tle_videos", "extle_videos", "labelled")
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    TLE_VIDEOS_FIELD_NUMBER: _ClassVar[int]
    EXTLE_VIDEOS_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    patient_id: str
    videos: int
    clips: int
    tle_videos: int
    extle_videos: int
    labelled: _containers.RepeatedCompositeFieldContainer[LabelledVideos]
    def __init__(self, patient_id: _Optional[str] = ..., videos: _Optional[int] = ..., clips: _Optional[int] = ..., tle_videos: _Optional[int] = ..., extle_videos: _Optional[int] = ..., labelled: _Optional[_Iterable[_Union[LabelledVideos, _Mapping]]] = ...) -> None: ...

class LabelledVideos(_message.Message):
    __slots__ = ("label", "videos")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    label: str
    videos: int
    def __init__(self, label: _Optional[str] = ..., videos: _Optional[int] = ...) -> None: ...

class Count(_message.Message):
    __slots__ = ("name", "clips", "videos", "patients")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    clips: int
    videos: int
    patients: int
    def __init__(self, name: _Optional[str] = ..., clips: _Optional[int] = ..., videos: _Optional[int] = ..., patients: _Optional[int] = ...) -> None: ...

class GetVideoRequest(_message.Message):
    __slots__ = ("video_id", "first_clip", "page_size")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_CLIP_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    first_clip: int
    page_size: int
    def __init__(self, video_id: _Optional[str] = ..., first_clip: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class GetVideoResponse(_message.Message):
    __slots__ = ("provenance", "video", "clips")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    video: Video
    clips: _containers.RepeatedCompositeFieldContainer[_common_pb2.Clip]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., video: _Optional[_Union[Video, _Mapping]] = ..., clips: _Optional[_Iterable[_Union[_common_pb2.Clip, _Mapping]]] = ...) -> None: ...

class GetRecordingRequest(_message.Message):
    __slots__ = ("video_id",)
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    def __init__(self, video_id: _Optional[str] = ...) -> None: ...

class GetRecordingResponse(_message.Message):
    __slots__ = ("provenance", "videos")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    videos: _containers.RepeatedCompositeFieldContainer[RecordedVideo]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., videos: _Optional[_Iterable[_Union[RecordedVideo, _Mapping]]] = ...) -> None: ...

class RecordedVideo(_message.Message):
    __slots__ = ("video", "offset_seconds")
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    OFFSET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    video: Video
    offset_seconds: float
    def __init__(self, video: _Optional[_Union[Video, _Mapping]] = ..., offset_seconds: _Optional[float] = ...) -> None: ...

class ListVideosRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.Filter
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVideosResponse(_message.Message):
    __slots__ = ("provenance", "videos", "next_page_token")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    videos: _containers.RepeatedCompositeFieldContainer[Video]
    next_page_token: str
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., videos: _Optional[_Iterable[_Union[Video, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPatientRequest(_message.Message):
    __slots__ = ("patient_id",)
    PATIENT_ID_FIELD_NUMBER: _ClassVar[int]
    patient_id: str
    def __init__(self, patient_id: _Optional[str] = ...) -> None: ...

class GetPatientResponse(_message.Message):
    __slots__ = ("provenance", "patient")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    patient: Patient
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., patient: _Optional[_Union[Patient, _Mapping]] = ...) -> None: ...

class ListPatientsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPatientsResponse(_message.Message):
    __slots__ = ("provenance", "patients", "next_page_token")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    patients: _containers.RepeatedCompositeFieldContainer[Patient]
    next_page_token: str
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., patients: _Optional[_Iterable[_Union[Patient, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetCountsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCountsResponse(_message.Message):
    __slots__ = ("provenance", "total", "labels", "semiology", "judged_signs")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SEMIOLOGY_FIELD_NUMBER: _ClassVar[int]
    JUDGED_SIGNS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    total: Count
    labels: _containers.RepeatedCompositeFieldContainer[Count]
    semiology: _containers.RepeatedCompositeFieldContainer[Count]
    judged_signs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., total: _Optional[_Union[Count, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[Count, _Mapping]]] = ..., semiology: _Optional[_Iterable[_Union[Count, _Mapping]]] = ..., judged_signs: _Optional[_Iterable[str]] = ...) -> None: ...

class GetEmbeddingsRequest(_message.Message):
    __slots__ = ("clip_ids",)
    CLIP_IDS_FIELD_NUMBER: _ClassVar[int]
    clip_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, clip_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetEmbeddingsResponse(_message.Message):
    __slots__ = ("provenance", "vectors")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    vectors: _containers.RepeatedCompositeFieldContainer[_common_pb2.Vector]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., vectors: _Optional[_Iterable[_Union[_common_pb2.Vector, _Mapping]]] = ...) -> None: ...
