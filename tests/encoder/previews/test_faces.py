"""Faces in films that leave the house: a real one is not to be known, whichever way up; where none is found is said."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from encoder.previews.faces import stretches_without
from encoder.previews.library import export_film, stored_preview
from encoder.video.writer import own_pictures, write_h264
from index.errors import InvalidInput, NotFound
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import commit, make_video
from tests.semiome.test_commands import result_of, semiome

FPS, SECONDS, WITH_A_FACE_S = 25, 3, 2
BOX = 45
"""Of the middle of the face, in pixels."""


def scene():
    """Pictures of 320 x 240 in which a head lies, turns over and goes out of sight, and where the face's middle is."""
    head = Image.fromarray(astronaut()).crop((130, 10, 330, 230)).resize((120, 132))
    background = np.random.default_rng(0).integers(60, 160, (15, 20, 3), np.uint8)
    wall = Image.fromarray(background).resize((320, 240), Image.Resampling.BICUBIC)
    pictures, middles = [], []
    for number in range(FPS * SECONDS):
        picture, middle = wall.copy(), None
        if number < FPS * WITH_A_FACE_S:
            left, top = 20 + 2 * number, 40 + number // 2
            picture.paste(head.rotate(-90 if number >= FPS else 0), (left, top))
            middle = (left + 60, top + 66)
        pictures.append(np.asarray(picture))
        middles.append(middle)
    return pictures, middles


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """(workspace, middles of faces) where one video is stored, with its preview."""
    folder = tmp_path_factory.mktemp("faces")
    pictures, middles = scene()
    workspace = Workspace(folder / "workspace")
    video, clips = make_video(0, 0, 1, np.random.default_rng(0))
    commit(workspace, [(video, clips)])
    place = workspace.previews / video.video_id
    place.mkdir(parents=True)
    write_h264(place / "film.mp4", pictures, FPS, 320, 240)
    facts = {"source_sha256": video.source_sha256, "fps": FPS, "width": 320, "height": 240, "seconds": SECONDS}
    (place / "preview.json").write_text(json.dumps(facts))
    return workspace, middles


def detail(picture, middle, size=BOX):
    """How much a part of a picture changes from one pixel to the next."""
    x, y = middle
    part = picture[max(y - size // 2, 0) : y + size // 2, max(x - size // 2, 0) : x + size // 2].mean(-1)
    return np.abs(np.diff(part, axis=0)).mean() + np.abs(np.diff(part, axis=1)).mean()


@pytest.mark.needs("libGL")
def test_no_picture_shows_the_face_and_the_rest_stays(filmed, tmp_path):
    workspace, middles = filmed
    done = semiome("film", "v0-0", "--to", "out.mp4", "--blur-faces", "-w", workspace.root, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "wrote out.mp4: 3.0 s, faces blurred where they were found" in done.stdout
    (said,) = re.findall(r"no face was found from (.*) to 3.00 s: look there before it goes out", done.stdout)
    assert WITH_A_FACE_S <= float(said) <= WITH_A_FACE_S + 0.6

    before = list(own_pictures(stored_preview(workspace, Store(workspace).videos()["v0-0"]).film))
    after = list(own_pictures(tmp_path / "out.mp4"))
    assert len(after) == len(before) == FPS * SECONDS
    for old, new, middle in zip(before, after, middles, strict=True):
        if middle is not None:
            assert detail(new, middle) < 0.5 * detail(old, middle)
        assert np.abs(new[:, 300:].astype(int) - old[:, 300:]).mean() < 6


def test_where_no_face_was_found():
    assert stretches_without([], 10) == ()
    assert stretches_without([True] * 5, 10) == ()
    assert stretches_without([False, True, True, False, False], 10) == ((0.0, 0.1), (0.3, 0.5))


@pytest.mark.needs("libGL")
def test_a_film_goes_out_as_it_is_and_nothing_is_written_over(filmed, tmp_path):
    workspace, _ = filmed
    film = stored_preview(workspace, Store(workspace).videos()["v0-0"]).film
    told = result_of(semiome("film", "v0-0", "--to", "out.mp4", "-w", str(workspace.root), "--json", cwd=tmp_path))

    assert told == {"film": "out.mp4", "seconds": SECONDS, "faces_blurred": False, "without_a_face": []}
    assert (tmp_path / "out.mp4").read_bytes() == film.read_bytes()
    with pytest.raises(InvalidInput, match=r"out\.mp4 is there already"):
        export_film(workspace, "v0-0", tmp_path / "out.mp4", blur_faces=True)
    assert (tmp_path / "out.mp4").read_bytes() == film.read_bytes()
    nowhere = semiome("film", "v0-0", "--to", "none/out.mp4", "--blur-faces", "-w", workspace.root, cwd=tmp_path)
    assert (nowhere.returncode, "Traceback" in nowhere.stderr) == (2, False)
    assert "the film's folder is missing" in nowhere.stderr
    for video_id in ("absent", "../v0-0", ""):
        with pytest.raises(NotFound):
            export_film(workspace, video_id, tmp_path / "other.mp4", blur_faces=False)


@pytest.mark.needs("libGL")
def test_a_video_stored_before_its_preview_says_what_makes_one(filmed, tmp_path):
    workspace, _ = filmed
    commit(workspace, [make_video(1, 0, 1, np.random.default_rng(1))])
    with pytest.raises(NotFound, match="semiome previews MANIFEST"):
        export_film(workspace, "v1-0", tmp_path / "x.mp4", blur_faces=False)
    assert os.listdir(tmp_path) == []
