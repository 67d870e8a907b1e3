"""Batches that hold positives and negatives at both levels: patients first, then their videos, then their clips.

An epoch is a list of global batches that depends on the seed and the epoch alone; `share` gives each rank its part of a
batch. So one rank and four see the same batches, and a resumed run sees those it would have seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from index.errors import InvalidInput

Hand = list[int]
"""The clips one patient gives to one batch."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """How many of each a batch holds: `patients` x up to `videos` x up to `clips`."""

    patients: int
    videos: int
    clips: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a cohort can serve for.

    Attributes:
        clips: clips of the cohort.
        lone_clips: of patients with no other clip: they have no positive at any level and are left out.
        single_clip_videos: serve as negatives and at patient level, never as a positive pair of eq. 1.
        single_video_patients: their patient-level pairs are within one video.
        several_video_patients: the others.
    """

    clips: int
    lone_clips: int
    single_clip_videos: int
    single_video_patients: int
    several_video_patients: int


def coverage(video_of: Sequence[int], patient_of: Sequence[int]) -> Coverage:
    """Count what a cohort can't serve for."""
    in_video, in_patient = Counter(video_of), Counter(patient_of)
    videos_of_patient = Counter(patient for _, patient in set(zip(video_of, patient_of, strict=True)))
    return Coverage(
        clips=len(video_of),
        lone_clips=sum(count == 1 for count in in_patient.values()),
        single_clip_videos=sum(count == 1 for count in in_video.values()),
        single_video_patients=sum(count == 1 for count in videos_of_patient.values()),
        several_video_patients=sum(count > 1 for count in videos_of_patient.values()),
    )


def epoch_batches(
    video_of: Sequence[int],
    patient_of: Sequence[int],
    shape: BatchShape,
    seed: int,
    epoch: int,
    camera_of_video: Sequence[str] | None = None,
    scene_of: Sequence[int] | None = None,
) -> list[list[int]]:
    """The batches of one epoch, as clip numbers.

    Every clip of a patient with at least two is in at least one batch. Some are seen again: to pair the odd clip of a
    video, to join the last videos of a patient, and to give the last patients company, the least seen first. Each
    batch holds `patients` different patients, as many clips of each as the shape asks for and the patient has.

    Args:
        video_of: number of each clip's video.
        patient_of: number of each clip's patient.
        shape: shape of a batch.
        seed: with the epoch, the only source of chance.
        epoch: from 0.
        camera_of_video: room or camera of each video number. Where it is given, the patients of a batch are taken
            from the same one as far as there are any, so that it can't tell them apart.
        scene_of: of each clip, twice the number of its recording, and one more for background. Where it is given, a
            patient gives a batch both a video and background of its recording as far as there are both.

    Raises:
        InvalidInput: If fewer patients have two clips than a batch needs.
    """
    random = np.random.default_rng([seed, epoch])
    videos_of_patient: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for clip, (video, patient) in enumerate(zip(video_of, patient_of, strict=True)):
        videos_of_patient[patient][video].append(clip)
    able = [p for p, videos in sorted(videos_of_patient.items()) if sum(map(len, videos.values())) > 1]
    if shape.patients < 2 or len(able) < shape.patients:
        raise InvalidInput(
            f"expected at least {max(shape.patients, 2)} patients with two clips or more, got {len(able)}: without "
            "others a batch has no negatives"
        )
    scenes = {} if scene_of is None else dict(zip(video_of, scene_of, strict=True))
    hands = {patient: _hands(videos_of_patient[patient], shape, random, scenes) for patient in able}
    cameras = {p: [_camera(hand, video_of, camera_of_video) for hand in dealt] for p, dealt in hands.items()}
    batches = _batches(hands, cameras, shape.patients, random)
    return [batches[number] for number in random.permutation(len(batches))]


def share(batch: Sequence[int], rank: int, world_size: int) -> list[int]:
    """The part of a batch that one rank embeds; parts differ by one clip at most."""
    return [int(clip) for clip in np.array_split(np.asarray(batch), world_size)[rank]]


def _hands(
    videos: dict[int, list[int]], shape: BatchShape, random: np.random.Generator, scenes: Mapping[int, int]
) -> list[Hand]:
    """Deal all clips of a patient into hands of different videos; what is left over is filled up with seen ones."""
    groups = {video: _groups(clips, shape.clips, random) for video, clips in videos.items()}
    dealt: list[Hand] = []
    while any(groups.values()):
        # The videos with most left come first, so that no video is left alone at the end if that can be helped.
        order = sorted(groups, key=lambda video: (-len(groups[video]), random.random()))
        if scenes:  # what the recording shows at other times comes second
            beside = scenes[order[0]] ^ 1
            order[1:] = sorted(order[1:], key=lambda video: scenes[video] != beside)
        hand: Hand = []
        for video in order[: shape.videos]:
            if groups[video]:
                hand += groups[video].pop()
            else:
                hand += random.permutation(videos[video])[: shape.clips].tolist()
        dealt.append(hand)
    return dealt


def _groups(clips: Sequence[int], size: int, random: np.random.Generator) -> list[list[int]]:
    order = [int(clip) for clip in random.permutation(clips)]
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    groups[-1] += [clip for clip in order if clip not in groups[-1]][: size - len(groups[-1])]
    return groups


def _batches(
    hands: dict[int, list[Hand]], cameras: dict[int, list[str]], patients: int, random: np.random.Generator
) -> list[list[int]]:
    """Put hands of different patients together; those with most left come first."""
    left = {patient: list(random.permutation(len(dealt))) for patient, dealt in hands.items()}
    used: Counter[int] = Counter()
    batches: list[list[int]] = []
    while any(left.values()):
        chance = {patient: random.random() for patient in hands}
        # With none left a patient is company only: the one used least.
        order = sorted(hands, key=lambda p: (-len(left[p]), used[p] if not left[p] else 0, chance[p]))
        first = order[0]
        number = left[first].pop()
        camera = cameras[first][number]
        batch = list(hands[first][number])
        others = sorted(order[1:], key=lambda p: camera not in _offered(p, left, cameras))
        for patient in others[: patients - 1]:
            batch += hands[patient][_take(patient, left, cameras, camera, random)]
        used.update([first, *others[: patients - 1]])
        batches.append(batch)
    return batches


def _offered(patient: int, left: dict[int, list[int]], cameras: dict[int, list[str]]) -> set[str]:
    """Cameras of what a patient can give next."""
    return {cameras[patient][number] for number in left[patient] or range(len(cameras[patient]))}


def _take(
    patient: int,
    left: dict[int, list[int]],
    cameras: dict[int, list[str]],
    camera: str,
    random: np.random.Generator,
) -> int:
    """One of a patient's hands, of that camera if there is one; an unseen one if there is one."""
    pool = left[patient] or random.permutation(len(cameras[patient])).tolist()
    number = next((n for n in pool if cameras[patient][n] == camera), pool[0])
    if left[patient]:
        left[patient].remove(number)
    return int(number)


def _camera(hand: Hand, video_of: Sequence[int], camera_of_video: Sequence[str] | None) -> str:
    return "" if camera_of_video is None else camera_of_video[video_of[hand[0]]]
