"""A server beside each file of its workspace that is gone, empty, garbage, a folder, a pipe, huge, or a link to itself.

It keeps serving where it can. Where what it would answer might be wrong, or an erased patient's, it says which file
is to blame; it never hangs, and what it says names neither a patient nor a path.
"""

import logging
import os
import shutil

import pytest

from index.custody.erasure import erase_patient
from index.errors import DamagedData, SemiomeError, StateError
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.query import VideoQuery
from index.tables.blocklist import patient_hash, workspace_key
from index.workspace import Workspace, current, previous
from service.client import Client
from service.config import ServerConfig
from tests.conftest import commit, install_head, made_once, make_cohort, publish_all
from tests.service.gate.attackers import answering

HOW = ("gone", "empty", "garbage", "later version", "folder", "pipe", "huge", "loop")
ALL, NO_FILE = set(HOW), {"folder", "pipe", "loop"}
STOPS = {
    "audit/.segments": NO_FILE,
    "audit/000001.jsonl": {*NO_FILE, "huge"},
    "erased": ALL,
    "generations/CURRENT": ALL,
    "generations/SERVING/clips.arrow": ALL,
    "generations/SERVING/manifest.json": ALL,
    "generations/SERVING/map.npy": ALL,
    "generations/SERVING/vectors.npy": ALL,
    "key": ALL,
}
"""With what damage no server starts, by file."""
FAILS = {
    "models/heads/CURRENT": ({"classify"}, ALL),
    "models/heads/SERVING/card.json": ({"classify"}, ALL),
    "models/heads/SERVING/head.safetensors": ({"classify"}, ALL),
    "feedback.sqlite": ({"feedback"}, {"garbage", "later version", *NO_FILE}),
    "operations/LAST.json": ({"operation"}, ALL),
}
"""What else fails of a server that answers searches, by file and damage."""
HARMLESS = (
    "audit/.ballast",
    "audit/quota.sqlite",
    "commit.lock",
    "generations/BEFORE/clips.arrow",
    "generations/BEFORE/manifest.json",
    "generations/PREVIOUS",
    "generations/build.lock",
    "models/heads/PREVIOUS",
    "operations/running.lock",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace in which everything was done once, and the real names of the files above."""

    def make(folder):
        workspace = Workspace(folder / "made")
        commit(workspace, make_cohort())
        for _ in range(2):
            publish_all(workspace)
        install_head(workspace)
        install_head(workspace, seed=2)
        FeedbackStore(workspace).save(Feedback("v1-0", "p1", label="TLE"), "a")
        erase_patient(workspace, "p4")
        publish_all(workspace)
        with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client:
            client.search(VideoQuery("v0-0"))
            built = client.wait(client.build_generation())
        serving, head = current(workspace.generations), current(workspace.heads)
        before = previous(workspace.generations)
        return {"BEFORE": before, "HEAD": head, "LAST": built.operation_id, "SERVING": serving}

    return made_once(tmp_path_factory, "side-files", make)


def damage(path, how):
    """Do something to a file."""
    if how == "huge":
        os.truncate(path, 2**36)  # of holes: it takes no room
        return
    path.unlink()
    match how:
        case "empty":
            path.touch()
        case "garbage":
            path.write_bytes(bytes(range(200, 256)) * 4)
        case "later version":
            path.write_text('{"version": 99, "unknown": [1]}')
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)


def what_fails(client, operation):
    """Names of what a client is refused, none of which is a bug or names a path."""
    asked = {
        "status": client.status,
        "counts": client.counts,
        "feedback": lambda: list(client.feedback()),
        "generations": client.generations,
        "heads": client.heads,
        "operations": client.operations,
        "operation": lambda: client.operation(operation),
        "classify": lambda: client.classify(VideoQuery("v1-0")),
    }
    failed = {}
    for name, ask in asked.items():
        try:
            ask()
        except SemiomeError as error:
            failed[name] = str(error)
    assert not [said for said in failed.values() if "internal" in said or "/tmp" in said]
    return set(failed)


@pytest.mark.slow
@pytest.mark.parametrize("file", [*STOPS, *FAILS, *HARMLESS])
def test_of_a_damaged_file_only_what_needs_it_fails_and_nothing_hangs(made, tmp_path, caplog, file):
    folder, names = made
    caplog.set_level(logging.CRITICAL)
    found, said = {}, []
    heads = file.startswith("models/")
    real = file.replace("SERVING", names["HEAD"] if heads else names["SERVING"])
    real = real.replace("BEFORE", names["BEFORE"]).replace("LAST", names["LAST"])
    for how in HOW:
        workspace = Workspace(tmp_path / how.replace(" ", "-"))
        shutil.copytree(folder / "made", workspace.root)
        damage(workspace.root / real, how)
        try:
            with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client:
                assert client.search(VideoQuery("v0-0")).neighbours
                found[how] = what_fails(client, names["LAST"])
        except (DamagedData, StateError) as error:
            found[how] = "stops"
            said.append(str(error))
        shutil.rmtree(workspace.root)

    assert str(tmp_path) not in " ".join(said)
    stops, (fails, damages) = STOPS.get(file, set()), FAILS.get(file, (set(), set()))
    assert found == {how: "stops" if how in stops else fails if how in damages else set() for how in HOW}


def test_without_its_key_a_workspace_with_erasures_does_not_make_another(made, tmp_path):
    workspace = Workspace(tmp_path / "w")
    shutil.copytree(made[0] / "made", workspace.root)
    key = workspace_key(workspace)
    assert patient_hash(key, "p4") in workspace.erased.read_text()

    workspace.key.unlink()
    with pytest.raises(DamagedData, match="key is gone"):
        workspace_key(workspace)
    workspace.key.write_text(key.hex())
    workspace.erased.unlink()
    with pytest.raises(DamagedData, match="list of the erased is gone"):
        commit(workspace, make_cohort())
