"""A small demo, whole: simulated files in, answers over gRPC out."""

import pytest

from tests.conftest import made_once
from tests.semiome.test_commands import result_of, semiome


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    def make(folder):
        return result_of(semiome("demo", "--patients", "6", "--videos", "2", "--epochs", "1", "--json", cwd=folder))

    return made_once(tmp_path_factory, "demo", make)


def test_it_prints_one_object_with_everything(demo):
    _, values = demo

    assert (values["videos"], values["patients"]) == (12, 6)
    assert 12 < values["clips"] < 60
    assert len(values["encoder_id"]) == 16
    assert values["generation"].startswith("000001-")
    assert 0 <= values["held_out_accuracy"] <= 1
    assert values["seconds"] > 0
    assert "research use only" in values["caveat"]


def test_neighbours_are_never_of_the_query_patient(demo):
    _, values = demo

    assert len(values["neighbours"]) == values["held_out"]["videos"]
    for query in values["neighbours"]:
        assert len(query["hits"]) == 3
        assert query["query_patient_id"] not in {hit["patient_id"] for hit in query["hits"]}


def test_the_accuracy_is_that_of_the_verdicts_and_stands_beside_its_baselines(demo):
    _, values = demo

    right = [verdict["label"] == verdict["true_label"] for verdict in values["verdicts"]]
    assert values["held_out_accuracy"] == pytest.approx(sum(right) / len(right))
    assert values["held_out"]["patients"] == 2
    assert values["held_out"].keys() == {"patients", "videos", "model", "majority_class", "motion_energy"}


def test_it_leaves_a_workspace_to_explore(demo):
    folder, values = demo
    workspace = folder / "demo"

    assert sorted(path.name for path in workspace.iterdir()) == [
        *(
            "audit",
            "cohort",
            "commit.lock",
            "digests.sqlite",
            "generations",
            "key",
            "models",
            "previews",
            "runs",
            "store",
        ),
    ]
    listed = result_of(semiome("index", "list", "-w", "demo", "--json", cwd=folder))
    assert listed["serving"] == values["generation"]


def test_it_does_not_touch_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("years of work")

    done = semiome("demo", cwd=tmp_path)
    assert done.returncode == 4
    assert "not an earlier demo" in done.stderr
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "years of work"
