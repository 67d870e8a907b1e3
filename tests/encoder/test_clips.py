"""Clips and frames by presentation time."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from encoder.clips import LastClip, Segment, Timeline, plan_clips
from index.errors import VideoRefused

gaps = st.lists(st.integers(1, 400), min_size=2, max_size=400)


@given(gaps=gaps, start=st.integers(-(10**6), 10**9), num_frames=st.integers(1, 100))
def test_clips_that_are_cut_as_before_cover_a_video_once_and_frames_are_those_shown(gaps, start, num_frames):
    ticks = [start]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    timeline = Timeline(tuple(ticks), Fraction(1, 90))
    if timeline.duration < 1:
        with pytest.raises(VideoRefused, match="shorter than the least valid length"):
            plan_clips(timeline, num_frames)
        return

    plans = plan_clips(timeline, num_frames, last_clip=LastClip.STRETCHED)
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


@given(gaps=gaps, num_frames=st.integers(1, 24), stride=st.integers(500, 10_000))
def test_clips_leave_no_gap_and_only_the_last_begins_off_the_stride(gaps, num_frames, stride):
    ticks = [0]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    timeline = Timeline(tuple(ticks), Fraction(1, 25))  # a picture every 16 s at the slowest
    duration = timeline.duration
    assume(duration >= 1)

    plans = plan_clips(timeline, num_frames, stride / 1000)

    assert [plan.clip_index for plan in plans] == list(range(len(plans)))
    exact = [Fraction(stride * number, 1000) for number in range(len(plans))]
    if plans and exact[-1] + 10 > duration:
        exact[-1] = max(duration - 10, Fraction(0))
        assert plans[-1].valid_seconds == round(float(min(duration, 10)), 3)
    assert [plan.start_s for plan in plans] == [round(float(start), 3) for start in exact]
    assert all(plan.valid_seconds == 10 for plan in plans[:-1])
    for plan, start in zip(plans, exact, strict=True):
        valid = min(duration - start, Fraction(10))
        for i, number in enumerate(plan.frame_numbers):
            moment = (start + valid * (2 * i + 1) / (2 * num_frames)) * 25
            assert ticks[number] <= moment
            assert number == len(ticks) - 1 or ticks[number + 1] > moment
    ended, following = plans[-1].start_s + plans[-1].valid_seconds, stride / 1000 * len(plans)
    if duration - Fraction(ended) >= 1:  # the next clip would have shown no picture of its own
        own = following if following + 10 <= duration else ended
        assert not any(own <= tick / 25 < own + 10 for tick in ticks)


@given(gaps=gaps, data=st.data())
def test_a_segment_between_two_frames_is_the_file_that_is_cut_there(gaps, data):
    ticks = [7]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    whole = Timeline(tuple(ticks), Fraction(1, 100))
    start, stop = sorted(data.draw(st.sets(st.integers(0, len(ticks) - 1), min_size=2, max_size=2)))
    segment = Segment((ticks[start] - 7) / 100, (ticks[stop] - 7) / 100)

    first, part = whole.segment(segment)

    assert (first, list(part.ticks)) == (start, ticks[start:stop])
    assert (part.zero, part.duration) == (ticks[start], Fraction(ticks[stop] - ticks[start], 100))
    cut = Timeline(tuple(ticks[start:stop]), whole.time_base, end=Fraction(ticks[stop]))
    if part.duration >= 1:
        assert plan_clips(part, 12) == plan_clips(cut, 12)


@given(gaps=gaps, data=st.data())
def test_a_segment_shows_at_each_moment_what_the_file_shows_then(gaps, data):
    ticks = [0]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    whole = Timeline(tuple(ticks), Fraction(1, 1000))
    last = float(whole.duration)
    begin, end = sorted(data.draw(st.tuples(*[st.floats(0, last).map(lambda s: round(s, 3))] * 2)))
    if begin >= whole.duration or end - begin < 0.001:
        return

    first, part = whole.segment(Segment(begin, end))

    assert part.duration == Fraction(str(end)) - Fraction(str(begin))
    for number in range(20):
        moment = part.duration * number / 20
        assert first + part.frame_at(moment) == whole.frame_at(Fraction(str(begin)) + moment)


@pytest.mark.parametrize("segment", [Segment(10), Segment(12, 13), Segment(2, 10.6)])
def test_a_segment_outside_the_file_is_refused_with_what_the_file_holds(segment):
    with pytest.raises(VideoRefused, match=r"is not within the file, which holds 10\.000 s of picture"):
        Timeline(tuple(range(0, 100)), Fraction(1, 10)).segment(segment)


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
