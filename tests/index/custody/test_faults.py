"""A short form of `make faults`: each kind of fault, a few times."""

import shutil

import pytest

from tests.index.custody import faults


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "template"
    faults.start(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("operation", faults.OPERATIONS)
def test_kill(template, operation):
    assert faults.kill(operation, template, times=1)["points"] == 1


@pytest.mark.slow
@pytest.mark.needs("namespaces")
def test_a_disk_that_is_full_at_any_page(template):
    found = faults.on_a_small_disk(template, ("upsert", "compact", "build", "publish", "erase"), step=48)

    assert [one["fault"].split()[-1] for one in found] == ["upsert", "compact", "build", "publish", "erase"]
    assert all(one["full_at"] for one in found)


def test_flipped_bits_of_an_index_are_refused_while_the_old_one_serves(template, tmp_path):
    workspace = faults.Workspace(tmp_path / "workspace")
    shutil.copytree(template, workspace.root)

    assert faults.flip(workspace, 40)["refused"] == 40


def test_flipped_bits_of_rows_are_never_read_as_rows(template):
    found = faults.flip_rows(template, 500)  # some of them make LanceDB panic

    assert found["refused"] + found["read_right"] == 500


@pytest.mark.slow
@pytest.mark.needs("faketime")
def test_a_clock_that_is_a_day_off_loses_nothing(template):
    assert faults.shift_clock(template, [("-1d", "+1d", "+0d")])["operations"] == 5


def test_an_empty_newest_version_is_put_right(template):
    assert faults.cut_version(template)["named_and_repaired"] == 1
