"""Draw the pictures of the documents from the demo's cohort: `python docs/make_pictures.py`, from the root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from encoder.bed.contact_sheet import Tile, thumbnail, write_sheet
from encoder.bed.crop import CropPolicy
from encoder.bed.detector import load_detector
from encoder.events.annotations import Annotation, Annotations, Kind
from encoder.events.cuts import Choices
from encoder.events.recordings import Recording
from encoder.events.rows import make_rows
from encoder.manifest import ManifestRow
from semiome.shipped import shipped_bed_detector
from semiome.simulation import cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import move

MOMENTS_S = (2, 8, 14, 20)
CHOSEN = (0, 3, 5, 12, 16, 27)


def main() -> None:
    """All pictures."""
    draw_night()
    recordings = cohort.simulate_cohort(20, 2, seed=0)
    draw_cohort(recordings)
    draw_beds(recordings[:12])


def draw_night() -> None:
    """Three files of a night, what the EEG's list says, and the rows that become of them."""
    begins = datetime(2024, 3, 1, 23)
    row = ManifestRow("0001.mp4", "p017", "r", recorded_at=begins.isoformat())
    files = [
        Recording(replace(row, file_name=f"000{n + 1}.mp4"), "night", begins + timedelta(minutes=m), 1800)
        for n, m in enumerate((0, 30, 64))
    ]
    first = [(9.0, "eeg_onset"), (9.2, "clinical_onset"), (10.6, "end")]
    marks = [*first, (47.0, "seizure"), (49.5, "end"), (75, "unknown")]
    understood = [Annotation("", Kind(kind), at=begins + timedelta(minutes=at)) for at, kind in marks]
    made = make_rows(Annotations(understood), files, Choices(lead_s=30, tail_s=60, background=4, background_s=120))
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.add_subplot()
    red, green = "#d1495b", "#2e8b57"
    colours = {"eeg_onset": "#5b6770", "clinical_onset": red, "seizure": red, "end": green, "unknown": "#b8860b"}
    for file in files:
        left = (file.begins - begins).total_seconds() / 60
        axes.barh(2, file.seconds / 60, 0.5, left, color="#d8dee4", edgecolor="white")
        axes.text(left + file.seconds / 120, 2, file.row.file_name, ha="center", va="center", fontsize=9)
        for one in made.rows:
            if one.file_name == file.row.file_name:
                quiet = ("background", "yes") in one.metadata
                start, seconds = left + one.start_s / 60, (one.end_s or 0) - one.start_s
                axes.barh(0, seconds / 60, 0.5, start, color="#9fb8d8" if quiet else red)
    for at, kind in marks:
        axes.plot(at, 1, "v", color=colours[kind], markersize=7)
    words = {9.6: "EEG onset, clinical onset, end", 48.2: "Sz 2, end", 75: "a wording that is not known"}
    for at, said in words.items():
        axes.text(at, 1.28, said, ha="center", fontsize=8)
    axes.set(yticks=(0, 1, 2), yticklabels=("rows", "marks", "files"), xlabel="minutes")
    axes.set(xlim=(-1, 95), ylim=(-0.5, 2.5))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.savefig("docs/recordings.png", dpi=110)


def draw_beds(recordings: Sequence[cohort.Recording]) -> None:
    """The contact sheet of their first frames."""
    detector = load_detector(shipped_bed_detector(), confidence=0.5)
    policy = CropPolicy("shipped")
    tiles = []
    for recording in recordings:
        random = np.random.default_rng(recording.seed)
        picture = next(recording.scene.video(move(list(recording.events), 1.0, FPS, random), random))
        crop = policy.crop(detector.beds(picture), picture.shape[1], picture.shape[0])
        kind = "refused" if crop is None else "bed"
        tiles.append(Tile(recording.video_id, f"{kind} {crop or ''}", kind, *thumbnail(picture), crop))
    write_sheet(Path("docs/beds.png"), tiles, f"Videos 1 to {len(tiles)} of {len(tiles)}")


def draw_cohort(recordings: Sequence[cohort.Recording]) -> None:
    """Six recordings, four moments of each."""
    rows = []
    for number in CHOSEN:
        recording = recordings[number]
        random = np.random.default_rng(recording.seed)
        motion = move(list(recording.events), recording.seconds, FPS, random)
        wanted = {second * FPS for second in MOMENTS_S}
        rows.append(
            np.concatenate([f for i, f in enumerate(recording.scene.video(motion, random)) if i in wanted], axis=1)
        )
    sheet = np.concatenate([np.concatenate(rows[:3]), np.concatenate(rows[3:])], axis=1)
    Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2), Image.Resampling.LANCZOS).save(
        Path("docs/simulated.png"), optimize=True
    )


if __name__ == "__main__":
    main()
