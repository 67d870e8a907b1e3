"""A file with two cameras: each row of a manifest takes the one it names, all the way to the store."""

import av
import numpy as np
import pytest

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.previews.library import make_previews
from encoder.video.decoder import Decoder
from index.tables.store import Store
from tests.encoder.video.awkward import picture, write


@pytest.fixture
def two_cameras(hospital):
    """A folder with `both.mkv`, the numbers from 0 in one track and from 1000 in the other, and each alone."""
    folder = hospital().parent
    parts = [write(folder / f"{first}.mkv", frames=range(first, first + 300)) for first in (0, 1000)]
    with av.open(str(folder / "both.mkv"), "w") as out:
        given = [av.open(str(part)) for part in parts]
        streams = [out.add_stream_from_template(one.streams.video[0]) for one in given]
        packets = [
            (place, number, packet)
            for number, one in enumerate(given)
            for place, packet in enumerate(one.demux(video=0))
            if packet.size
        ]
        for _, number, packet in sorted(packets, key=lambda one: one[:2]):
            packet.stream = streams[number]
            out.mux(packet)
    return folder


def encoded(folder, encoder, workspace, *rows):
    (folder / "manifest.csv").write_text("\n".join(["file_name,patient_id,video_id,track", *rows]))
    manifest = read_manifest(folder / "manifest.csv")
    return manifest, encode(manifest, Embedder(encoder), Store(workspace), EncodeOptions())


def test_each_row_takes_the_track_it_names(two_cameras, tiny_encoder, workspace):
    rows = ("both.mkv,p1,front,0", "both.mkv,p1,side,1", "0.mkv,p1,alone,")

    _, report = encoded(two_cameras, tiny_encoder, workspace, *rows)

    assert (report.videos_written, report.refused) == (3, [])
    stored = Store(workspace).clips(tiny_encoder.encoder_id)
    vectors = {(clip.video_id, clip.clip_index): v for clip, v in zip(stored.clips, stored.vectors, strict=True)}
    np.testing.assert_allclose(vectors["front", 0], vectors["alone", 0], atol=1e-6)
    assert np.abs(vectors["side", 0] - vectors["front", 0]).max() > 1e-3
    crops = {name: one.crop for name, one in Store(workspace).encoded(tiny_encoder.encoder_id).items()}
    assert crops == {"front": "track 0", "side": "track 1", "alone": ""}


def test_two_films_without_a_choice_are_refused_with_their_tracks(two_cameras, tiny_encoder, workspace):
    _, report = encoded(two_cameras, tiny_encoder, workspace, "both.mkv,p1,v,", "both.mkv,p1,w,5")

    reasons = {refusal.video_id: refusal.reason for refusal in report.refused}
    listed = "track 0: h264, 320 x 240, 300 pictures; track 1: h264, 320 x 240, 300 pictures"
    assert reasons == {
        "v": f"2 films in one file: give the number of one in the manifest's column track ({listed})",
        "w": f"no video track 5 in this file: the video tracks are {listed}",
    }


def test_another_track_is_another_picture_and_is_embedded_again(two_cameras, tiny_encoder, workspace):
    encoded(two_cameras, tiny_encoder, workspace, "both.mkv,p1,v,0")

    _, same = encoded(two_cameras, tiny_encoder, workspace, "both.mkv,p1,v,0")
    _, other = encoded(two_cameras, tiny_encoder, workspace, "both.mkv,p1,v,1")

    assert (same.clips_skipped, same.clips_written) == (2, 0)
    assert (other.clips_skipped, other.clips_written) == (0, 2)


def test_a_preview_is_of_the_track_too(two_cameras, tiny_encoder, workspace):
    manifest, _ = encoded(two_cameras, tiny_encoder, workspace, "both.mkv,p1,v,1")

    made = make_previews(manifest, workspace, 1)

    assert made.made == ("v",)
    with av.open(str(workspace.previews / "v" / "film.mp4")) as film:
        shown = next(film.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown.astype(int) - picture(1000)).mean() < 12 < np.abs(shown.astype(int) - picture(0)).mean()


def test_clips_of_a_track_are_counted(two_cameras):
    (two_cameras / "manifest.csv").write_text("file_name,patient_id,video_id,track\nboth.mkv,p1,v,1\n")
    manifest = read_manifest(two_cameras / "manifest.csv")

    with Decoder(0, 0) as decoder:
        assert decoder.count(manifest.source(manifest.rows[0])) == 2
