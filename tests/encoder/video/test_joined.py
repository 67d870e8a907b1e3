"""A video in two files: the clips and frames of one file that holds both, and none across a time without pictures."""

from fractions import Fraction

import pytest

from encoder.clips import Continuation, Segment, Source
from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest, write_manifest
from encoder.model.embed import Embedder
from encoder.previews.library import make_previews, stored_preview
from encoder.video.decoder import Decoder
from index.errors import ManifestErrors, VideoRefused
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import DATA
from tests.encoder.video.awkward import write
from tests.encoder.video.barcode import HALVES, SIZE, read_numbers

WHOLE = Segment()
FIRST, BOTH = range(275), range(600)  # 11 s of 24


@pytest.fixture(scope="module")
def decoder():
    with Decoder(8, SIZE) as one:
        yield one


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ward")
    write(folder / "whole.mp4", frames=BOTH)
    for suffix in ("mp4", "mkv", "ts"):
        write(folder / f"first.{suffix}", frames=FIRST)
        write(folder / f"then.{suffix}", frames=BOTH[275:])
    write(folder / "overlapping.mp4", frames=BOTH[250:])  # from 10 s on
    return folder


def numbers_in(decoder, source):
    """(start, valid seconds, frame numbers) of each clip, read from the pictures."""
    left, right = (list(decoder.decode(source, crop)) for crop in HALVES)
    shown = [read_numbers(a.frames, b.frames) for a, b in zip(left, right, strict=True)]
    return [(clip.start_s, clip.valid_seconds, numbers) for clip, numbers in zip(left, shown, strict=True)]


PARTS = (Segment(), Segment(3.2), Segment(3.21, 20.5), Segment(10.5, 12.2), Segment(0, 11.5))


@pytest.mark.parametrize("segment", PARTS, ids=str)
@pytest.mark.parametrize(
    ("first", "then", "at_s"),
    [
        *((f"first.{suffix}", f"then.{suffix}", 11) for suffix in ("mp4", "mkv", "ts")),
        ("first.mp4", "then.mkv", 11),
        ("first.mp4", "overlapping.mp4", 10),
    ],
)
def test_two_files_give_the_clips_and_frames_of_one(decoder, ward, segment, first, then, at_s):
    for stride in (10, 2.5):
        joined = Source(ward / first, None, segment, stride, then=Continuation(ward / then, at_s))
        assert numbers_in(decoder, joined) == numbers_in(decoder, Source(ward / "whole.mp4", None, segment, stride))


def test_a_short_time_between_them_is_the_last_picture_and_no_clip_reaches_into_a_longer_one(decoder, ward):
    def clips(at_s, segment=WHOLE, stride=10):
        then = Continuation(ward / "then.mp4", at_s)
        return numbers_in(decoder, Source(ward / "first.mp4", None, segment, stride, then=then))

    def frame(seconds, begins):  # that is shown then
        number = 275 + int((seconds - begins) * 25) if seconds >= begins else int(seconds * 25)
        return min(number, 274) if seconds < begins else number

    for start, valid, numbers in clips(11.8):
        middles = [start + valid * Fraction(2 * i + 1, 16) for i in range(8)]
        assert numbers == [frame(at, Fraction("11.8")) for at in middles]
    apart = clips(15)
    assert [(start, valid) for start, valid, _ in apart] == [(0, 10), (1, 10), (15, 10), (18, 10)]
    assert [(min(numbers) >= 275) for _, _, numbers in apart] == [False, False, True, True]
    assert max(number for _, _, numbers in apart[:2] for number in numbers) < 275
    later = clips(15, Segment(9, 26), 5)
    assert [(start, valid) for start, valid, _ in later] == [(0, 2), (6, 10), (7, 10)]


def test_clips_from_one_on_are_those_of_all(decoder, ward):
    joined = Source(ward / "first.mp4", None, Segment(2), 2.5, then=Continuation(ward / "then.mp4", 11))
    everything = list(decoder.decode(joined))

    for skip in (1, 3, 6):
        rest = list(decoder.decode(joined, skip=skip))
        assert [clip.clip_index for clip in rest] == [clip.clip_index for clip in everything[skip:]]
        assert all((a.frames == b.frames).all() for a, b in zip(rest, everything[skip:], strict=True))


def test_what_cannot_be_joined_is_refused(decoder, ward):
    def refused(then, at_s, segment=WHOLE):
        with pytest.raises(VideoRefused) as error:
            list(decoder.decode(Source(ward / "first.mp4", None, segment, then=Continuation(then, at_s))))
        return str(error.value)

    assert "leave continues_in empty" in refused(ward / "then.mp4", 11, Segment(0, 11))
    write(ward / "turned.mp4", frames=range(100), size=(240, 320))
    assert "differ, 320 x 240 and 240 x 320 pixels: give each file a row of its own" in refused(ward / "turned.mp4", 11)
    assert "is not within the file" in refused(ward / "then.mp4", 11, Segment(0, 40))
    assert "is not within the file" in refused(ward / "then.mp4", 11, Segment(12, 20))
    assert "damaged" in refused(DATA / "videos" / "truncated_half.mp4", 11)


@pytest.fixture
def manifest(ward, tmp_path):
    def listed(*rows):
        for name in ("first.mp4", "then.mp4", "whole.mp4"):
            (tmp_path / name).write_bytes((ward / name).read_bytes())
        lines = ["file_name,patient_id,video_id,start_s,end_s,continues_in,continues_at_s,onset_s", *rows]
        (tmp_path / "manifest.csv").write_text("\n".join(lines))
        return read_manifest(tmp_path / "manifest.csv")

    return listed


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("first.mp4,p1,v1,,,then.mp4,,", "column continues_at_s: a video in two files needs both"),
        ("first.mp4,p1,v1,,,,11,", "column continues_in: a video in two files needs both"),
        ("first.mp4,p1,v1,2,9,then.mp4,11,", "11 s is outside the segment, 2 s to 9 s"),
        ("first.mp4,p1,v1,,,first.mp4,11,", "is the file that the video begins in"),
        ("first.mp4,p1,v1,,,../then.mp4,11,", "column continues_in"),
    ],
)
def test_a_row_that_names_the_second_file_wrongly_is_refused(manifest, row, said):
    with pytest.raises(ManifestErrors, match=said):
        manifest(row)


@pytest.mark.needs("torch")
def test_it_is_stored_once_and_again_when_the_second_file_or_its_time_changes(manifest, tmp_path, tiny_encoder):
    workspace, embedder = Workspace(tmp_path / "workspace"), Embedder(tiny_encoder)

    def stored(*rows):
        report = encode(manifest(*rows), embedder, Store(workspace), EncodeOptions())
        assert report.refused == []
        return report.clips_written, report.clips_skipped

    row = "first.mp4,p1,v1,2,22,then.mp4,{},12"
    assert stored(row.format(11)) == (2, 0)
    assert stored(row.format(11)) == (0, 2)
    rows = manifest(row.format(11))
    assert make_previews(rows, workspace, 1).made == ("v1",)
    video = Store(workspace).videos()["v1"]
    assert stored_preview(workspace, video).fps == 25
    assert (video.duration_s, video.start_s, video.end_s, video.onset_s) == (20.0, 2.0, 22.0, 12.0)
    assert stored(row.format("11.5")) == (2, 0)
    (tmp_path / "manifest.csv").unlink()
    write_manifest(tmp_path / "again.csv", [(one, "") for one in rows.rows])
    assert read_manifest(tmp_path / "again.csv").rows == rows.rows


@pytest.mark.needs("torch")
def test_a_file_of_another_patient_is_not_joined_on(manifest, tmp_path, tiny_encoder):
    other, both = "then.mp4,p2,other,,,,,", "first.mp4,p1,v1,2,22,then.mp4,11,12"
    store = Store(Workspace(tmp_path / "workspace"))
    together = encode(manifest(other, both), Embedder(tiny_encoder), store, EncodeOptions())
    encode(manifest(other), Embedder(tiny_encoder), store, EncodeOptions())
    afterwards = encode(manifest(both), Embedder(tiny_encoder), store, EncodeOptions())

    assert sorted(one.video_id for one in together.refused) == ["other", "v1"]
    for one in (*together.refused, *afterwards.refused):
        assert "of another patient" in one.reason
    assert [one.video_id for one in afterwards.refused] == ["v1"]
