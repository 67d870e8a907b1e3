"""Signs over time as callers get them: over the wire, as a filter of searches, by commands, taken up while served."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from encoder.sign_grammar import parsed
from encoder.signs import load_signs, save_signs, stretches
from index.custody.backup import back_up, restore
from index.errors import ServiceError
from index.query import GroupBy, Options, SearchFilter, VideoQuery
from index.tables.store import Store
from index.workspace import Workspace, set_current
from semiome.app import app
from service.client import Client
from tests.conftest import WIDTH, commit, make_video, publish_all
from tests.service.servers import running
from tests.waiting import until

pytestmark = pytest.mark.needs("torch")
TONIC, VERSIVE = "Semiology-tonic", "Semiology-versive"


def tagged_cohort(patients=16, clips=5):
    """Two directions of the embedding are two signs: a clip has them or has not, and a video the tags of its clips."""
    random, cohort = np.random.default_rng(3), []
    for p in range(patients):
        usual = random.random(2) < ((0.8, 0.2), (0.2, 0.8))[p % 2]
        for v in range(2):
            video, embedded = make_video(p, v, clips, random, label=("TLE", "exTLE")[p % 2])
            shown = usual & (random.random((clips, 2)) < 0.5)
            for n, one in enumerate(embedded):
                vector = one.vector * 0.4
                vector[:2] += shown[n]
                embedded[n] = replace(one, vector=(vector / np.linalg.norm(vector)).astype(np.float32))
            tags = tuple(sorted(np.array([TONIC, VERSIVE])[shown.any(0)].tolist()))
            cohort.append((replace(video, semiology=tags or ("Semiology-arrest",)), embedded))
    return cohort


def semiome(*arguments, code=0):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("signs") / "workspace")
    commit(workspace, tagged_cohort())
    (workspace.encoders / "enc1").mkdir(parents=True)
    set_current(workspace.encoders, "enc1")
    publish_all(workspace)
    return workspace


@pytest.fixture(scope="module")
def address(workspace):
    """Of a server that was started before there were any sign heads."""
    with running(workspace) as said:
        with Client(said["address"]) as client, pytest.raises(ServiceError, match="semiome signs train"):
            client.signs("v0-0")
        trained = json.loads(semiome("signs", "train", "-w", workspace.root, "--json"))
        assert {sign["name"] for sign in trained["signs"]} == {TONIC, VERSIVE}
        assert (trained["patients"], trained["videos"]) == (16, 32)
        yield said["address"]


@pytest.fixture
def client(address):
    with Client(address) as client:
        until(lambda: client.counts().judged_signs)
        yield client


def expected(workspace):
    """Tracks of every video, from the store and the heads alone."""
    heads, stored = load_signs(workspace.signs), Store(workspace).clips("enc1")
    found = {}
    for video_id in Store(workspace).videos():
        rows = [n for n, clip in enumerate(stored.clips) if clip.video_id == video_id]
        clips, said = [stored.clips[n] for n in rows], heads.probabilities(stored.vectors[rows], "enc1")
        found[video_id] = {name: stretches(clips, said[:, n]) for n, name in enumerate(heads.card.names)}
    return found


def test_the_signs_of_a_video_are_what_the_heads_say(workspace, client):
    tracks = expected(workspace)
    for video_id in ("v0-0", "v5-1"):
        answer = client.signs(video_id)

        assert answer.signs_id == load_signs(workspace.signs).signs_id
        assert [clip.start_s for clip in answer.clips] == [0.0, 10.0, 20.0, 30.0, 40.0]
        assert {track.sign.name: list(track.stretches) for track in answer.tracks} == tracks[video_id]
        assert dict(answer.not_judged).keys() == {"Semiology-arrest"}
    assert client.counts().judged_signs == (TONIC, VERSIVE)
    with pytest.raises(ServiceError, match="is not stored"):
        client.signs("absent")


@pytest.mark.parametrize(
    "course", ["tonic", "versive then tonic within 30 s", "not tonic", "tonic for 20 s or versive"]
)
def test_a_search_finds_only_videos_that_show_the_course(workspace, client, course):
    query = parsed(course, (TONIC, VERSIVE))
    showing = {name for name, found in expected(workspace).items() if query.holds(found).holds}

    answer = client.search(VideoQuery("v0-0"), 50, Options(group_by=GroupBy.VIDEO, signs=course))
    both = Options(SearchFilter(labels=frozenset({"exTLE"})), GroupBy.VIDEO, signs=course)

    own = {"v0-0", "v0-1"}
    assert {one.clip.video_id for one in answer.neighbours} == showing - own
    found = {one.clip.video_id for one in client.search(VideoQuery("v0-0"), 50, both).neighbours}
    assert found == {name for name in showing - own if int(name[1:].split("-")[0]) % 2}
    told = json.loads(semiome("signs", "find", course, "-w", workspace.root, "--json"))
    assert {one["video_id"] for one in told["found"]} == showing


def test_a_course_that_can_not_be_read_is_refused_in_words(workspace, address, client):
    with pytest.raises(ServiceError, match="did you mean versive"):
        client.search(VideoQuery("v0-0"), 5, Options(signs="versiv then tonic"))
    said = CliRunner().invoke(app, ["search", "--video", "v0-0", "--signs", "tonic tonic", "--server", address])
    assert "expected the end" in str(said.exception)
    semiome("signs", "find", "dancing", "-w", workspace.root, code=1)


def test_what_is_shown_and_exported_is_the_same(workspace, address, client, tmp_path):
    tracks = expected(workspace)
    shown = json.loads(semiome("signs", "show", "v3-0", "-w", workspace.root, "--json"))
    assert {name: len(found) for name, found in shown["stretches"].items()} == {
        name: len(found) for name, found in tracks["v3-0"].items()
    }
    semiome("signs", "export", tmp_path / "out", "-w", workspace.root)
    with (tmp_path / "out" / "signs.tsv").open() as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))

    assert sorted(
        (row["video_id"], row["trial_type"], float(row["onset"]), float(row["duration"])) for row in rows
    ) == sorted(
        (video, sign, one.start_s, one.end_s - one.start_s)
        for video, found in tracks.items()
        for sign, where in found.items()
        for one in where
    )
    assert {row["HED"] for row in rows} == {f"sc:{TONIC}", f"sc:{VERSIVE}"}
    assert "no person has looked" in (tmp_path / "out" / "signs.json").read_text()


def test_evaluate_judges_by_signs_too_and_says_what_they_say(workspace, address):
    values = json.loads(semiome("evaluate", "-w", workspace.root, "--seeds", 1, "--epochs", 2, "--json"))

    assert values["rows"]["by its signs"]["accuracy"]["value"] > 0.7
    (said,) = values["signs_say"].values()
    assert said[VERSIVE] > 0 > said[TONIC]  # they were drawn so: versive of exTLE, tonic of TLE
    shown = semiome("evaluate", "-w", workspace.root, "--seeds", 1, "--epochs", 1)
    assert "sign that is certain adds" in " ".join(shown.split())


def test_heads_of_another_encoder_are_refused_and_a_backup_has_them(workspace, address, client, tmp_path):
    heads = load_signs(workspace.signs)
    back_up(workspace, tmp_path / "backup")
    restored = Workspace(tmp_path / "restored")
    restore(tmp_path / "backup", restored)
    assert load_signs(restored.signs, heads.signs_id).card == heads.card

    other = type(heads)(heads.weights_SD, heads.bias_S, replace(heads.card, encoder_id="enc2"))
    save_signs(other, workspace.signs)
    set_current(workspace.signs, other.signs_id)
    try:
        until(lambda: not client.counts().judged_signs)
        with pytest.raises(ServiceError, match="belongs to encoder enc2"):
            client.signs("v0-0")
        semiome("signs", "show", "v3-0", "-w", workspace.root, code=1)
    finally:
        set_current(workspace.signs, heads.signs_id)
    assert heads.weights_SD.shape[1] == WIDTH
