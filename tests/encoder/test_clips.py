"""Clips and frames by presentation time."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.clips import Timeline, plan_clips
from index.errors import VideoRefused

gaps = st.lists(st.integers(1, 400), min_size=2, max_size=400)


@given(gaps=gaps, start=st.integers(-(10**6), 10**9), num_frames=st.integers(1, 100))
def test_clips_cover_a_video_once_and_frames_are_those_shown(gaps, start, num_frames):
    ticks = [start]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    timeline = Timeline(tuple(ticks), Fraction(1, 90))
    if timeline.duration < 1:
        with pytest.raises(VideoRefused, match="shorter than the least valid length"):
            plan_clips(timeline, num_frames)
        return

    plans = plan_clips(timeline, num_frames)
    shown_at = [(tick - start) / 90 for tick in ticks]

    assert [plan.clip_index for plan in plans] == list(range(len(plans)))
    left = float(timeline.duration) - sum(plan.valid_seconds for plan in plans)
    assert -0.001 * len(plans) <= left
    assert all(any(p.start_s <= time < p.start_s + p.valid_seconds for time in shown_at) for p in plans)
    assert left < 1.001 or all(time < 10 * len(plans) for time in shown_at)  # no picture of its own: no clip
    for plan in plans:
        assert plan.start_s == 10 * plan.clip_index
        assert len(plan.frame_numbers) == num_frames
        valid = min(timeline.duration - 10 * plan.clip_index, Fraction(10))
        for i, number in enumerate(plan.frame_numbers):
            moment = ticks[0] + (10 * plan.clip_index + valid * (2 * i + 1) / (2 * num_frames)) * 90
            assert ticks[number] <= moment
            assert number == len(ticks) - 1 or ticks[number + 1] > moment


def test_a_slow_video_repeats_frames():
    plan = plan_clips(Timeline((0, 1, 2, 3), Fraction(1)), 8)[0]

    assert plan.frame_numbers == (0, 0, 1, 1, 2, 2, 3, 3)
    assert plan.valid_seconds == 4


def test_the_last_frame_is_shown_as_long_as_the_one_before_it():
    assert Timeline((0, 10, 30), Fraction(1, 10)).duration == 5


@pytest.mark.parametrize("ticks", [(), (0, 0), (5, 3)])
def test_a_clock_that_stands_still_or_is_missing_is_refused(ticks):
    with pytest.raises(VideoRefused):
        Timeline(ticks, Fraction(1, 25))


def test_a_single_frame_is_no_video():
    with pytest.raises(VideoRefused, match=r"0\.00 s of picture"):
        plan_clips(Timeline((7,), Fraction(1, 25)), 4)


def test_rounding_of_the_time_base_is_still_a_constant_rate():
    assert Timeline((0, 33, 67, 100), Fraction(1, 1000)).has_constant_rate()
    assert not Timeline((0, 33, 100), Fraction(1, 1000)).has_constant_rate()
