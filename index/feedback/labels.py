"""Labels that people give on the review page: which count, and whom they contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from index.feedback.statement import Feedback
from index.records import Video


@dataclass(frozen=True, slots=True)
class Said:
    """What people say that videos are, beside what is stored.

    Attributes:
        labels: that count: of videos without a label what all who spoke agree on; of others what differs from theirs,
            where enough people say so and none says otherwise.
        disputed: ids of videos on which people do not agree.
        alone: ids of videos whose stored label one person alone contradicts, and that do not count.
        contradicts: of how many stored labels each author says that they are wrong.
    """

    labels: dict[str, str]
    disputed: tuple[str, ...]
    alone: tuple[str, ...]
    contradicts: dict[str, int]


def labels_of(all_of_it: Iterable[Feedback], videos: Mapping[str, Video], *, trust_one: bool = False) -> Said:
    """Weigh what was said; each author's newest word on a video counts.

    Args:
        all_of_it: what people have said; an event's label says nothing of its whole video.
        videos: stored ones, by id; others are left out.
        trust_one: one person is enough to turn a stored label; else it takes two.
    """
    newest: dict[tuple[str, str], str] = {}
    for one in all_of_it:
        if one.label and not one.event and one.video_id in videos:
            newest[one.video_id, one.author] = one.label
    said: dict[str, Counter[str]] = {}
    contradicts: Counter[str] = Counter()
    for (video_id, author), label in newest.items():
        said.setdefault(video_id, Counter())[label] += 1
        contradicts[author] += videos[video_id].label not in {"", label}
    labels, disputed, alone = {}, [], []
    for video_id, voices in sorted(said.items()):
        (label, count), stored = voices.most_common(1)[0], videos[video_id].label
        if len(voices) > 1:
            disputed.append(video_id)
        elif count < 2 and not trust_one and stored not in {"", label}:
            alone.append(video_id)
        else:
            labels[video_id] = label
    return Said(labels, tuple(disputed), tuple(alone), {who: n for who, n in sorted(contradicts.items()) if n})


def with_labels(videos: Mapping[str, Video], labels: Mapping[str, str]) -> dict[str, Video]:
    """The same videos, those that people have labelled with their label."""
    return {name: replace(video, label=labels.get(name, video.label)) for name, video in videos.items()}
