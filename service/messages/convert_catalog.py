"""Between messages and records of what is stored, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from index.records import Provenance, Video
from index.semiology import PAPER
from index.tables.recording import RecordedVideo
from protos import catalog_pb2 as catalog
from protos import common_pb2 as common
from service.messages import convert
from service.records import Count, CountsAnswer, Patient, PatientsAnswer, RecordingAnswer, VideoAnswer, VideosAnswer


def video_response(answer: VideoAnswer) -> catalog.GetVideoResponse:
    """The answer as a message."""
    return catalog.GetVideoResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        video=video_to_proto(answer.video),
        clips=map(convert.clip_to_proto, answer.clips),
    )


def video_answer(message: catalog.GetVideoResponse) -> VideoAnswer:
    """The message as an answer."""
    clips = tuple(map(convert.clip_from_proto, message.clips))
    return VideoAnswer(convert.provenance_from_proto(message.provenance), video_from_proto(message.video), clips)


def recording_response(answer: RecordingAnswer) -> catalog.GetRecordingResponse:
    """The answer as a message."""
    return catalog.GetRecordingResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        videos=[
            catalog.RecordedVideo(video=video_to_proto(one.video), offset_seconds=one.offset_s) for one in answer.videos
        ],
    )


def recording_answer(message: catalog.GetRecordingResponse) -> RecordingAnswer:
    """The message as an answer."""
    videos = tuple(RecordedVideo(video_from_proto(one.video), one.offset_seconds) for one in message.videos)
    return RecordingAnswer(convert.provenance_from_proto(message.provenance), videos)


def videos_response(answer: VideosAnswer) -> catalog.ListVideosResponse:
    """The answer as a message."""
    return catalog.ListVideosResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        videos=map(video_to_proto, answer.videos),
        next_page_token=answer.next_page_token,
    )


def videos_answer(message: catalog.ListVideosResponse) -> VideosAnswer:
    """The message as an answer."""
    videos = tuple(map(video_from_proto, message.videos))
    return VideosAnswer(convert.provenance_from_proto(message.provenance), videos, message.next_page_token)


def patient_response(provenance: Provenance, patient: Patient) -> catalog.GetPatientResponse:
    """The answer as a message."""
    return catalog.GetPatientResponse(
        provenance=convert.provenance_to_proto(provenance), patient=patient_to_proto(patient)
    )


def patients_response(answer: PatientsAnswer) -> catalog.ListPatientsResponse:
    """The answer as a message."""
    return catalog.ListPatientsResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        patients=map(patient_to_proto, answer.patients),
        next_page_token=answer.next_page_token,
    )


def patients_answer(message: catalog.ListPatientsResponse) -> PatientsAnswer:
    """The message as an answer."""
    patients = tuple(map(patient_from_proto, message.patients))
    return PatientsAnswer(convert.provenance_from_proto(message.provenance), patients, message.next_page_token)


def counts_response(answer: CountsAnswer) -> catalog.GetCountsResponse:
    """The answer as a message."""
    return catalog.GetCountsResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        total=_count_to_proto(answer.total),
        labels=map(_count_to_proto, answer.labels),
        semiology=map(_count_to_proto, answer.semiology),
        judged_signs=answer.judged_signs,
    )


def counts_answer(message: catalog.GetCountsResponse) -> CountsAnswer:
    """The message as an answer."""
    return CountsAnswer(
        convert.provenance_from_proto(message.provenance),
        _count_from_proto(message.total),
        tuple(map(_count_from_proto, message.labels)),
        tuple(map(_count_from_proto, message.semiology)),
        tuple(message.judged_signs),
    )


def video_to_proto(video: Video) -> catalog.Video:
    """A video as a message; neither the digest of its file nor the crop is anybody's business."""
    return catalog.Video(
        video_id=video.video_id,
        patient_id=video.patient_id,
        label=video.label,
        recorded_at=video.recorded_at,
        semiology=video.semiology,
        camera=video.camera,
        split=video.split,
        duration_seconds=video.duration_s,
        clip_count=video.clip_count,
        salvaged=video.salvaged,
        metadata=[common.Metadata(name=name, value=value) for name, value in video.metadata],
        start_seconds=video.start_s,
        end_seconds=video.end_s,
        onset_seconds=video.onset_s,
        seizure_end_seconds=video.seizure_end_s,
    )


def video_from_proto(message: catalog.Video) -> Video:
    """The message as a video."""
    return Video(
        video_id=message.video_id,
        patient_id=message.patient_id,
        source_sha256="",
        label=message.label,
        recorded_at=message.recorded_at,
        semiology=tuple(message.semiology),
        camera=message.camera,
        split=message.split,
        duration_s=message.duration_seconds,
        clip_count=message.clip_count,
        salvaged=message.salvaged,
        metadata=tuple((one.name, one.value) for one in message.metadata),
        start_s=message.start_seconds,
        end_s=message.end_seconds if message.HasField("end_seconds") else None,
        onset_s=message.onset_seconds if message.HasField("onset_seconds") else None,
        seizure_end_s=message.seizure_end_seconds if message.HasField("seizure_end_seconds") else None,
    )


def patient_to_proto(patient: Patient) -> catalog.Patient:
    """A patient as a message."""
    of_class = dict(patient.labelled)
    return catalog.Patient(
        patient_id=patient.patient_id,
        videos=patient.videos,
        clips=patient.clips,
        tle_videos=of_class.get(PAPER.names[0], 0),
        extle_videos=of_class.get(PAPER.names[1], 0),
        labelled=[catalog.LabelledVideos(label=label, videos=videos) for label, videos in patient.labelled],
    )


def patient_from_proto(message: catalog.Patient) -> Patient:
    """The message as a patient."""
    labelled = tuple((one.label, one.videos) for one in message.labelled)
    return Patient(message.patient_id, message.videos, message.clips, labelled)


def _count_to_proto(count: Count) -> catalog.Count:
    return catalog.Count(name=count.name, clips=count.clips, videos=count.videos, patients=count.patients)


def _count_from_proto(message: catalog.Count) -> Count:
    return Count(message.name, message.clips, message.videos, message.patients)
