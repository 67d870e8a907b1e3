"""Small real things that many tests use: videos, encoders, a stored cohort of width-8 vectors.

Nothing heavy is imported here at the top: what needs neither torch nor the store is collected and run in a moment.
"""

import csv
import fcntl
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

# Several tests at once, each on one core, and so are the processes they start; read when torch is imported. Threads
# that wait for each other in a loop would hold up whoever else wants the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from index.processors import usable_cores
from index.records import Clip, EmbeddedClip, Video, clip_id
from index.workspace import Workspace, set_current
from tests import forge, needs

# Neither how long an example takes nor how long it takes to make up is what a test is about.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "videos" / "expected.json").read_text())["files"]
WIDTH = 8
TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.forge = forge.prepare()


def pytest_unconfigure(config):
    if hasattr(config, "forge"):
        config.forge.cleanup()


def pytest_ignore_collect(collection_path):
    """Files that can't even be imported where what they need is not installed, see `tests.interpreters`."""
    if TORCH or collection_path.suffix != ".py":
        return None
    return bool(re.search(r'^pytestmark = .*needs\(.*"torch"', collection_path.read_text(), re.MULTILINE)) or None


def pytest_collection_modifyitems(items):
    lacks = needs.missing() if TORCH else {*needs.missing(), "torch"}
    for item in items:
        wanted = {name for mark in item.iter_markers("needs") for name in mark.args}
        if wanted and (lacking := sorted(wanted & lacks)):
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(lacking)} is missing: see `python -m tests.needs`"))


def pytest_xdist_auto_num_workers():
    """One more than cores, for tests wait for processes much of the time; more than four would only start slowly."""
    return min(usable_cores() + 1, 4)


@pytest.fixture(autouse=True)
def one_thread():
    """UMAP sets threads for the whole process: what torch computes after it would take ten times as long."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def tiny_architecture(num_frames=4, image_size=32):
    from encoder.model.architecture import architecture

    return architecture(
        num_frames=num_frames, image_size=image_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )


@pytest.fixture(scope="session")
def tiny_encoder():
    """A real encoder of one layer, 32 wide, with its projection to 768."""
    from encoder.model.identity import new_encoder

    return new_encoder(tiny_architecture(), seed=0)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def hospital(tmp_path):
    """A folder to put videos and a manifest into: `hospital(*rows)` copies the files and writes `manifest.csv`."""
    folder = tmp_path / "hospital"
    folder.mkdir()

    def write(*rows, columns=("file_name", "patient_id", "video_id")):
        for row in rows:
            source = DATA / "videos" / row[0]
            if source.exists() and not (folder / row[0]).exists():
                shutil.copy(source, folder / row[0])
        with (folder / "manifest.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
        return folder / "manifest.csv"

    return write


def made_once(tmp_path_factory, name, make):
    """A folder that all of pytest's processes share, for what takes long to make.

    Args:
        tmp_path_factory: pytest's.
        name: of the folder.
        make: called with the folder by the first that wants it; what it returns, as JSON holds it, is for all.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = base / f"{name}.json"
        if not made.exists():
            (base / name).mkdir()
            made.write_text(json.dumps(make(base / name)))
    return base / name, json.loads(made.read_text())


def unit(random, width=WIDTH):
    vector = random.normal(size=width).astype(np.float32)
    return vector / np.linalg.norm(vector)


def make_video(patient, number, clips, random, width=WIDTH, stride=10.0, **fields):
    """A video with random unit vectors; its patient, label and date follow from its numbers.

    With a stride its last clip begins half a stride after the one before.
    """
    starts = [stride * i for i in range(clips)]
    if stride < 10 and clips > 1:
        starts[-1] -= stride / 2
    source = fields.pop("source_sha256", f"{patient:02d}{number:02d}".ljust(64, "0"))
    video_id = fields.pop("video_id", f"v{patient}-{number}")
    described = {
        "label": ("TLE", "exTLE", "")[patient % 3],
        "recorded_at": f"2024-0{1 + patient % 9}-0{1 + number % 9}T00:00:00",
        "semiology": ("Semiology-versive",) if number % 2 else (),
        "duration_s": starts[-1] + 10.0,
        "clip_count": clips,
        "metadata": (("night", "yes" if number % 2 else "no"), ("ward", f"Ward {patient % 2}")),
    }
    video = Video(video_id, f"p{patient}", source, **{**described, **fields})
    embedded = [
        EmbeddedClip(
            Clip(clip_id(source, video.video_id, start), video.video_id, video.patient_id, i, start, 10.0),
            unit(random, width),
        )
        for i, start in enumerate(starts)
    ]
    return video, embedded


def make_cohort(patients=5, videos=3, clips=4, seed=0):
    random = np.random.default_rng(seed)
    return [make_video(p, v, clips, random) for p in range(patients) for v in range(videos)]


def commit(workspace, cohort, encoder_id="enc1"):
    from index.tables.committer import committing
    from index.tables.store import Store

    store = Store(workspace)
    with committing(store, encoder_id, len(cohort[0][1][0].vector)) as committer:
        committer.commit(cohort)
    return store


def publish_all(workspace, encoder_id="enc1"):
    from index.tables.store import Store
    from index.vectors.generation import build_generation
    from index.vectors.publication import publish

    manifest = build_generation(Store(workspace).clips(encoder_id), workspace.generations)
    publish(workspace, manifest.generation)
    return manifest


def head_layers(seed=0, width=WIDTH):
    """One linear layer of random weights, from the embedding to two classes."""
    random = np.random.default_rng(seed)
    weight = random.normal(0, width**-0.5, (2, width)).astype(np.float32)
    return {"layers.0.weight": weight, "layers.0.bias": np.zeros(2, np.float32)}


def install_head(workspace, encoder_id="enc1", seed=0, width=WIDTH):
    """A head with random weights, in use from now on."""
    from encoder.head import Head, HeadCard, save_head

    card = HeadCard((width, 2), ("TLE", "exTLE"), 0.5, 1.0, encoder_id, "0" * 64, 1, 1, 1, (), seed, 1)
    head = Head(head_layers(seed, width), card)
    save_head(head, workspace.heads)
    set_current(workspace.heads, head.head_id)
    return head


def install_signs(workspace, names, encoder_id="enc1", seed=0, width=WIDTH):
    """Sign heads with random weights, in use from now on."""
    from encoder.signs import SignHeads, SignsCard, save_signs
    from index.semiology import LearnedSign

    random = np.random.default_rng(seed)
    signs = tuple(LearnedSign(name, 6, 9, 0.8, 0.65, 0.9) for name in names)
    left = (("Semiology-dacrystic", "2 patients with it: 5 are needed"),)
    card = SignsCard(encoder_id, signs, left, "0" * 64, 1, 1, 1, seed)
    weights = (8 * random.normal(size=(len(names), width))).astype(np.float32)
    heads = SignHeads(weights, np.zeros(len(names), np.float32), card)
    save_signs(heads, workspace.signs)
    set_current(workspace.signs, heads.signs_id)
    return heads


@pytest.fixture
def cohort():
    """5 patients x 3 videos x 4 clips."""
    return make_cohort()


@pytest.fixture
def stored(workspace, cohort):
    """The workspace with that cohort stored and published."""
    commit(workspace, cohort)
    publish_all(workspace)
    return workspace
