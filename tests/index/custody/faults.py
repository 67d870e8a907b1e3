"""Faults done to a real workspace, and what must hold after each. `test_faults.py` does a few, `make faults` many.

    python -m tests.index.custody.faults [--kills 200] [--flips 500]

One JSON object a kind of fault on stdout; ends with 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from index.custody.doctor import DAMAGED, examine
from index.custody.erasure import erase_patient
from index.errors import DamagedData, DiskFull, NotFound, SemiomeError
from index.files.durable import sync_tree
from index.query import ClipQuery
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.tables.committer import committing
from index.tables.store import Store
from index.traces.scan import scan
from index.vectors.faiss_index import KINDS
from index.vectors.generation import build_generation, list_generations, load_generation
from index.vectors.publication import publish
from index.workspace import Workspace, current
from tests import forge
from tests.conftest import make_video
from tests.forge import Forged

PATIENTS, VIDEOS, CLIPS, WIDTH = 6, 2, 4, 64
ERASED = "p5"
OPERATIONS = ("upsert", "compact", "build", "publish", "erase")
NEXT_START_S = 30.0
PAGE = 4096


def video(patient, number, seed=0):
    """One of the campaign's videos, the same whenever it is asked for."""
    return make_video(patient, number, CLIPS, np.random.default_rng([seed, patient, number]), WIDTH)


def start(folder):
    """A workspace with six patients, many small files and two generations, of both kinds."""
    workspace = Workspace(Path(folder))
    with committing(Store(workspace), "enc1", WIDTH) as committer:
        for patient in range(PATIENTS):
            for number in range(VIDEOS):
                committer.commit([video(patient, number)])
    for kind in KINDS:
        built = build_generation(Store(workspace).clips("enc1"), workspace.generations, kind=kind, recall_target=0.1)
        publish(workspace, built.generation)
    return workspace


# What is killed, disturbed, or short of room: each goes on from wherever it was, and tells what it has acknowledged.


def upsert(workspace, told):
    with committing(Store(workspace), "enc1", WIDTH) as committer:
        for number in range(10):
            committer.commit([video(6 + number // 4, number % 4)])
            told(f"v{6 + number // 4}-{number % 4}")


def compact(workspace, told):
    with committing(Store(workspace), "enc1", WIDTH) as committer:
        for number in range(3):
            committer.commit([video(6, number)])
            told(f"v6-{number}")
            committer.compact()


def build(workspace, told):
    for kind in KINDS:
        stored = Store(workspace).clips("enc1")
        built = build_generation(stored, workspace.generations, kind=kind, recall_target=0.1)
        told(built.generation)


def publish_in_turn(workspace, told):
    names = list_generations(workspace.generations)
    for number in range(40):
        publish(workspace, names[number % 2], force=True)
        told(names[number % 2])


def erase(workspace, told):
    with suppress(NotFound):  # it is done
        erase_patient(workspace, ERASED)
    told("erased")


WORK = {"upsert": upsert, "compact": compact, "build": build, "publish": publish_in_turn, "erase": erase}


def check(workspace, operation, told, name_before):
    """What must hold however an operation ended.

    Returns:
        Seconds until the workspace could be searched.
    """
    began = time.monotonic()
    serving = SnapshotLoader(workspace)
    seconds = time.monotonic() - began
    snapshot, store = serving.snapshot, Store(workspace)
    stored = store.clips("enc1")
    clips = {}
    for row, clip in enumerate(stored.clips):
        clips.setdefault(clip.video_id, []).append((clip.clip_index, stored.vectors[row].tobytes()))
    possible = {v.video_id: e for p in range(9) for n in range(4) for v, e in (video(p, n),)}
    for video_id, rows in clips.items():
        whole = [(e.clip.clip_index, e.vector.tobytes()) for e in possible[video_id]]
        assert rows == whole, f"{video_id} is not whole"
    kept = {f"v{p}-{n}" for p in range(PATIENTS) for n in range(VIDEOS)} - {f"v5-{n}" for n in range(VIDEOS)}
    kept |= {one for one in told if one.startswith("v")}
    if operation != "erase":
        kept |= {f"v5-{n}" for n in range(VIDEOS)}
    assert kept <= clips.keys(), "an acknowledged video is gone"
    found = {clip.clip_id for clip in snapshot.clips(np.arange(len(snapshot)))}
    assert {clip.clip_id for clip in stored.clips} <= found, "a stored clip is not searched"
    assert search(snapshot, ClipQuery(video(0, 0)[1][0].clip.clip_id), 3).neighbours
    names = list_generations(workspace.generations)
    for name in names:
        load_generation(workspace.generations, name)
    if operation == "build":
        assert set(told) <= set(names), "a finished generation is gone"
    if operation == "publish" and told:
        assert current(workspace.generations) in names
    elif operation in ("upsert", "compact", "build"):
        assert current(workspace.generations) == name_before, "another generation serves"
    damaged = [finding for finding in examine(workspace) if finding.state == DAMAGED]
    assert not damaged, damaged
    return seconds


def finished(workspace, operation):
    """Do the operation to its end and check that nothing is left of what was disturbed."""
    before = current(workspace.generations)
    told = []
    WORK[operation](workspace, told.append)
    check(workspace, operation, told, before)
    assert not list(workspace.generations.glob(".building-*")), "what was unfinished is left"
    if operation == "erase":
        traces = [e.vector[:16].tobytes() for n in range(VIDEOS) for e in video(5, n)[1]]
        traces += [e.clip.clip_id.encode() for n in range(VIDEOS) for e in video(5, n)[1]]
        assert scan([workspace.root], traces).files_with_finds == (), "something of an erased patient is left"


def kill(operation, template, times, seed=0):
    """Kill -9 at random moments of an operation; returns how many kills hit it at work, and the slowest next start."""
    moments = random.Random(f"{operation} {seed}")
    slowest, hits, whole = 0.0, 0, None
    while hits < times:
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace(Path(folder) / "workspace")
            shutil.copytree(template, workspace.root)
            before = current(workspace.generations)
            command = ("--work", operation, workspace.root)
            with Forged(*command, module="tests.index.custody.faults", stdout=subprocess.PIPE) as worker:
                assert worker.stdout.readline() == "ready\n"
                began = time.monotonic()
                if whole is not None:
                    time.sleep(moments.uniform(0, whole))
                    worker.kill()
                told = worker.stdout.read().split()
            if whole is None:
                assert worker.returncode == 0
                whole = time.monotonic() - began
            hits += worker.returncode == -9
            slowest = max(slowest, check(workspace, operation, told, before))
            assert slowest <= NEXT_START_S
            finished(workspace, operation)
    return {"fault": f"kill -9 during {operation}", "points": hits, "slowest_next_start_s": round(slowest, 2)}


def fill(operation, template, disk, step=1, most=10_000):
    """Let the disk be full at each next page that an operation writes, until it succeeds; `disk` is a small tmpfs."""
    refused, pages = 0, 0
    while pages <= most:
        workspace = Workspace(disk / "workspace")
        shutil.copytree(template, workspace.root)
        before = current(workspace.generations)
        ballast = disk / "ballast"
        free = shutil.disk_usage(disk).free
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(free - pages * PAGE, 1))
        told, full = [], False
        try:
            WORK[operation](workspace, told.append)
        except DiskFull:
            refused, full = refused + 1, True
        ballast.unlink()
        check(workspace, operation, told, before)
        if full:
            finished(workspace, operation)
        shutil.rmtree(workspace.root)
        if not full:
            return {"fault": f"disk full during {operation}", "full_at": refused, "pages": pages, "step": step}
        pages += step
    raise AssertionError("it never has enough")


def flip(workspace, times, seed=0):
    """Flip single bits of index files and manifests: each must be refused while the old generation serves."""
    random_, folder = random.Random(seed), workspace.generations
    old, new = list_generations(folder)[:2]
    publish(workspace, old)
    serving = SnapshotLoader(workspace)
    asked = ClipQuery(video(0, 0)[1][0].clip.clip_id)
    answer = search(serving.snapshot, asked, 5)
    files = sorted((folder / new).iterdir())
    publish(workspace, new)
    for number in range(times):
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        whole = path.read_bytes()
        path.write_bytes(data)
        try:
            serving.refresh()
        except DamagedData:
            pass
        else:
            raise AssertionError(f"a changed {path.name} was taken up")
        assert search(serving.snapshot, asked, 5) == answer
        path.write_bytes(whole)
    assert serving.refresh()
    return {"fault": "bits flipped in index files and manifests", "flips": times, "refused": times}


def flip_rows(template, times, seed=0):
    """Flip single bits of LanceDB's own files: what is read is right, or refused."""
    random_ = random.Random(seed)
    refused = 0
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch) / "workspace")
        shutil.copytree(template, workspace.root)
        whole = Store(workspace).clips("enc1")
        files = sorted((workspace.store / "clips_enc1.lance" / "data").iterdir())
        for _ in range(times):
            path = random_.choice(files)
            right = path.read_bytes()
            data = bytearray(right)
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
            path.write_bytes(data)
            try:
                read = Store(workspace).clips("enc1")
            except (SemiomeError, RuntimeError, OSError, ValueError):
                refused += 1
            else:
                assert list(read.clips) == list(whole.clips), "wrong clips were read"
                assert read.vectors.tobytes() == whole.vectors.tobytes(), "wrong vectors were read"
            path.write_bytes(right)
    return {
        "fault": "bits flipped in the store's rows",
        "flips": times,
        "refused": refused,
        "read_right": times - refused,
    }


def shift_clock(template, orders=(("-1d", "+1d", "+0d"), ("+1d", "-1d", "+0d"))):
    """Each operation a day early or late, in each of these orders."""
    done = 0
    for shifts in orders:
        with tempfile.TemporaryDirectory() as scratch:
            workspace = Workspace(Path(scratch) / "workspace")
            shutil.copytree(template, workspace.root)
            for shift, operations in zip(
                shifts, (("upsert", "build"), ("compact", "publish"), ("erase",)), strict=True
            ):
                for operation in operations:
                    before = current(workspace.generations)
                    command = [
                        sys.executable,
                        "-m",
                        "tests.index.custody.faults",
                        "--work",
                        operation,
                        str(workspace.root),
                    ]
                    clock = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
                    ran = subprocess.run(
                        ["faketime", "-f", shift, *command], stdout=subprocess.PIPE, text=True, check=True, env=clock
                    )
                    check(workspace, operation, ran.stdout.split()[1:], before)
                    done += 1
    return {"fault": "clock moved by a day", "operations": done}


def cut_version(template):
    """An empty newest version of a table: named, moved aside, and everything acknowledged before is there."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch) / "workspace")
        shutil.copytree(template, workspace.root)
        newest = min((workspace.store / "clips_enc1.lance" / "_versions").glob("*.manifest"))
        newest.with_name(f"{int(newest.stem) - 1}.manifest").write_bytes(b"")
        assert any(finding.state == DAMAGED for finding in examine(workspace))
        assert all(f.repaired or f.state != DAMAGED for f in examine(workspace, repair=True))
        seconds = check(workspace, "upsert", [], current(workspace.generations))
    return {"fault": "empty newest version", "named_and_repaired": 1, "next_start_s": round(seconds, 2)}


def work(operation, root):
    """The worker: does one operation and says what it has acknowledged."""

    def told(what):
        sys.stdout.write(f"{what}\n")
        sys.stdout.flush()

    told("ready")
    WORK[operation](Workspace(Path(root)), told)


def on_a_small_disk(template, operations, step):
    """`fill` for each, on a tmpfs of its own mount namespace; yields figures."""
    command = [sys.executable, "-m", "tests.index.custody.faults", "--fill", *operations, "--template", str(template)]
    done = subprocess.run(
        ["unshare", "-rm", *command, "--step", str(step)], stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def show(figure):
    sys.stdout.write(f"{json.dumps(figure)}\n")
    sys.stdout.flush()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--flips", type=int, default=500)
    options.add_argument("--step", type=int, default=1)
    options.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--fill", nargs="+", help=argparse.SUPPRESS)
    options.add_argument("--template", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.work:
        work(*chosen.work)
        return
    with forge.prepare(), tempfile.TemporaryDirectory() as folder:
        if chosen.fill:
            disk = Path(folder)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
            try:
                for operation in chosen.fill:
                    show(fill(operation, chosen.template, disk, chosen.step))
            finally:
                subprocess.run(["umount", "--lazy", folder], check=True)
            return
        template = Path(folder) / "template"
        workspace = start(template)
        sync_tree(template, {})
        for operation in OPERATIONS:
            show(kill(operation, template, chosen.kills // len(OPERATIONS)))
        for found in on_a_small_disk(template, ("upsert", "compact", "build", "publish", "erase"), chosen.step):
            show(found)
        show(shift_clock(template))
        show(cut_version(template))
        show(flip_rows(template, chosen.flips))
        show(flip(workspace, chosen.flips))


if __name__ == "__main__":
    main()
