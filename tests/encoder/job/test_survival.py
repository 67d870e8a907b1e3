"""What an encode job leaves when it is killed, when the disk is full, when a child runs out of memory."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from encoder.job.pipeline import EncodeOptions, encode
from encoder.job.report import Refusal
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import install_encoder
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.writer import write_h264
from index.errors import DamagedData, NotFound, StateError, VideoRefused
from index.tables.store import Store
from index.workspace import Workspace
from tests.encoder.job.encode_worker import job
from tests.waiting import PATIENCE_S

KILLS = int(os.environ.get("SEMIOME_KILLS", "12"))
"""`make faults` has more."""
NAMES = ("h264_25fps.mp4", "short_7s.mp4", "h264_vfr.mp4", "h264_rotate90.mp4", "mjpeg.avi", "vp9.webm")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    # Not LanceDB: its threads start with its import.
    context.set_forkserver_preload(["encoder.model.embed", "encoder.manifest", "encoder.video.decoder"])
    return context


def begun(processes, *arguments):
    """A job that has begun its work."""
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=job, args=(*map(str, arguments), theirs))
    process.start()
    theirs.close()
    assert ours.recv_bytes() == b"."
    return process


def table(workspace, encoder):
    stored = Store(Workspace(workspace)).clips(encoder.encoder_id)
    return {clip: vector.tobytes() for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


def stored_videos(workspace, encoder):
    """Videos with both their clips and their row: a kill between the two commits leaves clips in flight."""
    try:
        return {clip.video_id for clip in table(workspace, encoder)} & Store(Workspace(workspace)).videos().keys()
    except (StateError, NotFound):  # not even a table yet
        return set()


@pytest.mark.slow
def test_a_job_killed_at_random_moments_leaves_what_an_undisturbed_one_leaves(
    hospital, tmp_path, tiny_encoder, processes
):
    manifest = hospital(*((name, f"p{number}", f"v{number}") for number, name in enumerate(NAMES)))
    whole, record = tmp_path / "whole", tmp_path / "whole.log"
    undisturbed = begun(processes, manifest, whole, record)
    started = time.monotonic()
    undisturbed.join(PATIENCE_S)
    seconds = time.monotonic() - started
    assert undisturbed.exitcode == 0
    wanted = table(whole, tiny_encoder)
    videos = Store(Workspace(whole)).videos()
    video_of = dict(zip(record.read_text().split(), (clip.video_id for clip in wanted), strict=True))
    assert len(video_of) == len(wanted) >= 10

    moments = random.Random(4)
    kills = rounds = resumed = 0
    while kills < KILLS:
        rounds += 1
        folder = tmp_path / f"round{rounds}"
        done = False
        while not done:
            before, record = stored_videos(folder, tiny_encoder), tmp_path / "record.log"
            record.unlink(missing_ok=True)
            resumed += bool(before)
            process = begun(processes, manifest, folder, record)
            process.join(moments.uniform(0, seconds) if kills < KILLS else PATIENCE_S)
            if process.is_alive():
                process.kill()
                kills += 1
            process.join(PATIENCE_S)
            done = process.exitcode == 0
            # What is stored is not encoded again, and what was stored stays.
            again = {video_of[digest] for digest in record.read_text().split()} if record.exists() else set()
            assert not again & before
            assert before <= stored_videos(folder, tiny_encoder)
        assert table(folder, tiny_encoder) == wanted
        assert Store(Workspace(folder)).videos() == videos
    assert resumed >= max(KILLS // 10, 1)


_ON_A_SMALL_DISK = """
import json, shutil, subprocess, sys
from pathlib import Path
disk, folder, sizes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
encode = [sys.executable, "-m", "semiome", "encode", folder / "manifest.csv", "-w", disk / "workspace", "--json"]
for size in sizes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
    shutil.copytree(folder / "start", disk / "workspace")
    full = subprocess.run(encode, capture_output=True, text=True)
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    then = subprocess.run(encode, capture_output=True, text=True)
    shutil.copytree(disk / "workspace", folder / size)
    subprocess.run(["umount", disk], check=True)
    print(json.dumps([full.returncode, full.stdout, full.stderr, then.returncode, then.stderr]))
"""


@pytest.mark.slow
@pytest.mark.needs("namespaces")
def test_a_full_disk_is_named_and_the_same_command_goes_on_once_there_is_room(hospital, tmp_path, tiny_encoder):
    """On a real tmpfs: too small for the first table, for the rows."""
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))
    start = manifest.parent / "start"
    install_encoder(tiny_encoder, Workspace(start).encoders)
    (tmp_path / "disk").mkdir()
    kib = sum(-(-path.stat().st_size // 4096) * 4 for path in start.rglob("*"))
    sizes = [str(kib + more) for more in (8, 80, 4000)]

    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", _ON_A_SMALL_DISK, tmp_path / "disk", manifest.parent, *sizes],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(outcome[0], outcome[3]) for outcome in outcomes] == [(4, 0)] * (len(sizes) - 1) + [(0, 0)]
    for code, out, _, _, said in outcomes:
        if code:
            error = json.loads(out)["error"]
            assert error["type"] == "DiskFull"
            assert "the disk is full" in error["message"]
        assert "Traceback" not in said
    tables = [table(manifest.parent / size, tiny_encoder) for size in sizes]
    assert len(tables[-1]) == 4
    assert all(found == tables[-1] for found in tables)


def test_a_table_whose_creation_was_cut_off_is_created_again_and_one_that_lost_its_versions_is_not(
    hospital, workspace, tiny_encoder
):
    rows, embedder, store = (
        read_manifest(hospital(("short_7s.mp4", "p1", "v1"))),
        Embedder(tiny_encoder),
        Store(workspace),
    )
    (workspace.store / "patients.lance" / "_versions").mkdir(parents=True)

    assert encode(rows, embedder, store).clips_written == 1

    shutil.rmtree(workspace.store / "videos.lance" / "_versions")
    with pytest.raises(DamagedData, match="table videos of the store has lost its versions"):
        encode(rows, embedder, store)


def test_a_child_that_runs_out_of_memory_is_said_and_is_no_damage(hospital, workspace, tiny_encoder):
    """With the least memory that is too little: what libraries take of it differs from machine to machine."""
    manifest = hospital(("large.mp4", "p1", "v1"))
    write_h264(manifest.parent / "large.mp4", [np.full((3056, 3056, 3), 90, np.uint8)] * 8, 1, 3056, 3056)
    rows, embedder, store = read_manifest(manifest), Embedder(tiny_encoder), Store(workspace)

    def suffices(limits):
        with Decoder(4, 32, limits) as decoder, suppress(VideoRefused):
            return len(list(decoder.decode(manifest.parent / "large.mp4"))) == 1
        return False

    tried = (DecodeLimits(memory_bytes=mebibytes * 2**20) for mebibytes in range(600, 100, -20))
    limits = next(limits for limits in tried if not suffices(limits))
    short = encode(rows, embedder, store, EncodeOptions(limits=limits, salvage=True))
    enough = encode(rows, embedder, store)

    assert (short.clips_written, short.salvaged) == (0, [])
    assert short.refused == [Refusal("v1", "large.mp4", "decoding it takes more memory than a child process may have")]
    assert (enough.clips_written, enough.refused) == (1, [])
