"""Draw the README's picture from the demo's cohort: `python docs/make_pictures.py` from the repository root."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import move

MOMENTS_S = (2, 8, 14, 20)
CHOSEN = (0, 3, 5, 12, 16, 27)


def main() -> None:
    """Six recordings, four moments of each."""
    recordings = simulate_cohort(20, 2, seed=0)
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
