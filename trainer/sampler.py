"""Batches that hold positives and negatives at both levels: patients first, then their videos, then their clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from index.errors import InvalidInput


def contrastive_batches(
    video_of: Sequence[int],
    patient_of: Sequence[int],
    *,
    patients: int,
    videos: int,
    clips: int,
    steps: int,
    seed: int,
) -> Iterator[list[int]]:
    """Draw batches of `patients` x up to `videos` x up to `clips` clip numbers.

    Patients, a patient's videos and a video's clips are each dealt out of a shuffled pack that is shuffled anew when
    it runs out, so all are seen equally often. A patient with fewer videos, or a video with fewer clips, gives what
    it has.

    Args:
        video_of: number of each clip's video.
        patient_of: number of each clip's patient.
        patients: patients in a batch, at least 2: without a second one there is no negative.
        videos: videos of each.
        clips: clips of each video.
        steps: how many batches.
        seed: decides them all.

    Raises:
        InvalidInput: fewer patients than a batch needs.
    """
    clips_of_video: dict[int, list[int]] = defaultdict(list)
    videos_of_patient: dict[int, set[int]] = defaultdict(set)
    for clip, (video, patient) in enumerate(zip(video_of, patient_of, strict=True)):
        clips_of_video[video].append(clip)
        videos_of_patient[patient].add(video)
    if patients < 2 or len(videos_of_patient) < patients:
        raise InvalidInput(f"expected at least {max(patients, 2)} patients, got {len(videos_of_patient)}")
    random = np.random.default_rng(seed)
    patient_pack = _Pack(sorted(videos_of_patient), random)
    video_packs = {patient: _Pack(sorted(owned), random) for patient, owned in videos_of_patient.items()}
    clip_packs = {video: _Pack(owned, random) for video, owned in clips_of_video.items()}
    for _ in range(steps):
        yield [
            clip
            for patient in patient_pack.deal(patients)
            for video in video_packs[patient].deal(videos)
            for clip in clip_packs[video].deal(clips)
        ]


class _Pack:
    """Deals different cards until all are dealt, then shuffles again."""

    def __init__(self, cards: Sequence[int], random: np.random.Generator) -> None:
        self._cards = list(cards)
        self._random = random
        self._left: list[int] = []

    def deal(self, count: int) -> list[int]:
        hand = self._left[:count]
        self._left = self._left[count:]
        wanted = min(count, len(self._cards)) - len(hand)
        if wanted > 0:
            shuffled = self._random.permutation(self._cards).tolist()
            taken = [card for card in shuffled if card not in hand][:wanted]
            self._left = [card for card in shuffled if card not in taken]
            hand += taken
        return hand
