"""What a model has to beat: how long a seizure lasts, and how much moves in its pictures; neither learns to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from encoder.previews.library import StoredPreview
    from index.records import Video
    from index.semiology import Classes
    from index.tables.store import Store
    from index.workspace import Workspace
    from semiome.console import Screen
    from trainer.clips import TrainingClip
    from trainer.judging.folds import Fold
    from trainer.judging.metrics import Difference, Scores
    from trainer.judging.signs import BySigns

CAVEAT = (
    "Research use only. Patients are what counts: intervals are over patients, and no figure is more certain than its "
    "interval."
)
_FRAMES = 48
"""Moments of a clip that its motion is taken from: enough for movements of two a second."""


@dataclass(frozen=True, slots=True)
class LabelledVideos:
    """What videos are judged by.

    Attributes:
        clips: that count for their class.
        features: (N, D), one row a clip; or what makes them for a fold.
        outside_seizure: how many clips do not count.
    """

    clips: list[TrainingClip]
    features: NDArray[np.float32] | Callable[[Fold], NDArray[np.float32]]
    outside_seizure: int = 0

    def of(self, fold: Fold) -> NDArray[np.float32]:
        """Features for a fold."""
        return self.features(fold) if callable(self.features) else self.features


def durations(whole: LabelledVideos, store: Store) -> LabelledVideos:
    """The same clips by how long their seizure lasts, or their video where that is not known: it is telling enough."""
    import numpy as np

    videos = store.videos()

    def seconds(video: Video) -> float:
        if video.onset_s is not None and video.seizure_end_s is not None:
            return video.seizure_end_s - video.onset_s
        return video.duration_s

    lasts = np.array([[seconds(videos[clip.video_id])] for clip in whole.clips], np.float32)
    return LabelledVideos(whole.clips, np.log1p(lasts))


def by_signs(workspace: Workspace, store: Store, encoder_id: str, whole: LabelledVideos) -> BySigns | None:
    """Probabilities of signs for the same clips, by heads that learn from tags; None where too few videos have any."""
    from index.errors import InvalidInput
    from index.feedback.store import FeedbackStore
    from trainer.judging.folds import Fold
    from trainer.judging.sign_examples import sign_examples
    from trainer.judging.signs import BySigns

    stored, said = store.clips(encoder_id), FeedbackStore(workspace).each()
    try:
        examples = sign_examples(encoder_id, list(stored.clips), stored.vectors, store.videos(), said)
    except InvalidInput:
        return None
    vectors = whole.of(Fold((), ()))
    found = BySigns(examples, vectors, [clip.patient_id for clip in whole.clips])
    return found if found.names else None


def signs_say(
    signs: BySigns, whole: LabelledVideos, classes: Classes, outside: set[str]
) -> dict[str, dict[str, float]]:
    """Say by how much each sign that is certain raises the log odds of each class; of two, of the second alone.

    Of the patients who are learned from, without those who are judged outside.
    """
    import numpy as np

    from trainer.judging.classifiers import what_signs_say
    from trainer.judging.folds import Fold

    learned = tuple(sorted({clip.patient_id for clip in whole.clips} - outside))
    rows = [row for row, clip in enumerate(whole.clips) if clip.patient_id not in outside]
    targets = np.array([classes.number(whole.clips[row].label) for row in rows], np.int64)
    weights = what_signs_say(signs(Fold(learned, ()))[rows], targets)
    names = classes.names if len(weights) > 1 else classes.names[1:]
    told = [dict(zip(signs.names, row, strict=True)) for row in weights.tolist()]
    return dict(zip(names, told, strict=True))


def show_signs_say(said: dict[str, dict[str, float]], screen: Screen) -> None:
    """A row for each sign, those that say most first."""
    signs = list(next(iter(said.values())))
    signs.sort(key=lambda sign: -max(abs(of_class[sign]) for of_class in said.values()))
    rows = [(sign, *(f"{of_class[sign]:+.2f}" for of_class in said.values())) for sign in signs]
    screen.table("What a sign that is certain adds to the log odds", ("sign", *said), rows)


def motion(
    workspace: Workspace,
    store: Store,
    whole: LabelledVideos,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LabelledVideos | None, int]:
    """The same clips by how much moves where in their previews; None where a video has none, and how many have none."""
    import numpy as np

    from encoder.previews.library import stored_preview
    from index.errors import NotFound

    videos = store.videos()
    films: dict[str, StoredPreview] = {}
    lacking = set()
    for name in dict.fromkeys(clip.video_id for clip in whole.clips):
        try:
            films[name] = stored_preview(workspace, videos[name])
        except NotFound:
            lacking.add(name)
    if lacking:
        return None, len(lacking)
    features: dict[tuple[str, int], NDArray[np.float32]] = {}
    for number, (name, film) in enumerate(films.items()):
        progress(number, len(films))
        of_video = [clip for clip in whole.clips if clip.video_id == name]
        for clip, found in zip(of_video, _motion_of(film, of_video), strict=True):
            features[name, clip.clip_index] = found
    progress(len(films), len(films))
    rows = [features[clip.video_id, clip.clip_index] for clip in whole.clips]
    return LabelledVideos(whole.clips, np.stack(rows)), 0


def _motion_of(film: StoredPreview, clips: Sequence[TrainingClip]) -> list[NDArray[np.float32]]:
    """Motion energy of each clip of a film, at moments spread evenly over it."""
    import numpy as np

    from encoder.video.writer import own_pictures
    from trainer.judging.classifiers import motion_energy

    moments = [
        np.rint((clip.start_s + (np.arange(_FRAMES) + 0.5) * clip.valid_seconds / _FRAMES) * film.fps - 0.5).astype(int)
        for clip in clips
    ]
    wanted = {int(moment) for of_clip in moments for moment in of_clip}
    last, kept = -1, {}
    for last, picture in enumerate(own_pictures(film.film)):
        if last in wanted:
            kept[last] = picture[::2, ::2].copy()  # the grid is far coarser than that
    return [motion_energy(np.stack([kept[min(int(moment), last)] for moment in of_clip])) for of_clip in moments]


def shown(rows: dict[str, Scores]) -> list[tuple[str, ...]]:
    """Figures of each row with their intervals, and its confusion, for a table of `columns`."""
    return [
        (
            name,
            *(
                f"{one.value:.3f} ({one.low:.2f} to {one.high:.2f})"
                for one in (s.accuracy, s.f1, s.macro_f1, s.auroc)
                if one is not None
            ),
            " / ".join(" ".join(map(str, given)) for given in s.confusion),
        )
        for name, s in rows.items()
    ]


def columns(classes: Classes) -> tuple[str, ...]:
    """Heads of the columns; of each true class the last one counts the videos that were given each class."""
    f1 = () if classes.positive is None else (f"F1 {classes.positive}",)
    names = " ".join(classes.names)
    return ("", "accuracy", *f1, "macro F1", "AUROC", f"given {names}, of {' / '.join(classes.names)}")


def shown_differences(against: dict[str, Difference]) -> list[tuple[str, ...]]:
    """Each difference with its interval, and how probable it is by chance."""
    return [(name, f"{d.value:+.3f} ({d.low:+.2f} to {d.high:+.2f})", d.shown_p) for name, d in against.items()]


def save_report(workspace: Workspace, kind: str, values: dict[str, Any]) -> str:
    """Keep what was found as `runs/<kind>-.../report.json`, and say where."""
    import json

    from index.files.durable import write_text_atomically

    folder = workspace.new_run(kind)
    folder.mkdir(parents=True)
    write_text_atomically(folder / "report.json", json.dumps(values, indent=1) + "\n")
    return str(folder / "report.json")
