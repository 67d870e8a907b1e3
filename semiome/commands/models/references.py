"""What a model has to beat: how long a seizure lasts, and how much moves in its pictures; neither learns to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from encoder.previews.library import StoredPreview
    from index.records import Video
    from index.tables.store import Store
    from index.workspace import Workspace
    from trainer.clips import TrainingClip
    from trainer.judging.metrics import Difference, Scores

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
        features: (N, D), one row a clip.
        outside_seizure: how many clips do not count.
        rows: of the stored clips, that these are; none where that does not matter.
    """

    clips: list[TrainingClip]
    features: NDArray[np.float32]
    outside_seizure: int = 0
    rows: list[int] = field(default_factory=list)


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
    """Figures of each row with their intervals, and its confusion, for a table of `COLUMNS`."""
    return [
        (
            name,
            *(f"{e.value:.3f} ({e.low:.2f} to {e.high:.2f})" for e in (s.accuracy, s.f1, s.macro_f1, s.auroc)),
            " ".join(map(str, s.confusion)),
        )
        for name, s in rows.items()
    ]


COLUMNS = ("", "accuracy", "F1 exTLE", "macro F1", "AUROC", "TN FP FN TP")


def shown_differences(against: dict[str, Difference]) -> list[tuple[str, ...]]:
    """Each difference with its interval, and how probable it is by chance."""
    return [(name, f"{d.value:+.3f} ({d.low:+.2f} to {d.high:+.2f})", f"{d.p:.3f}") for name, d in against.items()]


def save_report(workspace: Workspace, kind: str, values: dict[str, Any]) -> str:
    """Keep what was found as `runs/<kind>-.../report.json`, and say where."""
    import json

    from index.files.durable import write_text_atomically

    folder = workspace.new_run(kind)
    folder.mkdir(parents=True)
    write_text_atomically(folder / "report.json", json.dumps(values, indent=1) + "\n")
    return str(folder / "report.json")
