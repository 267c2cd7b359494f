"""Frames above the rate are left out, whatever clocks do."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from pipeline.engine.gate import RateGate
from tests.pipeline.fakes import START, make_frame

US = 1_000_000
NOW_US = round(START.timestamp() * US)


def make_gate(max_fps, *, is_live=False):
    return RateGate(max_fps, is_live=is_live, session_gap_us=60 * US)


def frame_at(seq, seconds):
    return replace(make_frame(seq), captured_at=START + timedelta(seconds=seconds))


def passed_media(gate, frames):
    """Numbers of the frames that pass when all arrive at once, as fast as a file is read."""
    return [f.frame_seq for f in frames if gate.passes(f, arrived_us=0, now_us=NOW_US)]


@pytest.mark.parametrize(("fps", "max_fps", "num"), [(10, 5, 50), (30, 4, 14), (10, 10, 100)])
def test_media_keeps_the_rate_by_its_stamps(fps, max_fps, num):
    frames = [make_frame(seq, fps=fps) for seq in range(100)]
    assert len(passed_media(make_gate(max_fps), frames)) == num


def test_media_stamps_rounded_to_milliseconds_keep_the_rate():
    frames = [frame_at(seq, round(seq / 30, 3)) for seq in range(90)]
    assert len(passed_media(make_gate(15), frames)) == 45


def test_media_clock_set_back_leaves_no_hole():
    frames = [make_frame(seq) for seq in [*range(1000, 1010), *range(10)]]
    assert len(passed_media(make_gate(5), frames)) >= 10


def test_pictures_far_apart_all_pass():
    frames = [frame_at(seq, 3600 * seq) for seq in range(5)]
    assert passed_media(make_gate(1), frames) == [0, 1, 2, 3, 4]


def test_live_camera_whose_clock_switches_is_judged_by_arrival():
    # Arrival times first, then RTCP's, 30 s behind: all frames of 30 s were gated once.
    gate = make_gate(2, is_live=True)
    frames = [frame_at(seq, seq / 10 - (30 if seq > 5 else 0)) for seq in range(60)]
    passed = [
        frame.frame_seq
        for frame in frames
        if gate.passes(frame, arrived_us=frame.frame_seq * US // 10, now_us=NOW_US)
    ]
    assert all(4 <= later - sooner <= 6 for sooner, later in pairwise(passed))
    assert passed[-1] >= 55


def test_live_camera_of_just_the_rate_loses_nothing_to_jitter():
    gate = make_gate(25, is_live=True)
    jitter_us = (0, -6000, 5000, -9000, 9000, -3000)
    times_us = [seq * 40_000 + jitter_us[seq % 6] for seq in range(100)]
    assert all(gate.passes(make_frame(), arrived_us=us, now_us=NOW_US) for us in times_us)


def test_rate_is_kept_on_average_after_a_pause():
    gate = make_gate(5, is_live=True)
    times_us = [*range(0, US, 100_000), *range(9 * US, 10 * US, 100_000)]
    assert sum(gate.passes(make_frame(), arrived_us=us, now_us=NOW_US) for us in times_us) == 10
