from google.rpc import status_pb2 as _status_pb2
from protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: _common_pb2.Item
    def __init__(self, item: _Optional[_Union[_common_pb2.Item, _Mapping]] = ...) -> None: ...

class ClipVerdict(_message.Message):
    __slots__ = ("clip", "extle_probability", "label", "logit", "probabilities", "logits")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    EXTLE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    clip: _common_pb2.Clip
    extle_probability: float
    label: str
    logit: float
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    logits: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, clip: _Optional[_Union[_common_pb2.Clip, _Mapping]] = ..., extle_probability: _Optional[float] = ..., label: _Optional[str] = ..., logit: _Optional[float] = ..., probabilities: _Optional[_Iterable[float]] = ..., logits: _Optional[_Iterable[float]] = ...) -> None: ...

class ClassVerdict(_message.Message):
    __slots__ = ("label", "probability", "votes")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    votes: int
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., votes: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("label", "extle_probability", "tle_votes", "extle_votes", "tie", "clips", "margin", "threshold", "temperature", "conformal", "flipping_clip_ids", "fewest_flipping_clips", "neighbours", "distance", "trained_on_this_patient", "calibrated", "separates_nothing", "clips_without_picture", "clips_outside_seizure", "clips_overlapping", "classes")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    EXTLE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TLE_VOTES_FIELD_NUMBER: _ClassVar[int]
    EXTLE_VOTES_FIELD_NUMBER: _ClassVar[int]
    TIE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    CONFORMAL_FIELD_NUMBER: _ClassVar[int]
    FLIPPING_CLIP_IDS_FIELD_NUMBER: _ClassVar[int]
    FEWEST_FLIPPING_CLIPS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    TRAINED_ON_THIS_PATIENT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    SEPARATES_NOTHING_FIELD_NUMBER: _ClassVar[int]
    CLIPS_WITHOUT_PICTURE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_OUTSIDE_SEIZURE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_OVERLAPPING_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    label: str
    extle_probability: float
    tle_votes: int
    extle_votes: int
    tie: bool
    clips: _containers.RepeatedCompositeFieldContainer[ClipVerdict]
    margin: int
    threshold: float
    temperature: float
    conformal: ConformalSet
    flipping_clip_ids: _containers.RepeatedScalarFieldContainer[str]
    fewest_flipping_clips: int
    neighbours: _containers.RepeatedCompositeFieldContainer[ClassNeighbours]
    distance: Distance
    trained_on_this_patient: bool
    calibrated: bool
    separates_nothing: bool
    clips_without_picture: int
    clips_outside_seizure: int
    clips_overlapping: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassVerdict]
    def __init__(self, label: _Optional[str] = ..., extle_probability: _Optional[float] = ..., tle_votes: _Optional[int] = ..., extle_votes: _Optional[int] = ..., tie: _Optional[bool] = ..., clips: _Optional[_Iterable[_Union[ClipVerdict, _Mapping]]] = ..., margin: _Optional[int] = ..., threshold: _Optional[float] = ..., temperature: _Optional[float] = ..., conformal: _Optional[_Union[ConformalSet, _Mapping]] = ..., flipping_clip_ids: _Optional[_Iterable[str]] = ..., fewest_flipping_clips: _Optional[int] = ..., neighbours: _Optional[_Iterable[_Union[ClassNeighbours, _Mapping]]] = ..., distance: _Optional[_Union[Distance, _Mapping]] = ..., trained_on_this_patient: _Optional[bool] = ..., calibrated: _Optional[bool] = ..., separates_nothing: _Optional[bool] = ..., clips_without_picture: _Optional[int] = ..., clips_outside_seizure: _Optional[int] = ..., clips_overlapping: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassVerdict, _Mapping]]] = ...) -> None: ...

class ConformalSet(_message.Message):
    __slots__ = ("labels", "alpha", "tle_limit", "extle_limit", "abstains", "limits")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TLE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    EXTLE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ABSTAINS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    alpha: float
    tle_limit: float
    extle_limit: float
    abstains: bool
    limits: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., alpha: _Optional[float] = ..., tle_limit: _Optional[float] = ..., extle_limit: _Optional[float] = ..., abstains: _Optional[bool] = ..., limits: _Optional[_Iterable[float]] = ...) -> None: ...

class ClassNeighbours(_message.Message):
    __slots__ = ("label", "hits")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    label: str
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    def __init__(self, label: _Optional[str] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ...) -> None: ...

class Distance(_message.Message):
    __slots__ = ("value", "percentile", "sample")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    value: float
    percentile: float
    sample: int
    def __init__(self, value: _Optional[float] = ..., percentile: _Optional[float] = ..., sample: _Optional[int] = ...) -> None: ...

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
    items: _containers.RepeatedCompositeFieldContainer[_common_pb2.Item]
    def __init__(self, items: _Optional[_Iterable[_Union[_common_pb2.Item, _Mapping]]] = ...) -> None: ...

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

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_common_pb2.Item]
    def __init__(self, items: _Optional[_Iterable[_Union[_common_pb2.Item, _Mapping]]] = ...) -> None: ...

class ClassifyStreamResult(_message.Message):
    __slots__ = ("status", "verdict")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    verdict: Verdict
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("provenance", "results")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    results: _containers.RepeatedCompositeFieldContainer[ClassifyStreamResult]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ClassifyStreamResult, _Mapping]]] = ...) -> None: ...

class GetSignsRequest(_message.Message):
    __slots__ = ("video_id",)
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    def __init__(self, video_id: _Optional[str] = ...) -> None: ...

class SignStretch(_message.Message):
    __slots__ = ("start_seconds", "end_seconds", "probability")
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    start_seconds: float
    end_seconds: float
    probability: float
    def __init__(self, start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class SignTrack(_message.Message):
    __slots__ = ("name", "patients", "other_patients", "auroc", "auroc_low", "auroc_high", "probabilities", "stretches")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    OTHER_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    AUROC_FIELD_NUMBER: _ClassVar[int]
    AUROC_LOW_FIELD_NUMBER: _ClassVar[int]
    AUROC_HIGH_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    STRETCHES_FIELD_NUMBER: _ClassVar[int]
    name: str
    patients: int
    other_patients: int
    auroc: float
    auroc_low: float
    auroc_high: float
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    stretches: _containers.RepeatedCompositeFieldContainer[SignStretch]
    def __init__(self, name: _Optional[str] = ..., patients: _Optional[int] = ..., other_patients: _Optional[int] = ..., auroc: _Optional[float] = ..., auroc_low: _Optional[float] = ..., auroc_high: _Optional[float] = ..., probabilities: _Optional[_Iterable[float]] = ..., stretches: _Optional[_Iterable[_Union[SignStretch, _Mapping]]] = ...) -> None: ...

class SignNotJudged(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class GetSignsResponse(_message.Message):
    __slots__ = ("provenance", "signs_id", "clips", "tracks", "not_judged")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    SIGNS_ID_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    TRACKS_FIELD_NUMBER: _ClassVar[int]
    NOT_JUDGED_FIELD_NUMBER: _ClassVar[int]
    provenance: _common_pb2.Provenance
    signs_id: str
    clips: _containers.RepeatedCompositeFieldContainer[_common_pb2.Clip]
    tracks: _containers.RepeatedCompositeFieldContainer[SignTrack]
    not_judged: _containers.RepeatedCompositeFieldContainer[SignNotJudged]
    def __init__(self, provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., signs_id: _Optional[str] = ..., clips: _Optional[_Iterable[_Union[_common_pb2.Clip, _Mapping]]] = ..., tracks: _Optional[_Iterable[_Union[SignTrack, _Mapping]]] = ..., not_judged: _Optional[_Iterable[_Union[SignNotJudged, _Mapping]]] = ...) -> None: ...
