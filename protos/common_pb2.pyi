from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Provenance(_message.Message):
    __slots__ = ("encoder_id", "generation", "head_id")
    ENCODER_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    encoder_id: str
    generation: str
    head_id: str
    def __init__(self, encoder_id: _Optional[str] = ..., generation: _Optional[str] = ..., head_id: _Optional[str] = ...) -> None: ...

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
