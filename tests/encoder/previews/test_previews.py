"""Previews show at each time what the video shows then; they belong to one file, and go with the patient."""

import io
import json
import math
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from encoder.clips import Segment, Source
from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.previews.library import make_previews, remove_previews_of_the_gone, stored_preview, stored_strip
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.preview import THUMBNAIL_WIDTH, THUMBNAILS
from index.custody.erasure import erase_patient
from index.errors import NotFound, VideoRefused
from index.tables.store import Store
from tests.conftest import DATA, EXPECTED, publish_all

VIDEOS = DATA / "videos"
OK = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "ok")
REJECT = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "reject")
WITH_WHOLE_CLIPS = {"corrupt_middle.mp4", "truncated_faststart.mp4", "truncated_half.mkv"}
"""Damaged files of which something can be shown."""


def number_in(picture, turned):
    """The number that a picture of a test video shows: 6 x 2 cells over its upper third."""
    if turned:
        picture = np.rot90(picture, -1)
    grey = picture.mean(-1)
    height, width = grey.shape
    number = 0
    for row in range(2):
        for column in range(6):
            y, x = int((row + 0.5) * height / 6), int((column + 0.5) * width / 6)
            number |= int(grey[y - 2 : y + 3, x - 2 : x + 3].mean() > 127) << (row * 6 + column)
    return number


def shown(facts, time):
    """Number of the frame that a video shows at a time."""
    times = facts["pts"] if "pts" in facts else [n / eval_fraction(facts["fps"]) for n in range(facts["frames"])]
    return facts.get("first_frame", 0) + max(n for n, at in enumerate(times) if at <= time + 2e-5)


def eval_fraction(text):
    above, _, below = str(text).partition("/")
    return float(above) / float(below or 1)


@pytest.fixture(scope="module")
def decoder():
    with Decoder(0, 0) as decoder:
        yield decoder


@pytest.mark.parametrize("name", OK)
def test_a_preview_shows_at_each_time_what_the_video_shows_then(decoder, name):
    facts, turned = EXPECTED[name], "rotate90" in name
    preview = decoder.preview(VIDEOS / name)

    with av.open(io.BytesIO(preview.mp4)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, len(film.streams)) == ("h264", preview.fps, 1)
        found = [number_in(frame.to_ndarray(format="rgb24"), turned) for frame in film.decode(stream)]
    assert found == [shown(facts, n / preview.fps) for n in range(len(found))]
    assert preview.seconds == pytest.approx(len(found) / preview.fps)
    assert preview.seconds == pytest.approx(eval_fraction(facts["seconds"]), abs=1 / preview.fps + 0.01)
    assert (preview.width, preview.height) == ((240, 320) if turned else (320, 240))


def test_a_preview_of_a_part_of_a_file_shows_that_part(decoder):
    preview = decoder.preview(Source(VIDEOS / "h264_25fps.mp4", segment=Segment(7.02, 20)))

    with av.open(io.BytesIO(preview.mp4)) as film:
        found = [number_in(frame.to_ndarray(format="rgb24"), turned=False) for frame in film.decode(video=0)]
    facts = EXPECTED["h264_25fps.mp4"]
    assert found == [shown(facts, 7.02 + n / preview.fps) for n in range(len(found))]
    assert (preview.seconds, sorted(preview.strips)) == (pytest.approx(12.98, abs=1 / preview.fps), [0, 1])


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "h264_1fps.mp4", "h264_rotate90.mp4"])
def test_each_clip_has_five_thumbnails_of_its_own(decoder, name):
    preview = decoder.preview(VIDEOS / name)

    assert sorted(preview.strips) == list(range(math.ceil(EXPECTED[name]["seconds"] / 10)))
    for number, jpeg in preview.strips.items():
        picture = np.asarray(Image.open(io.BytesIO(jpeg)))
        assert picture.shape[1] == THUMBNAILS * THUMBNAIL_WIDTH
        parts = [picture[:, n * THUMBNAIL_WIDTH : (n + 1) * THUMBNAIL_WIDTH] for n in range(THUMBNAILS)]
        # None is black but for those after the end, two seconds apart.
        there = [10 * number + 2 * n + 1 < EXPECTED[name]["seconds"] for n in range(THUMBNAILS)]
        assert [part.std() > 10 for part in parts] == there


@pytest.mark.parametrize("name", REJECT)
def test_of_a_damaged_file_what_comes_before_the_damage_and_of_others_nothing(decoder, name):
    if name not in WITH_WHOLE_CLIPS:
        with pytest.raises(VideoRefused):
            decoder.preview(VIDEOS / name)
        return
    preview = decoder.preview(VIDEOS / name)
    with av.open(io.BytesIO(preview.mp4)) as film:
        found = [number_in(frame.to_ndarray(format="rgb24"), turned=False) for frame in film.decode(video=0)]
    whole = found[:-25]  # at 25 frames a second each has its own, but where the damage begins
    assert whole == list(range(len(whole)))


def test_a_child_that_is_too_slow_is_ended():
    with Decoder(0, 0, DecodeLimits(stall_s=0.0)) as decoder, pytest.raises(VideoRefused, match="no progress for"):
        decoder.preview(VIDEOS / "h264_25fps.mp4")


@pytest.fixture
def encoded(workspace, hospital, tiny_encoder):
    """(workspace, manifest) of two stored videos of two patients."""
    path = hospital(("short_7s.mp4", "pat-one-0001", "first"), ("vp9.webm", "pat-two-0002", "second"))
    manifest = read_manifest(path)
    encode(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    publish_all(workspace, tiny_encoder.encoder_id)
    return workspace, manifest


def test_previews_are_made_once_and_again_for_another_file(encoded, hospital, tiny_encoder):
    workspace, manifest = encoded
    assert make_previews(manifest, workspace, 2).made == ("first", "second")
    again = make_previews(manifest, workspace, 2)
    assert (again.made, again.there, again.refused) == ((), ("first", "second"), {})
    first = Store(workspace).videos()["first"]
    preview = stored_preview(workspace, first)
    assert preview.fps == 25
    assert preview.film.read_bytes()[4:8] == b"ftyp"
    assert stored_strip(workspace, first, 0)[:2] == b"\xff\xd8"

    (manifest.folder / "short_7s.mp4").write_bytes((VIDEOS / "exactly_10s.mp4").read_bytes())
    assert make_previews(manifest, workspace, 1).there == ("first", "second")  # as long as the stored one is the old
    encode(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    with pytest.raises(NotFound):  # of the old file, for embeddings of the new one
        stored_preview(workspace, Store(workspace).videos()["first"])
    assert make_previews(manifest, workspace, 1).made == ("first",)
    assert json.loads((workspace.previews / "first" / "preview.json").read_text())["seconds"] == 10.0


def test_what_is_not_stored_or_another_file_gets_no_preview(encoded, hospital):
    workspace, manifest = encoded
    (manifest.folder / "vp9.webm").write_bytes((VIDEOS / "h264.ts").read_bytes())
    more = read_manifest(hospital(("vp9.webm", "pat-two-0002", "second"), ("picture.mp4", "p3", "third")))
    made = make_previews(more, workspace, 1)

    assert made.made == ()
    assert made.refused == {
        "second": "the file is another one than was encoded: encode it again first",
        "third": "it is not stored: encode it first",
    }


@pytest.mark.parametrize("name", ["nothing", "../store", "..", "a/b", ""])
def test_a_preview_that_is_not_there_is_not_found(encoded, name):
    workspace, _ = encoded
    video = replace(Store(workspace).videos()["first"], video_id=name)
    with pytest.raises(NotFound):
        stored_preview(workspace, video)
    with pytest.raises(NotFound):
        stored_strip(workspace, video, 0)


def test_previews_are_erased_with_the_patient(encoded):
    workspace, manifest = encoded
    make_previews(manifest, workspace, 2)
    receipt = erase_patient(workspace, "pat-one-0001")

    assert [path.name for path in workspace.previews.iterdir() if path.is_dir()] == ["second"]
    assert {"place": "previews/(theirs)", "action": "removed: named after them"} in receipt["places"]
    assert make_previews(manifest, workspace, 1).refused == {"first": "it is not stored: encode it first"}
    assert not (workspace.previews / "first").exists()


def test_what_a_kill_has_left_of_a_preview_is_erased_too(encoded):
    workspace, _ = encoded
    unfinished = workspace.previews / ".first.tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "film.mp4").write_bytes(b"half a film")
    (workspace.previews / ".first.lock").touch()
    erase_patient(workspace, "pat-one-0001")

    assert list(workspace.previews.iterdir()) == []


def test_previews_of_videos_that_another_host_erased_go(encoded):
    workspace, manifest = encoded
    make_previews(manifest, workspace, 2)
    Store(workspace).writable("videos").delete("video_id = 'first'")

    remove_previews_of_the_gone(workspace)

    assert [path.name for path in workspace.previews.iterdir()] == ["second"]
