"""Healthy files with one thing done to them: the right frames, or a refusal that names what is wrong."""

import pytest

from tests.encoder.video.mutations import EDITS, HEALTHY, cases, outcome

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_gives_its_frames_or_is_refused_by_name(tmp_path, edit):
    wrong = []
    files = 0
    for name in HEALTHY:
        folder = tmp_path / name
        folder.mkdir()
        for case in cases(edit, name, folder):
            files += 1
            try:
                outcome(case)
            except AssertionError as error:
                wrong.append(str(error))

    assert files >= 18
    assert wrong == []
