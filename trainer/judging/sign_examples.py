"""What sign heads learn from: the tags of whole videos and of stretches, as people gave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.feedback.statement import Feedback
from index.phases import seizure_clips
from index.records import BACKGROUND, Clip, Video
from trainer.clips import TrainingClip


@dataclass(frozen=True, slots=True)
class SignExamples:
    """What sign heads learn from: videos whose signs have been looked for.

    Attributes:
        encoder_id: whose embeddings these are.
        clips: N, of V videos, stored or decoded for training.
        vectors_ND: float32.
        names: of the S signs that are tagged anywhere.
        video_N: number of each clip's video.
        patient_V: of each video.
        tagged_VS: whether the sign is somewhere in the video.
        known_NS: 1 where the clip shows the sign, 0 where it does not, NaN where only the video is known.
    """

    encoder_id: str
    clips: Sequence[Clip | TrainingClip]
    vectors_ND: NDArray[np.float32]
    names: tuple[str, ...]
    video_N: NDArray[np.intp]
    patient_V: NDArray[np.str_]
    tagged_VS: NDArray[np.bool_]
    known_NS: NDArray[np.float32]

    def of(self, patients: Iterable[str]) -> SignExamples:
        """Those of some patients."""
        kept_V = np.isin(self.patient_V, list(patients))
        rows = np.flatnonzero(kept_V[self.video_N])
        number_V = np.cumsum(kept_V) - 1
        return replace(
            self,
            clips=[self.clips[row] for row in rows.tolist()],
            vectors_ND=self.vectors_ND[rows],
            video_N=number_V[self.video_N[rows]],
            patient_V=self.patient_V[kept_V],
            tagged_VS=self.tagged_VS[kept_V],
            known_NS=self.known_NS[rows],
        )

    def only(self, names: Sequence[str]) -> SignExamples:
        """The same with some of the signs."""
        numbers = [self.names.index(name) for name in names]
        tagged_VS, known_NS = self.tagged_VS[:, numbers], self.known_NS[:, numbers]
        return replace(self, names=tuple(names), tagged_VS=tagged_VS, known_NS=known_NS)

    def patients_with(self, sign: int, *, shown: bool) -> list[str]:
        """Patients with a video that shows a sign, or with none that does."""
        showing = set(self.patient_V[self.tagged_VS[:, sign]].tolist())
        return sorted(showing if shown else set(self.patient_V.tolist()) - showing)


def sign_examples(
    encoder_id: str,
    clips: Sequence[Clip],
    vectors_ND: NDArray[np.float32],
    videos: Mapping[str, Video],
    said: Iterable[Feedback] = (),
) -> SignExamples:
    """Gather what is known of signs.

    Videos with a tag count, in the manifest or on the page, and background, which shows none. Of a video without any it
    is not known whether anyone looked.

    Args:
        encoder_id: of the embeddings.
        clips: stored, grouped by video.
        vectors_ND: their embeddings.
        videos: by id.
        said: what people said of videos; an event that is none shows no sign.

    Raises:
        InvalidInput: If no video that is stored has a tag.
    """
    tags = {name: set(video.semiology) for name, video in videos.items()}
    marked: dict[str, list[Feedback]] = {}
    for one in said:
        if one.semiology and one.video_id in videos:
            tags[one.video_id].update(one.semiology)
            if one.end_s:
                marked.setdefault(one.video_id, []).append(one)
    quiet = {name for name, video in videos.items() if BACKGROUND in video.metadata}
    examples = _gathered(encoder_id, clips, vectors_ND, tags, quiet)
    if not examples.names:
        raise InvalidInput(
            "no stored video has signs: name them in the manifest's column semiology, or on the review page"
        )
    names, known_NS = examples.names, examples.known_NS
    for number in range(len(examples.patient_V)):
        own = np.flatnonzero(examples.video_N == number)
        of_video = [examples.clips[row] for row in own.tolist()]
        video = videos[of_video[0].video_id]
        known_NS[np.delete(own, seizure_clips(video, of_video, None))] = 0
        for one in marked.get(video.video_id, ()):
            for row, clip in zip(own, of_video, strict=True):
                shared = min(one.end_s, clip.start_s + clip.valid_seconds) - max(one.start_s, clip.start_s)
                if shared > min(clip.valid_seconds, one.end_s - one.start_s) / 2:
                    known_NS[row, [names.index(tag) for tag in one.semiology]] = 1
    return examples


def signs_of_study(clips: Sequence[TrainingClip], vectors_ND: NDArray[np.float32]) -> SignExamples:
    """Gather the tags of a study's videos; there may be none."""
    tags: dict[str, set[str]] = {}
    for clip in clips:
        tags.setdefault(clip.video_id, set()).update(clip.tags, clip.signs)
    quiet = {clip.video_id for clip in clips if clip.background}
    return _gathered("", clips, vectors_ND, tags, quiet)


def _gathered(
    encoder_id: str,
    clips: Sequence[Clip | TrainingClip],
    vectors_ND: NDArray[np.float32],
    tags: Mapping[str, set[str]],
    quiet: set[str],
) -> SignExamples:
    """The clips of videos that have a tag, or in which nothing happens."""
    rows = [row for row, clip in enumerate(clips) if tags.get(clip.video_id) or clip.video_id in quiet]
    kept: list[Clip | TrainingClip] = [clips[row] for row in rows]
    patient_of = {clip.video_id: clip.patient_id for clip in kept}
    order = {name: number for number, name in enumerate(patient_of)}
    names = tuple(sorted({tag for name in order for tag in tags.get(name, ())}))
    tagged = np.array([[tag in tags.get(name, ()) for tag in names] for name in order], bool)
    return SignExamples(
        encoder_id=encoder_id,
        clips=kept,
        vectors_ND=np.ascontiguousarray(vectors_ND[rows], np.float32),
        names=names,
        video_N=np.array([order[clip.video_id] for clip in kept], np.intp),
        patient_V=np.array(list(patient_of.values()), np.str_),
        tagged_VS=tagged.reshape(len(order), len(names)),
        known_NS=np.full((len(kept), len(names)), np.nan, np.float32),
    )
