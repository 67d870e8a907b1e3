"""Builds and erasures that a call starts, in real processes."""

import json
import os
import signal
from contextlib import ExitStack

import pytest

from index.custody.erasure import withhold
from index.errors import DiskFull, NotFound, ServiceError, StateError
from index.query import VideoQuery
from index.tables.store import Store
from index.vectors.generation import building_lock, read_clips
from index.workspace import current
from service.client import Client
from service.processes.operations import Operations
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.servers import running
from tests.waiting import until


def ended(operations, operation):
    until(lambda: operations.get(operation.operation_id).state != "running")
    return operations.get(operation.operation_id)


def test_a_build_and_an_erasure_by_call(workspace):
    cohort = make_cohort()
    commit(workspace, cohort)
    publish_all(workspace)
    head = install_head(workspace)
    other = install_head(workspace, seed=1)
    with running(workspace) as said, Client(said["address"]) as client:
        built = client.wait(client.build_generation())
        assert (built.state, built.generation) == ("done", current(workspace.generations))
        assert client.search(VideoQuery("v0-0")).provenance.generation == built.generation
        assert [one.serving for one in client.generations()] == [False, True]
        back = client.roll_back_generation()
        assert (back.serving, back.generation) == (True, client.generations()[0].generation)
        assert client.activate_generation(built.generation).generation == built.generation
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            client.activate_generation("000009-0123456789abcdef")

        assert {one.head_id: one.serving for one in client.heads()} == {head.head_id: False, other.head_id: True}
        assert client.activate_head(head.head_id).serving
        assert client.classify(VideoQuery("v0-0")).provenance.head_id == head.head_id

        gone = client.wait(client.erase_patient("p1"))
        assert gone.state == "done"
        assert json.loads(gone.receipt)["scan"]["files_with_finds"] == []
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            client.search(VideoQuery("v1-0"))
        assert "p1" not in {patient.patient_id for patient in client.patients()}
        unknown = client.wait(client.erase_patient("nobody"))
        assert (unknown.state, unknown.code) == ("failed", "NOT_FOUND")
        assert [one.kind for one in client.operations()] == ["erase", "erase", "build"]


def test_one_at_a_time_and_what_is_unknown(stored):
    operations = Operations(stored)
    first = operations.build(publish=True, force=False)
    with pytest.raises(StateError, match="another build is running"):
        operations.build(publish=True, force=False)

    assert ended(operations, first).state == "done"
    for name in ("", "x", "../../etc/passwd", "0" * 300, "0123456789abcdef"):
        with pytest.raises(NotFound):
            operations.get(name)


def test_a_build_can_be_stopped_and_leaves_nothing(stored):
    operations = Operations(stored)
    before = sorted(os.listdir(stored.generations))
    running_one = operations.build(publish=True, force=False)
    until(lambda: operations.get(running_one.operation_id).pid)
    operations.cancel(running_one.operation_id)

    assert ended(operations, running_one).state in {"cancelled", "done"}
    if ended(operations, running_one).state == "cancelled":
        assert sorted(set(os.listdir(stored.generations)) - {"build.lock"}) == sorted(set(before) - {"build.lock"})
    assert operations.cancel(running_one.operation_id) == operations.get(running_one.operation_id)


def test_one_whose_process_was_killed_is_said_to_have_failed(stored):
    operations = Operations(stored)
    started = operations.build(publish=True, force=False)
    os.kill(until(lambda: operations.get(started.operation_id).pid), signal.SIGKILL)

    found = ended(operations, started)
    assert (found.state, found.code) in {("failed", "ABORTED"), ("done", "")}
    assert ended(operations, operations.build(publish=False, force=False)).state == "done"


def test_an_erasure_is_not_stopped(stored):
    operations = Operations(stored)
    started = operations.erase("p1")
    try:
        with pytest.raises(StateError, match="can't be cancelled"):
            operations.cancel(started.operation_id)
    finally:
        assert ended(operations, started).state == "done"


def test_an_erasure_takes_a_patient_out_of_all_answers_while_others_write(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    with running(workspace) as said, Client(said["address"]) as client, ExitStack() as writes:
        writes.enter_context(Store(workspace).writing())
        writes.enter_context(building_lock(workspace.generations))
        started = client.erase_patient("p1")
        until(lambda: "waiting" in client.operation(started.operation_id).stage)
        for ask in (client.search, client.classify):
            with pytest.raises(ServiceError, match=r"NOT_FOUND|no head"):
                ask(VideoQuery("v1-0"))
        assert "p1" not in {patient.patient_id for patient in client.patients()}
        assert client.operation(started.operation_id).state == "running"
        writes.close()
        gone = client.wait(started)
        assert (gone.state, json.loads(gone.receipt)["complete"]) == ("done", True)


def test_a_second_erasure_hides_its_patient_though_it_has_to_wait(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    with running(workspace) as said, Client(said["address"]) as client, ExitStack() as writes:
        writes.enter_context(Store(workspace).writing())
        first = client.erase_patient("p1")
        with pytest.raises(ServiceError, match="this patient no longer appears in any answer; another erasure"):
            client.erase_patient("p2")
        assert {patient.patient_id for patient in client.patients()}.isdisjoint({"p1", "p2"})
        writes.close()
        assert client.wait(first).state == "done"
        assert client.wait(client.erase_patient("p2")).state == "done"


def test_an_erased_patient_is_answered_no_more_once_the_call_has_been(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    with running(workspace) as said, Client(said["address"]) as client:
        started = client.erase_patient("p1")
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            client.search(VideoQuery("v1-0"))
        assert client.wait(started).state == "done"


def test_whoever_waits_to_be_erased_is_in_no_new_index_and_stops_no_build(stored):
    withhold(stored, "p1")
    operations = Operations(stored)
    assert ended(operations, operations.build(publish=True, force=True)).state == "done"
    assert "p1" not in read_clips(stored.generations, current(stored.generations)).patient_ids
    assert ended(operations, operations.erase("p2")).state == "done"
    assert ended(operations, operations.erase("p1")).state == "done"


def test_a_build_does_not_keep_an_erasure_from_starting(stored):
    operations = Operations(stored)
    build, erasure = operations.build(publish=True, force=False), operations.erase("p1")
    assert ended(operations, erasure).state == "done"
    assert ended(operations, build).state in {"done", "failed"}  # its generation may have gone with the patient
    assert "p1" not in read_clips(stored.generations, current(stored.generations)).patient_ids


def test_no_file_says_whom_an_operation_is_about(stored):
    operations = Operations(stored)
    ended(operations, operations.erase("p-nobody-canary"))

    for path in (stored.root / "operations").iterdir():
        assert b"p-nobody-canary" not in path.read_bytes()


def test_one_that_can_not_be_written_down_holds_up_no_other(stored, monkeypatch):
    """Its process is never told what to do: it must not wait for that with the lock in its hands."""
    operations, written = Operations(stored), []
    write = Operations.write

    def full(self, operation):
        written.append(operation)
        if len(written) == 2:
            raise DiskFull
        write(self, operation)

    monkeypatch.setattr(Operations, "write", full)
    with pytest.raises(DiskFull):
        operations.build(publish=False, force=False)
    monkeypatch.undo()

    assert ended(operations, written[0]).state == "failed"
    assert ended(operations, operations.build(publish=False, force=False)).state == "done"
