"""The encode job on rows that name parts of one file: what is stored of each, and what a changed row changes."""

import numpy as np
import pytest

from encoder.job import digests
from encoder.job.pipeline import EncodeOptions, encode
from encoder.job.report import Refusal
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.previews.library import make_previews, stored_preview
from index.errors import NotFound
from index.records import Video
from index.tables.store import Store

COLUMNS = ("file_name", "patient_id", "video_id", "start_s", "end_s", "onset_s", "seizure_end_s")
FILE = "h264_25fps.mp4"


@pytest.fixture
def job(tiny_encoder, workspace, hospital):
    """`job(*rows)` encodes them with the tiny encoder and returns the report."""
    embedder = Embedder(tiny_encoder)

    def run(*rows, **options):
        manifest = read_manifest(hospital(*((FILE, "p1", *row) for row in rows), columns=COLUMNS))
        return encode(manifest, embedder, Store(workspace), EncodeOptions(**options))

    return run


def vectors(workspace, encoder):
    stored = Store(workspace).clips(encoder.encoder_id)
    return {(clip.video_id, clip.start_s): vector for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


@pytest.mark.parametrize("decoders", [1, 3])
def test_each_row_is_a_video_and_the_file_is_read_once_to_tell_it_from_others(job, workspace, monkeypatch, decoders):
    hashed = []
    real = digests.sha256_of_file
    monkeypatch.setattr(digests, "sha256_of_file", lambda path: hashed.append(path.name) or real(path))

    report = job(("v1", "", "12", "2", "11"), ("v2", "5", "16.5", "", ""), ("v3", "10", "", "", ""), decoders=decoders)

    stored = Store(workspace).videos()
    source = stored["v1"].source_sha256
    assert (report.videos_written, report.clips_written, report.same_content) == (3, 6, [])
    assert hashed == [FILE]
    assert stored == {
        "v1": Video("v1", "p1", source, duration_s=12.0, clip_count=2, end_s=12.0, onset_s=2.0, seizure_end_s=11.0),
        "v2": Video("v2", "p1", source, duration_s=11.5, clip_count=2, start_s=5.0, end_s=16.5),
        "v3": Video("v3", "p1", source, duration_s=14.0, clip_count=2, start_s=10.0),
    }


def test_an_onset_that_is_corrected_changes_the_row_and_no_vector(job, workspace, tiny_encoder):
    job(("v1", "5", "20", "8", ""))
    before = vectors(workspace, tiny_encoder)

    again = job(("v1", "5", "20", "9.5", "17"))

    assert (again.clips_written, again.clips_skipped) == (0, 2)
    video = Store(workspace).videos()["v1"]
    assert (video.start_s, video.end_s, video.onset_s, video.seizure_end_s) == (5.0, 20.0, 9.5, 17.0)
    after = vectors(workspace, tiny_encoder)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_a_part_that_is_moved_is_embedded_again_and_leaves_no_clip_of_the_old_one(job, workspace, tiny_encoder):
    job(("v1", "0", "24", "", ""))
    assert len(vectors(workspace, tiny_encoder)) == 3

    moved = job(("v1", "4", "12", "", ""))
    unchanged = job(("v1", "4.000", "12", "", ""))

    assert (moved.clips_written, unchanged.clips_written, unchanged.clips_skipped) == (1, 0, 1)
    assert list(vectors(workspace, tiny_encoder)) == [("v1", 0.0)]
    assert Store(workspace).videos()["v1"].clip_count == 1


def test_a_part_outside_the_file_is_refused_by_name_and_the_others_are_stored(job, workspace):
    report = job(("v1", "2", "12", "", ""), ("v2", "20", "30", "", ""), ("v3", "40", "", "", ""))

    assert list(Store(workspace).videos()) == ["v1"]
    holds = "is not within the file, which holds 24.000 s of picture: correct start_s or end_s"
    assert report.refused == [
        Refusal("v2", FILE, f"the segment from 20 to 30 s {holds}"),
        Refusal("v3", FILE, f"the segment from 40 s on {holds}"),
    ]


def test_previews_are_of_the_part_and_made_again_when_it_moves(job, workspace, hospital):
    job(("v1", "3", "9", "", ""))
    rows = (FILE, "p1", "v1", "3", "9", "", "")
    made = make_previews(read_manifest(hospital(rows, columns=COLUMNS)), workspace, 1)
    assert (made.made, made.refused) == (("v1",), {})

    job(("v1", "4", "9", "", ""))

    with pytest.raises(NotFound):
        stored_preview(workspace, Store(workspace).videos()["v1"])
    stale = make_previews(read_manifest(hospital(rows, columns=COLUMNS)), workspace, 1)
    assert stale.refused == {"v1": "the row names another part of the file than was encoded: encode it again first"}
    now = make_previews(read_manifest(hospital((*rows[:3], "4", *rows[4:]), columns=COLUMNS)), workspace, 1)
    assert now.made == ("v1",)
