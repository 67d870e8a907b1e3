"""Small training clips: every video has a colour of its own, near that of its patient's other one."""

import numpy as np

from trainer.clips import TrainingClip, TrainingClips


def coloured_clips(patients=4, videos=2, clips=2, num_frames=4, size=32, seed=0):
    random = np.random.default_rng(seed)
    base = random.integers(0, 200, (patients, 1, 1, 1, 3))
    described = [
        TrainingClip(
            f"v{p}-{v}",
            f"p{p}",
            c,
            label=("TLE", "exTLE")[p % 2],
            camera=f"room{p % 2}",
            source_sha256=f"{p}-{v}",
        )
        for p in range(patients)
        for v in range(videos)
        for c in range(clips)
    ]
    numbers = [(p, v) for p in range(patients) for v in range(videos) for _ in range(clips)]
    frames = np.stack([base[p] + 20 * v + random.integers(0, 9, (num_frames, size, size, 3)) for p, v in numbers])
    return TrainingClips(frames.clip(0, 255).astype(np.uint8), tuple(described))
