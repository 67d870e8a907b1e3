"""Which clips lie in a seizure whose onset is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.phases import Phase, counted_clips, counted_rows, phase_of
from index.records import Clip, Video


def video(start=0.0, onset=None, end=None, name="v"):
    return Video(name, "p", "", start_s=start, onset_s=onset, seizure_end_s=end)


def clips(count, last=10.0, name="v"):
    lengths = [10.0] * (count - 1) + [last]
    return [Clip(f"{name}{i}", name, "p", i, 10.0 * i, seconds) for i, seconds in enumerate(lengths)]


@pytest.mark.parametrize(
    ("of", "from_onset_s", "counted"),
    [
        (video(), None, [0, 1, 2, 3, 4]),  # nothing is known
        (video(onset=0), None, [0, 1, 2, 3, 4]),
        (video(onset=12, end=33), None, [1, 2]),  # middles at 15 and 25
        (video(onset=15, end=25), None, [1]),  # the onset counts, the end does not
        (video(start=100, onset=112, end=133), None, [1, 2]),  # seconds of the file
        (video(onset=12), None, [1, 2, 3, 4]),  # no end is known
        (video(onset=12), 20, [1, 2]),
        (video(onset=12, end=24), 20, [1]),
        (video(onset=16, end=19), None, [1]),  # too short for a middle: the clip with most of it
        (video(onset=18, end=24), None, [2]),
        (video(onset=90, end=95), None, [0, 1, 2, 3, 4]),  # its clips are not stored
    ],
)
def test_the_clips_whose_middle_lies_in_the_seizure_count(of, from_onset_s, counted):
    assert counted_clips(of, clips(5), from_onset_s) == counted


def test_without_a_video_or_clips_everything_there_is_counts():
    assert counted_clips(None, clips(2)) == [0, 1]
    assert counted_clips(video(onset=3), []) == []


seconds = st.integers(0, 120).map(float)


@given(
    start=seconds,
    onset=seconds,
    lasts=st.none() | st.integers(1, 60),
    count=st.integers(1, 9),
    first=st.none() | seconds,
)
def test_what_counts_is_what_is_called_ictal_wherever_there_is_such_a_clip(start, onset, lasts, count, first):
    of = video(start, start + onset, None if lasts is None else start + onset + lasts)
    there = clips(count)
    ictal = [i for i, clip in enumerate(there) if phase_of(of, clip) == Phase.ICTAL]

    counted = counted_clips(of, there, first or None)

    assert counted
    assert counted == sorted(set(counted))
    if ictal and not first:
        assert counted == ictal
    elif first and len(counted) < count:
        assert set(counted_clips(of, there)) >= set(counted) or len(counted) == 1
    assert {phase_of(video(start), clip) for clip in there} == {Phase.UNKNOWN}


def test_rows_of_many_videos_in_any_order_count_each_by_its_own_video():
    one, other = clips(3, name="a"), clips(4, name="b")
    mixed = [other[3], one[0], other[0], one[2], one[1], other[1], other[2]]
    videos = {"a": video(onset=11, end=19, name="a"), "b": video(name="b")}

    assert counted_rows(mixed, videos, range(7)) == ([0, 2, 4, 5, 6], 2, 0)
    assert counted_rows(mixed, videos, [0, 4]) == ([0, 4], 0, 0)
    assert counted_rows(mixed, {}, [1, 3]) == ([1, 3], 0, 0)
