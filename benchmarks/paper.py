"""The study of examples/paper.toml at miniature size, on simulated patients, from drawing them to the report.

    .venv/bin/python benchmarks/paper.py [--out DIR] [--estimate | --full-size STEPS]

Draws what the paper had: 731 videos of 40 patients to pretrain on, and 57 labelled ones of 15 of these (42 TLE, 15
exTLE), all short and small. Then `semiome ablate` runs that very file with the changes of `MINIATURE`: an encoder of
random weights that fits on a CPU, the detector of simulated beds, and backbones without their published weights. The
figures mean nothing; what this shows is that it runs end to end. Prints the table; the report lies in DIR.

`--full-size` takes that many steps of that file's own pretraining instead: TimeSformer-L of random weights, batches of
2 x 2 x 2 clips of 96 frames, on the CPU (about a quarter of an hour of one core for a step), and prints the most memory
that a process held.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import resource
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from encoder.model.architecture import architecture
from encoder.model.folder import save_encoder
from encoder.model.identity import new_encoder
from index.processors import usable_cores
from semiome.simulation.cohort import Recording, simulate_cohort
from semiome.simulation.files import write_recording

PAPER = Path(__file__).parent.parent / "examples" / "paper.toml"
PATIENTS, VIDEOS, LABELLED_TLE, LABELLED_EXTLE = 40, 731, 42, 15
OF_CLASS = {"TLE": (10, LABELLED_TLE), "exTLE": (5, LABELLED_EXTLE)}
SECONDS, LABELLED_SECONDS, FPS, WIDTH, HEIGHT = 12.0, 26.0, 5, 128, 96
MINIATURE = {
    r'encoder = ".*"': 'encoder = "encoder"',
    r'device = "cuda"': 'device = "cpu"',
    r'detector = "maskrcnn"': 'detector = "simulated"',
    r'weights = ".*"\n': "",
    r'sha256 = ".*"\n': "",
    r'precision = "bf16"': 'precision = "fp32"',
    r"epochs = 5\n": "epochs = 1\nmax_steps = 40\n",
    r"size = 224": "size = 32\nsnippet_frames = 8",
    r'kind = "r2plus1d"': 'kind = "r2plus1d"\nsize = 32\nsnippet_frames = 8',
    r"frames = 150 .*": "frames = 50\nsize = 32\nstarts = 1\nepochs = 20",
}


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("paper-miniature"))
    options.add_argument("--estimate", action="store_true", help="only say what it would take")
    options.add_argument("--full-size", type=int, metavar="STEPS", help="of the pretraining itself, on the CPU")
    chosen = options.parse_args()
    folder = chosen.out.resolve()
    if chosen.full_size:
        pretrain_full_size(folder, chosen.full_size)
        return
    config = prepared(folder)
    command = [sys.executable, "-m", "semiome", "ablate", str(config), "--workspace", str(folder / "workspace")]
    subprocess.run([*command, *(["--estimate"] if chosen.estimate else [])], check=True)


def pretrain_full_size(folder: Path, steps: int) -> None:
    """Pretrain as the paper's file says, but for the device and what of a batch is held at once, and say what it took.

    One clip's activations are held at a time, and computed again on the way back: more don't fit into 24 GiB.
    """
    recordings = [replace(one, seconds=LABELLED_SECONDS) for one in simulate_cohort(4, 4, seed=12, prefix="full")]
    write_videos(recordings, folder / "unlabelled", folder / "unlabelled.csv", full_size=True)
    recipe = tomllib.loads(PAPER.read_text(encoding="utf-8"))["pretrain"]
    recipe |= {"epochs": steps, "max_steps": steps, "at_once": 1, "activation_checkpointing": "full"}
    lines = ['name = "full-size"', 'manifest = "unlabelled.csv"', 'encoder = "timesformer-l"', 'device = "cpu"']
    lines += ["[pretrain]", *(f"{key} = {json.dumps(value)}" for key, value in recipe.items())]
    config = folder / "full-size.toml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(config.read_text())
    started = time.monotonic()
    command = [sys.executable, "-m", "semiome", "pretrain", str(config), "--workspace", str(folder / "workspace")]
    subprocess.run(command, check=True)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    print(f"{steps} steps, decoding included: {time.monotonic() - started:.0f} s, at most {most:.1f} GiB of memory")


def prepared(folder: Path) -> Path:
    """Draw the videos, write both manifests and the configuration; what is there already is not drawn again."""
    unlabelled, labelled = cohorts()
    write_videos(unlabelled, folder / "unlabelled", folder / "unlabelled.csv")
    write_videos(labelled, folder / "labelled", folder / "labelled.csv")
    shape = architecture(8, 32, 32, 2, 2, patch_size=16, embedding_dim=64)
    encoder = save_encoder(new_encoder(shape, seed=0), folder / "encoders")
    if not (folder / "encoder").exists():
        (folder / "encoder").symlink_to(encoder)
    text = PAPER.read_text(encoding="utf-8")
    for pattern, replacement in MINIATURE.items():
        text, changed = re.subn(pattern, replacement, text)
        if not changed:
            raise ValueError(f"examples/paper.toml has nothing like {pattern!r} any more")
    config = folder / "paper.toml"
    config.write_text(text, encoding="utf-8")
    return config


def cohorts() -> tuple[list[Recording], list[Recording]]:
    """731 videos of 40 patients, and 57 others of 15 of these."""
    drawn = simulate_cohort(PATIENTS, 24, seed=11, prefix="paper")
    of_patient: dict[str, list[Recording]] = {}
    for recording in drawn:
        of_patient.setdefault(recording.patient_id, []).append(recording)
    more = VIDEOS - PATIENTS * (VIDEOS // PATIENTS)
    unlabelled = [
        replace(recording, seconds=SECONDS)
        for number, recordings in enumerate(of_patient.values())
        for recording in recordings[: VIDEOS // PATIENTS + (number < more)]
    ]
    labelled = []
    for label, (patients, videos) in OF_CLASS.items():
        chosen = [recordings for recordings in of_patient.values() if recordings[0].label == label][:patients]
        rest = [recording for number in range(19, 24) for recordings in chosen for recording in [recordings[number]]]
        labelled += [replace(recording, seconds=LABELLED_SECONDS) for recording in rest[:videos]]
    return unlabelled, labelled


def write_videos(recordings: list[Recording], folder: Path, manifest: Path, *, full_size: bool = False) -> None:
    """Draw videos, small ones of few frames unless `full_size`, and their manifest last."""
    if manifest.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    size = {} if full_size else {"width": WIDTH, "height": HEIGHT, "fps": FPS}
    draw = partial(write_recording, folder=folder, **size)
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        list(pool.map(draw, recordings, chunksize=8))
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("file_name", "patient_id", "video_id", "label", "camera"))
        for one in recordings:
            name = f"{folder.name}/{one.video_id}.mp4"
            label = one.label if folder.name == "labelled" else ""
            rows.writerow((name, one.patient_id, one.video_id, label, one.camera))


if __name__ == "__main__":
    main()
