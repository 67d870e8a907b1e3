"""Moments as callers get them: over the wire, by the command, and no closer than their role may see."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from typer.testing import CliRunner

from index.moment_records import Moment, MomentPair
from index.query import ANYTHING, VideoQuery
from index.records import BACKGROUND
from index.search.loader import SnapshotLoader
from index.search.moments import find_moments
from index.workspace import Workspace
from semiome.app import app
from service.client import Client
from service.gate import disclosure
from service.roles import Caller, Role
from tests.conftest import commit, make_cohort, make_video, publish_all
from tests.service.servers import running


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, what the search itself finds) of a cohort in which one onset is known."""
    workspace = Workspace(tmp_path_factory.mktemp("moments") / "workspace")
    cohort = make_cohort(patients=4, videos=2, clips=6)
    video, clips = cohort[2]
    cohort[2] = replace(video, start_s=100.0, onset_s=120.0), clips
    quiet = np.random.default_rng(1)
    cohort += (make_video(patient, 9, 400, quiet, metadata=(BACKGROUND,)) for patient in (1, 4))
    commit(workspace, cohort)
    publish_all(workspace)
    found = find_moments(SnapshotLoader(workspace).snapshot, VideoQuery("v0-0"), 4, ANYTHING)
    with running(workspace) as said:
        yield said["address"], found


def ask(address, *arguments, code=0):
    done = CliRunner().invoke(app, ["moments", "--server", address, *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_the_api_and_the_command_give_what_the_search_finds(served):
    address, found = served
    with Client(address) as client:
        answer = client.moments(VideoQuery("v0-0"), 4)

    assert answer.moments == found
    assert any(one.per_hour_patient and one.per_hour_others for one in found)
    said = json.loads(ask(address, "--video", "v0-0", "--k", 4, "--json"))
    assert said["generation"] == answer.provenance.generation
    for one, moment in zip(said["moments"], found, strict=True):
        assert one == {
            **asdict(moment),
            "pairs": [asdict(pair) for pair in moment.pairs],
            "seconds_from": "file",
            "per_hour": moment.per_hour,
        }
    shown = ask(address, "--video", "v0-0", "--k", 4)
    assert all(moment.video_id in shown for moment in found)
    assert "(own)" in shown
    rare = json.loads(ask(address, "--video", "v0-0", "--k", 4, "--max-per-hour", 0, "--json"))["moments"]
    assert [one["video_id"] for one in rare] == [one.video_id for one in found if one.per_hour == 0]


def test_one_video_can_be_looked_into_with_times_from_its_onset(served):
    address, _ = served
    plain, told = (
        json.loads(ask(address, "--video", "v0-0", "--in", "v1-0", "--json", *more))["moments"]
        for more in ((), ("--onset",))
    )

    assert {one["video_id"] for one in plain} == {"v1-0"}
    assert [one["start_s"] - 120 for one in plain] == [one["start_s"] for one in told]
    assert {one["seconds_from"] for one in told} == {"onset"}
    own = json.loads(ask(address, "--video", "v0-0", "--include-own-patient", "--in", "v0-1", "--json"))["moments"]
    assert {one["video_id"] for one in own} == {"v0-1"}


def test_what_is_wrong_is_said(served):
    address, _ = served
    wrong = ((), ("--clip", "a", "--video", "b"), ("--video", "v0-0", "--k", 0), ("--video", "absent"))
    for arguments in (*wrong, ("--video", "v0-0", "--in", "absent"), ("--video", "v0-0", "--patient", "p1")):
        done = CliRunner().invoke(app, ["moments", "--server", address, *map(str, arguments)])
        assert done.exit_code != 0
        assert done.exception is not None


def test_a_clinician_sees_rounded_similarities_and_a_trainer_exact_ones():
    moment = Moment("v", "p", "", 0.0, 10.0, None, 0.4321, (MomentPair("a", "b", 0.0, 0.0),))
    clinician, trainer = (Caller("x", frozenset({role}), "token") for role in (Role.CLINICIAN, Role.TRAINER))

    assert disclosure.shown_moments(clinician, [moment]) == (replace(moment, similarity=0.45),)
    assert disclosure.shown_moments(trainer, [moment]) == (moment,)
