"""What a workspace tells apart: which names may be set, and that every label stored or asked for is one of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.custody.backup import back_up, restore
from index.custody.classes import set_classes
from index.custody.doctor import examine
from index.errors import DamagedData, InvalidInput, StateError
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.query import SearchFilter, VideoQuery
from index.search.loader import SnapshotLoader
from index.search.search import Options, search
from index.semiology import PAPER, Classes
from index.tables.store import Store
from index.workspace import Workspace, classes_of
from tests.conftest import commit, make_video, publish_all

MOTOR = Classes(("tonic", "clonic", "hyperkinetic"))


@pytest.mark.parametrize(
    ("names", "positive", "says"),
    [
        (("TLE",), None, "2 to 10 classes, got 1"),
        (tuple("abcdefghijk"), None, "2 to 10 classes, got 11"),
        (("TLE", ""), None, "letters, digits"),
        (("TLE", "ex TLE"), None, "letters, digits"),
        (("TLE", "tle"), None, "small and capital"),
        (("TLE", "TLE"), None, "small and capital"),
        (("a", "b", "c"), "d", "one of a, b, c as the positive class"),
    ],
)
def test_names_that_can_not_be_told_apart_are_refused(names, positive, says):
    with pytest.raises(InvalidInput, match=says):
        Classes(names, positive)


def test_of_two_the_second_is_positive_and_of_more_none():
    assert (Classes(("NES", "ES")).positive, Classes(("NES", "ES"), "NES").positive) == ("ES", "NES")
    assert MOTOR.positive is None
    assert Classes(PAPER.names) == PAPER


@given(st.permutations(["a", "b", "C", "d-1"]), st.sampled_from([None, "a", "C"]))
def test_what_is_set_is_what_is_read(tmp_path_factory, names, positive):
    workspace = Workspace(tmp_path_factory.mktemp("classes"))
    assert classes_of(workspace) == PAPER

    set_classes(Store(workspace), Classes(tuple(names), positive))

    assert classes_of(workspace) == Classes(tuple(names), positive)


@pytest.mark.parametrize("text", ["", "{}", '{"names": ["a"], "positive": null}', '{"names": 3, "positive": 1}', "[1]"])
def test_a_damaged_setting_is_named(workspace, text):
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.classes.write_text(text)

    with pytest.raises(DamagedData, match="name the classes again with `semiome classes`"):
        classes_of(workspace)
    set_classes(Store(workspace), MOTOR)
    assert classes_of(workspace) == MOTOR


def labelled(number, label):
    return make_video(number, 0, 3, np.random.default_rng(number), label=label)


def test_only_classes_are_stored_found_and_said(workspace):
    set_classes(Store(workspace), MOTOR)
    with pytest.raises(InvalidInput, match="expected one of tonic, clonic, hyperkinetic or nothing"):
        commit(workspace, [labelled(0, "TLE")])
    commit(workspace, [labelled(n, (*MOTOR.names, "")[n % 4]) for n in range(8)])
    publish_all(workspace)
    snapshot = SnapshotLoader(workspace).snapshot

    found = search(snapshot, VideoQuery("v0-0"), 9, Options(SearchFilter(labels=frozenset({"clonic"}))))
    assert {one.label for one in found.neighbours} == {"clonic"}
    with pytest.raises(InvalidInput, match="tonic, clonic, hyperkinetic or nothing as a label, got another"):
        search(snapshot, VideoQuery("v0-0"), 9, Options(SearchFilter(labels=frozenset({"TLE"}))))
    said = FeedbackStore(workspace)
    assert said.save(Feedback("v1-0", "p1", label="tonic"), "a").label == "tonic"
    with pytest.raises(InvalidInput, match="tonic, clonic, hyperkinetic or nothing"):
        said.save(Feedback("v1-0", "p1", label="exTLE"), "a")


def test_a_change_goes_by_way_of_old_and_new_names(workspace):
    commit(workspace, [labelled(0, "TLE"), labelled(1, "TLE"), labelled(2, "exTLE"), labelled(3, "")])
    store = Store(workspace)

    with pytest.raises(StateError, match=r"stored are 2 videos labelled TLE, 1 video labelled exTLE: keep these names"):
        set_classes(store, MOTOR)
    assert classes_of(workspace) == PAPER
    set_classes(store, Classes((*PAPER.names, *MOTOR.names)))
    commit(workspace, [labelled(0, "tonic"), labelled(1, "clonic"), labelled(2, "tonic")])
    set_classes(store, MOTOR)

    assert {name: video.label for name, video in store.videos().items()} == {
        **{"v0-0": "tonic", "v1-0": "clonic", "v2-0": "tonic", "v3-0": ""}
    }


def test_a_class_that_people_have_spoken_of_is_not_dropped(workspace):
    commit(workspace, [labelled(0, "TLE"), labelled(1, "exTLE")])
    set_classes(Store(workspace), Classes((*PAPER.names, "frontal")))
    said = FeedbackStore(workspace)
    kept = said.save(Feedback("v0-0", "p0", label="frontal"), "a")

    with pytest.raises(StateError, match="1 piece of feedback labelled frontal: keep"):
        set_classes(Store(workspace), PAPER)
    said.remove(kept.feedback_id, "a")
    set_classes(Store(workspace), PAPER)


def test_a_server_takes_a_change_up(workspace):
    commit(workspace, [labelled(n, PAPER.names[n % 2]) for n in range(4)])
    publish_all(workspace)
    serving = SnapshotLoader(workspace)

    more = Classes((*PAPER.names, "both"))
    set_classes(Store(workspace), more)

    assert serving.refresh()
    assert serving.snapshot.classes == more
    assert not serving.refresh()


def test_a_label_that_is_no_class_any_more_is_found(workspace):
    set_classes(Store(workspace), MOTOR)
    commit(workspace, [labelled(0, "tonic")])
    assert "classes" not in {finding.what for finding in examine(workspace)}
    workspace.classes.unlink()

    (found,) = [finding for finding in examine(workspace) if finding.what == "classes"]
    assert (found.state, "1 video labelled tonic, which is no class here (TLE or exTLE)" in found.says) == (
        "warning",
        True,
    )
    workspace.classes.write_text("{}")
    (found,) = [finding for finding in examine(workspace) if finding.what == "classes"]
    assert found.state == "damaged"


def test_a_backup_has_the_classes(workspace, tmp_path):
    set_classes(Store(workspace), MOTOR)
    commit(workspace, [labelled(0, "tonic")])
    back_up(workspace, tmp_path / "backup")

    restored = Workspace(tmp_path / "restored")
    restore(tmp_path / "backup", restored)

    assert classes_of(restored) == MOTOR
