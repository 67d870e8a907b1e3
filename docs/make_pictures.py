"""Draw the pictures of the documents from the demo's cohort: `python docs/make_pictures.py`, from the root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from encoder.bed.contact_sheet import Tile, thumbnail, write_sheet
from encoder.bed.crop import CropPolicy
from encoder.bed.detector import load_detector
from semiome.shipped import shipped_bed_detector
from semiome.simulation.cohort import Recording, simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import move

MOMENTS_S = (2, 8, 14, 20)
CHOSEN = (0, 3, 5, 12, 16, 27)


def main() -> None:
    """Both pictures."""
    recordings = simulate_cohort(20, 2, seed=0)
    draw_cohort(recordings)
    draw_beds(recordings[:12])


def draw_beds(recordings: Sequence[Recording]) -> None:
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


def draw_cohort(recordings: Sequence[Recording]) -> None:
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
