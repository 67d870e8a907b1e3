"""What belongs to one recording, and where in it it lies."""

from dataclasses import replace

import pytest

from index.records import Video
from index.tables.recording import recording_of

NIGHT = (("recording_id", "night1"),)
FIRST = Video(
    "first", "p1", "a" * 64, recorded_at="2024-03-01T23:00:00", duration_s=3600.0, camera="bed", metadata=NIGHT
)
SECOND = replace(FIRST, video_id="second", source_sha256="b" * 64, recorded_at="2024-03-02T00:00:30")
PART = replace(SECOND, video_id="part", recorded_at="2024-03-02T00:10:30", start_s=600.0, end_s=660.0, duration_s=60.0)
ALL = (PART, SECOND, FIRST)


def offsets(asked, videos):
    return {one.video.video_id: one.offset_s for one in recording_of(asked, videos)}


@pytest.mark.parametrize("asked", ALL)
def test_files_of_a_recording_lie_by_the_clock_and_parts_where_their_rows_say(asked):
    found = recording_of(asked, ALL)

    assert [(one.video.video_id, one.offset_s) for one in found] == [
        ("first", 0.0),
        ("second", 3630.0),
        ("part", 4230.0),
    ]


def test_parts_of_a_file_belong_together_whatever_the_clock_says():
    whole = replace(SECOND, metadata=(), recorded_at="2024-03-02")
    part = replace(PART, metadata=(), recorded_at="")

    assert offsets(part, [whole, part, FIRST]) == {"second": 0.0, "part": 600.0}


@pytest.mark.parametrize("asked", ["first", "second", "part", "later", "undated"])
def test_all_parts_of_a_file_that_belongs_are_there_whichever_is_asked_about(asked):
    """Only one video of the second file says when that was taken, and of which recording it is."""
    later = replace(PART, video_id="later", start_s=900.0, end_s=930.0, recorded_at="2024-03-02", metadata=())
    undated = replace(PART, video_id="undated", start_s=950.0, end_s=960.0, recorded_at="", camera="")
    videos = {one.video_id: one for one in (FIRST, SECOND, PART, later, undated)}

    assert offsets(videos[asked], list(videos.values())) == {
        "first": 0.0,
        "second": 3630.0,
        "part": 4230.0,
        "later": 4530.0,
        "undated": 4580.0,
    }


@pytest.mark.parametrize(
    "other",
    [
        replace(FIRST, patient_id="p2"),
        replace(FIRST, camera="door"),
        replace(FIRST, metadata=(("recording_id", "night2"),)),
        replace(FIRST, metadata=()),
        replace(FIRST, recorded_at="2024-03-01"),
        replace(FIRST, recorded_at="2024-03-01T23:00:00+01:00"),
    ],
)
def test_what_is_of_another_recording_or_time_unknown_is_left_out(other):
    assert offsets(SECOND, [SECOND, other]) == {"second": 0.0}
