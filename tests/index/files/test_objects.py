"""A workspace that several hosts share, on an S3 server started here."""

import multiprocessing
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import boto3
import numpy as np
import pytest
from typer.testing import CliRunner

from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.custody.receipts import check_receipt
from index.errors import DamagedData, InvalidInput, Locked, StateError
from index.files import bucket as objects
from index.files.bucket import bucket
from index.query import ClipQuery
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.tables.blocklist import workspace_key
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.generation import build_generation, list_generations, load_generation
from index.vectors.publication import fetch, release, roll_back
from index.workspace import Workspace, current
from semiome.app import app
from tests.conftest import make_cohort, make_video
from tests.forge import Forged
from tests.waiting import PATIENCE_S, until

SERVERS = {}
"""Process ids by address."""


@contextmanager
def s3(*options):
    """An S3 server with a bucket; yields its address."""
    with Forged(*options, module="tests.index.files.s3", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            boto3.client(
                "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
            ).create_bucket(Bucket="clips")
            SERVERS[address] = server.pid
            yield address
        finally:
            server.kill()


@pytest.fixture(scope="module")
def address():
    with s3() as server:
        yield server


def use(monkeypatch, address):
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket.cache_clear()


@pytest.fixture
def hosts(address, tmp_path, monkeypatch, request):
    """Two hosts' workspaces over one prefix."""
    use(monkeypatch, address)
    monkeypatch.setattr(objects, "LEASE_S", 2.0)
    url = f"s3://clips/{request.node.name.replace('[', '-').replace(']', '')}"
    yield Workspace(tmp_path / "one", url), Workspace(tmp_path / "two", url)
    bucket.cache_clear()


def commit(workspace, cohort):
    with committing(Store(workspace), "enc1", 8) as committer:
        committer.commit(cohort)


def build(workspace):
    fetch(workspace)
    manifest = build_generation(Store(workspace).clips("enc1"), workspace.generations)
    release(workspace, manifest.generation, publish_it=True)
    return manifest.generation


def ids(workspace):
    return sorted(clip.clip_id for clip in Store(workspace).clips("enc1").clips)


def test_what_one_host_stores_and_builds_another_searches(hosts):
    one, two = hosts
    cohort = make_cohort()
    with pytest.raises(StateError, match="no store yet"):
        Store(one).table_names()
    commit(one, cohort)
    first = build(one)

    serving = SnapshotLoader(two)

    asked = cohort[0][1][0].clip
    here = search(SnapshotLoader(one).snapshot, ClipQuery(asked.clip_id), 10)
    assert search(serving.snapshot, ClipQuery(asked.clip_id), 10) == here
    assert serving.snapshot.name == first
    later = make_video(9, 0, 3, np.random.default_rng(5))
    commit(two, [later])
    second = build(two)
    assert SnapshotLoader(one).snapshot.name == second
    assert serving.refresh()
    assert {clip.clip_id for clip in serving.snapshot.clips(np.arange(len(serving.snapshot)))} == set(ids(one))
    assert {finding.state for finding in examine(one)} == {"ok"}
    assert any("one is refused" in finding.says for finding in examine(one))


def test_an_erased_patient_is_gone_from_the_bucket_and_from_both_hosts(hosts):
    one, two = hosts
    others = make_cohort(patients=3)
    random = np.random.default_rng(3)
    theirs, clips = make_video(7, 0, 4, random, semiology=())
    theirs = replace(theirs, patient_id="patient-of-mine")
    clips = [replace(e, clip=replace(e.clip, patient_id="patient-of-mine")) for e in clips]
    commit(one, [*others, (theirs, clips)])
    build(one)
    serving = SnapshotLoader(two)

    receipt = erase_patient(one, "patient-of-mine")

    assert receipt["scan"]["files_with_finds"] == ()
    assert check_receipt(two, receipt)
    assert workspace_key(one) == workspace_key(two)
    assert serving.refresh()
    assert not any(c.patient_id == "patient-of-mine" for c in serving.snapshot.clips(np.arange(len(serving.snapshot))))
    objects_there = bucket(one.bucket).sizes("")
    needles = [b"patient-of-mine", *(e.vector.tobytes() for e in clips)]
    assert objects_there
    assert not any(needle in bucket(one.bucket).read(name) for name in objects_there for needle in needles)
    with pytest.raises(StateError, match="was erased"):
        commit(two, [(theirs, clips)])
    fetch(two, everything=True)
    assert list_generations(two.generations) == list_generations(one.generations)
    assert len(list_generations(one.generations)) == 1


def theirs_among(others):
    """A cohort with one patient more: the cohort, and that patient's clips."""
    video, clips = make_video(7, 0, 4, np.random.default_rng(3), semiology=())
    clips = [replace(e, clip=replace(e.clip, patient_id="patient-of-mine")) for e in clips]
    return [*others, (replace(video, patient_id="patient-of-mine"), clips)], clips


def left_in(place, clips):
    needles = [b"patient-of-mine", *(e.vector.tobytes() for e in clips)]
    return [name for name in place.sizes("") if any(needle in place.read(name) for needle in needles)]


def test_no_host_brings_back_a_generation_that_was_removed(hosts):
    one, two = hosts
    cohort, clips = theirs_among(make_cohort(patients=3))
    commit(one, cohort)
    old = build(one)
    serving = SnapshotLoader(two)
    assert list_generations(two.generations) == [old]
    erase_patient(one, "patient-of-mine")

    build(two)

    assert left_in(bucket(one.bucket), clips) == []
    assert old not in list_generations(two.generations)
    assert serving.refresh()
    assert not any(b"patient-of-mine" in path.read_bytes() for path in two.root.rglob("*") if path.is_file())


def test_an_index_built_during_an_erasure_is_not_released(hosts):
    one, two = hosts
    cohort, clips = theirs_among(make_cohort(patients=3))
    commit(one, cohort)
    serving = build(one)
    stored = Store(two).clips("enc1")
    erase_patient(one, "patient-of-mine")
    late = build_generation(stored, two.generations).generation

    with pytest.raises(StateError, match="erased while the index was being built"):
        release(two, late, publish_it=True)

    assert left_in(bucket(one.bucket), clips) == []
    assert late not in list_generations(two.generations)
    assert SnapshotLoader(two).snapshot.name != serving


def test_what_a_killed_upload_has_left_goes_with_the_patient(hosts):
    one, two = hosts
    cohort, clips = theirs_among(make_cohort(patients=3))
    commit(one, cohort)
    name = build(one)
    place = bucket(one.bucket)
    for path in (one.generations / name).iterdir():
        if path.name != "manifest.json":
            place.write(f"generations/000009-{'a' * 16}/{path.name}", path)

    assert erase_patient(two, "patient-of-mine")["scan"]["needles"] > 5
    assert left_in(place, clips) == []


def test_an_erasure_interrupted_on_one_host_is_finished_on_another(hosts, monkeypatch):
    one, two = hosts
    cohort, clips = theirs_among(make_cohort(patients=3))
    commit(one, cohort)
    build(one)

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("index.custody.erasure.rebuild_without", cut)
        with pytest.raises(KeyboardInterrupt):
            erase_patient(one, "patient-of-mine")
    assert any(finding.what == "erasure" for finding in examine(two))

    receipt = erase_patient(two, "patient-of-mine")

    assert receipt["scan"]["needles"] > 5
    assert left_in(bucket(one.bucket), clips) == []
    assert not any(finding.what == "erasure" for finding in examine(one))


def test_what_serves_is_said_by_one_place(hosts):
    one, two = hosts
    commit(one, make_cohort())
    first = build(one)
    fetch(two)
    second = build(one)
    commit(two, [make_video(9, 0, 3, np.random.default_rng(5))])
    unpublished = build_generation(Store(two).clips("enc1"), two.generations).generation
    release(two, unpublished, publish_it=False)
    fetch(one)
    fetch(two)

    assert current(one.generations) == current(two.generations) == second
    fetch(two, everything=True)
    assert list_generations(two.generations) == sorted([first, second, unpublished])
    roll_back(two)
    fetch(one)
    assert current(one.generations) == current(two.generations) == first


def hold(root, url, started):
    """Take the right to write and never give it back."""
    objects.LEASE_S = 2.0
    with Store(Workspace(root, url)).writing():
        started.set()
        time.sleep(600)


def test_one_writes_at_a_time_and_the_dead_hold_nobody_up(hosts):
    one, two = hosts
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    holder = context.Process(target=hold, args=(one.root, one.bucket, started))
    holder.start()
    assert started.wait(PATIENCE_S)

    with pytest.raises(Locked):
        commit(two, make_cohort(patients=1))
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    commit(two, make_cohort(patients=1))

    assert len(ids(one)) == 12


def test_a_writer_that_was_taken_for_dead_writes_no_more(hosts):
    one, two = hosts
    commit(one, make_cohort(patients=1))
    with committing(Store(one), "enc1", 8) as committer:

        def taken():  # between two signs of life, whenever they come
            lost = bucket(one.bucket)._read("commit.lock")[1]
            return bucket(one.bucket)._put("commit.lock", b"another", {"e_tag": lost})

        until(taken)
        time.sleep(0.8)  # its next sign of life is refused
        with pytest.raises(Locked, match=r"lost to another"):
            committer.commit(make_cohort(patients=2))
        with pytest.raises(Locked, match=r"lost to another"):
            committer.compact()

    assert len(ids(two)) == 12


def test_two_who_wrote_at_once_are_told(hosts):
    one, two = hosts
    commit(one, make_cohort(patients=1))
    with committing(Store(one), "enc1", 8) as committer:
        committer._clips.count_rows()
        table = Store(two).writable("clips_enc1")
        table.delete("clip_id = 'none'")
        with pytest.raises(DamagedData, match="another process wrote"):
            committer.commit(make_cohort(patients=2))


def write_all(root, url, number):
    """One of several writers of the same keys: tries until it may."""
    objects.LEASE_S = 2.0
    for video, clips in make_cohort(patients=1, videos=2):
        while True:
            try:
                commit(Workspace(root / str(number), url), [(replace(video, camera=f"room-{number}"), clips)])
                break
            except Locked:
                time.sleep(0.05)


def test_writers_of_the_same_keys_leave_one_row_a_clip(hosts, tmp_path):
    one, _ = hosts
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_all, args=(tmp_path, one.bucket, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert ids(one) == sorted(e.clip.clip_id for _, clips in make_cohort(patients=1, videos=2) for e in clips)


def test_a_storage_that_forgets_conditions_is_found_out(tmp_path, monkeypatch):
    with s3("--forgetful") as address:
        use(monkeypatch, address)
        workspace = Workspace(tmp_path, "s3://clips/forgetful")
        found = {f.what: f for f in examine(workspace)}["object storage"]
    bucket.cache_clear()

    assert found.state == "damaged"
    assert "conditional writes are not kept" in found.says


def test_a_storage_that_does_not_answer_is_named(tmp_path, monkeypatch):
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StateError, match="does not answer"):
        bucket("s3://clips/nowhere").read("key")
    bucket.cache_clear()


def test_a_bucket_that_is_not_there_is_named(address, tmp_path, monkeypatch):
    use(monkeypatch, address)
    workspace = Workspace(tmp_path, "s3://no-such-bucket/x")
    for attempt in (lambda: commit(workspace, make_cohort(patients=1)), lambda: Store(workspace).table_names()):
        with pytest.raises(StateError) as caught:
            attempt()
        assert "no-such" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
    bucket.cache_clear()


def test_a_copy_that_was_damaged_on_the_way_is_refused(hosts):
    one, two = hosts
    commit(one, make_cohort())
    name = build(one)
    path = f"generations/{name}/vectors.npy"
    data = bytearray(bucket(one.bucket).read(path))
    data[-1] ^= 1
    bucket(one.bucket).write(path, bytes(data))

    fetch(two)

    with pytest.raises(DamagedData, match=r"vectors\.npy"):
        load_generation(two.generations)


def test_commands_take_the_address(hosts, monkeypatch, tmp_path):
    one, _ = hosts
    monkeypatch.setenv("SEMIOME_LOCAL", str(tmp_path / "local"))
    there = Workspace.at(one.bucket + "/")
    assert there.bucket == one.bucket
    assert there.root.parent == tmp_path / "local"
    commit(there, make_cohort())
    first, second = build(there), build(there)

    result = CliRunner().invoke(app, ["index", "rollback", "--workspace", one.bucket, "--json"])
    assert (result.exit_code, current(there.generations)) == (0, first), result.output
    fetch(one)
    assert current(one.generations) == first
    result = CliRunner().invoke(app, ["index", "gc", "--keep", "0", "-w", one.bucket])
    assert (result.exit_code, list_generations(there.generations)) == (0, [first, second]), result.output
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEMIOME_LOCAL", str(tmp_path / "file"))
    result = CliRunner().invoke(app, ["index", "list", "-w", one.bucket])
    assert "SEMIOME_LOCAL names no folder that can be used (Not a directory)" in str(result.exception)
    for place in ("s3://", "gs://clips/x", "s3://clips/../x", "s3://clips/a b"):
        with pytest.raises(InvalidInput):
            Workspace.at(place)
