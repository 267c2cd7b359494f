"""Stream time, from stamps that cannot be trusted."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.streams.clock import StreamClock, to_us

S = 1_000_000
DAY = 86_400 * S
NOW = 1_800_000_000 * S
BEGAN = NOW - 3600 * S
YEAR_2036 = to_us(datetime(2036, 5, 1, tzinfo=UTC))


def play(stamps, *, is_live=False, arrivals=None, gap_s=60, nominal_us=None, doubtful=()):
    """Run a clock over capture times; cameras' frames arrive when they are taken unless told."""
    clock = StreamClock(is_live=is_live, session_gap_us=gap_s * S)
    arrivals = [stamp - BEGAN for stamp in stamps] if arrivals is None else arrivals
    ticks = [
        clock.advance(
            captured_us=stamp,
            arrived_us=arrived,
            now_us=NOW,
            nominal_us=nominal_us,
            is_doubtful=number in doubtful,
        )
        for number, (stamp, arrived) in enumerate(zip(stamps, arrivals, strict=True))
    ]
    return ticks, clock


def every(step_us, count, *, start=BEGAN):
    return [start + number * step_us for number in range(count)]


def times(ticks):
    return [tick.stream_time_us for tick in ticks]


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**62), 2**62) | st.integers(BEGAN - 90 * S, BEGAN + 90 * S),
            st.integers(0, 5 * S),
            st.none() | st.integers(-S, 5 * S),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_time_never_runs_backwards_whatever_a_source_says(readings, is_live):
    clock = StreamClock(is_live=is_live, session_gap_us=60 * S)
    arrived_us, last, first = 0, None, True
    for captured_us, passed_us, nominal_us, is_doubtful in readings:
        arrived_us += passed_us
        tick = clock.advance(
            captured_us=captured_us,
            arrived_us=arrived_us,
            now_us=NOW,
            nominal_us=nominal_us,
            is_doubtful=is_doubtful,
        )
        assert tick.begins_session or not first
        assert tick.gap_us >= 0
        if last is not None:
            step_us = tick.stream_time_us - last.stream_time_us
            assert step_us >= 1
            assert tick.observed_us - last.observed_us == step_us - tick.gap_us >= 0
        assert clock.utc_of(tick.stream_time_us).tzinfo is UTC
        last, first = tick, False


@pytest.mark.parametrize("is_live", [False, True])
def test_true_stamps_give_their_differences_to_the_microsecond(is_live):
    ticks, clock = play(every(33_333, 200), is_live=is_live)
    assert times(ticks) == every(33_333, 200, start=0)
    assert [tick.observed_us for tick in ticks] == times(ticks)
    assert [tick.begins_session for tick in ticks] == [True] + [False] * 199
    assert to_us(clock.utc_of(66_666)) == BEGAN + 66_666


@given(
    st.integers(1, 18),
    st.sampled_from([-(10**15), -3600 * S, -5 * S, -1, 0, 3 * 365 * DAY, 2**62 - BEGAN]),
    st.booleans(),
)
def test_one_false_stamp_moves_nothing(place, error_us, is_live):
    stamps = every(2 * S, 20)
    arrivals = [stamp - BEGAN for stamp in stamps]
    false = [*stamps]
    false[place] += error_us
    if error_us in {0, -1}:  # within what a camera's jitter may be, but the same as the one before
        false[place] = false[place - 1] + error_us
    ticks, _ = play(false, is_live=is_live, arrivals=arrivals)
    right, _ = play(stamps, is_live=is_live, arrivals=arrivals)
    rest = [tick.stream_time_us for tick in ticks[place + 1 :]]
    slewed_us = 20_000 * (20 - place) if is_live else 0  # 1 % of 2 s a frame
    assert rest == pytest.approx([t.stream_time_us for t in right[place + 1 :]], abs=slewed_us)
    assert not any(tick.begins_session for tick in ticks[1:])


@pytest.mark.parametrize("place", [0, 1, 5, 9])
def test_a_stamp_of_2036_is_not_believed_and_no_event_gets_it(place):
    stamps = every(2 * S, 10)
    stamps[place] = YEAR_2036
    ticks, clock = play(stamps)
    right = every(2 * S, 10, start=0)
    assert times(ticks)[9] == pytest.approx(right[9], abs=2 * S)
    assert sum(tick.begins_session for tick in ticks) == 1
    assert {clock.utc_of(tick.stream_time_us).year for tick in ticks} == {2027}


def test_a_stamp_that_its_neighbours_contradict_is_not_believed():
    stamps = every(2 * S, 10)
    stamps[4] += 3600 * S  # not in the future: only the source can know
    ticks, _ = play(stamps, doubtful={4})
    assert times(ticks) == every(2 * S, 10, start=0)
    assert [tick.begins_session for tick in ticks].count(True) == 1


def test_equal_stamps_are_spread_by_the_nominal_step_and_marked():
    ticks, _ = play([BEGAN] * 4 + [BEGAN + S])
    assert times(ticks) == [0, 40_000, 80_000, 120_000, S]
    assert [tick.is_same_stamp for tick in ticks] == [False, True, True, True, False]
    ticks, _ = play([BEGAN] * 3, nominal_us=100_000)
    assert times(ticks) == [0, 100_000, 200_000]


def test_a_stamp_that_the_spread_of_equal_ones_has_passed_is_a_microsecond_on():
    ticks, clock = play([BEGAN, *[BEGAN + 40_000] * 6, BEGAN + 50_000, BEGAN + 400_000])
    assert times(ticks) == [0, *every(40_000, 6, start=40_000), 240_001, 590_001]
    assert to_us(clock.utc_of(590_001)) == BEGAN + 400_000


@pytest.mark.parametrize(("gap_us", "begins"), [(60 * S, False), (60 * S + 1, True)])
@pytest.mark.parametrize("is_live", [False, True])
def test_only_a_gap_above_the_limit_ends_a_session(gap_us, begins, is_live):
    stamps = [*every(S, 5), BEGAN + 4 * S + gap_us]
    ticks, _ = play(stamps, is_live=is_live)
    assert [tick.begins_session for tick in ticks] == [True, *[False] * 4, begins]
    # Stream time of files does not take the gap, so that there is none in it.
    assert ticks[-1].gap_us == (gap_us - S if is_live or not begins else 0)


def test_visits_days_apart_follow_each_other_in_stream_time():
    day = [BEGAN - 4 * DAY, BEGAN - 4 * DAY + S, BEGAN - S, BEGAN]
    ticks, clock = play(day)
    assert times(ticks) == [0, S, 2 * S, 3 * S]
    assert [tick.begins_session for tick in ticks] == [True, False, True, False]
    assert to_us(clock.utc_of(3 * S)) == BEGAN


@pytest.mark.parametrize("is_live", [False, True])
def test_a_gap_within_a_session_is_not_observed(is_live):
    stamps = [*every(100_000, 10), *every(100_000, 5, start=BEGAN + 45 * S)]
    ticks, _ = play(stamps, is_live=is_live)
    assert times(ticks)[10] == 45 * S
    assert [tick.gap_us for tick in ticks if tick.gap_us] == [45 * S - S]
    assert ticks[10].observed_us == S
    assert ticks[14].observed_us == 1_400_000


@pytest.mark.parametrize("step_us", [2 * S, 30 * S])
def test_a_slow_stream_has_no_gaps_once_its_pace_is_known(step_us):
    ticks, _ = play(every(step_us, 8))
    assert [tick.gap_us for tick in ticks[2:]] == [0] * 6


@pytest.mark.parametrize("place", [1, 3])
def test_a_false_stamp_is_no_gap(place):
    stamps = every(2 * S, 8)
    stamps[place] = YEAR_2036
    ticks, _ = play(stamps)
    assert [tick.gap_us for tick in ticks] == [0] * 8
    assert ticks[-1].observed_us == 14 * S


def test_each_visit_has_its_own_pace():
    stamps = [*every(S, 4), *every(20 * S, 4, start=BEGAN + 600 * S)]
    ticks, _ = play(stamps)
    assert [tick.gap_us for tick in ticks] == [0] * 5 + [20 * S - 40_000, 0, 0]


@pytest.mark.parametrize("before", [[], every(S, 4, start=BEGAN - 600 * S)])
def test_the_first_two_frames_of_a_visit_say_what_its_pace_is(before):
    ticks, _ = play([*before, BEGAN, BEGAN + 20 * S, BEGAN + 80 * S])
    assert [tick.gap_us for tick in ticks[len(before) :]] == [0, 20 * S - 40_000, 0]


@pytest.mark.parametrize(("num_slow", "gap_us"), [(4, 44 * S), (5, 0)])
def test_the_usual_step_is_the_median_of_the_last_nine(num_slow, gap_us):
    quick = every(S, 30)
    slow = every(10 * S, num_slow, start=quick[-1] + 10 * S)
    ticks, _ = play([*quick, *slow, slow[-1] + 45 * S])
    assert ticks[-1].gap_us == gap_us


@pytest.mark.parametrize(
    ("back_us", "step_us", "is_followed"),
    [
        (30 * S, 0, False),
        (30 * S, 1, True),
        (100 * S, 60 * S, True),
        (100 * S, 60 * S + 1, False),
    ],
)
def test_a_clock_set_back_is_followed_if_its_stamps_go_on_within_a_session(
    back_us, step_us, is_followed
):
    ticks, clock = play([*every(S, 5), BEGAN - back_us, BEGAN - back_us + step_us])
    assert clock.num_reanchored == is_followed
    assert times(ticks)[-1] - times(ticks)[-2] == (step_us if is_followed else S)


def test_a_clock_set_back_is_followed_from_its_second_stamp_on():
    stamps = [*every(S, 5), *every(S, 5, start=BEGAN - 30 * S)]
    ticks, clock = play(stamps)
    assert times(ticks)[5:] == every(S, 5, start=5 * S)
    assert clock.num_reanchored == 1
    assert not any(tick.begins_session for tick in ticks[1:])
    assert to_us(clock.utc_of(times(ticks)[-1])) == stamps[-1]


def test_a_clock_set_back_is_followed_over_a_gap_that_ends_no_session():
    stamps = [*every(S, 5), BEGAN - 100 * S, BEGAN - 40 * S, BEGAN - 39 * S]
    ticks, clock = play(stamps)
    assert times(ticks)[4:] == [4 * S, 5 * S, 65 * S, 66 * S]
    assert clock.num_reanchored == 1


def test_a_stamp_set_back_and_not_followed_up_moves_nothing():
    stamps = [*every(S, 5), BEGAN - 30 * S, BEGAN - 30 * S, *every(S, 3, start=BEGAN + 7 * S)]
    ticks, clock = play(stamps)
    assert times(ticks)[7:] == every(S, 3, start=7 * S)
    assert clock.num_reanchored == 0


def test_a_run_of_stamps_far_behind_is_another_session():
    stamps = [*every(S, 3), *every(S, 3, start=BEGAN - DAY), BEGAN - 2 * DAY, BEGAN - 3 * DAY]
    ticks, _ = play(stamps)
    begins = [tick.begins_session for tick in ticks]
    assert begins == [True, False, False, False, True, False, False, True]


def test_a_card_whose_camera_lives_in_2036_is_timed_by_differences():
    ticks, clock = play(every(2 * S, 6, start=YEAR_2036))
    assert times(ticks) == every(2 * S, 6, start=0)
    assert clock.utc_of(0).year == 2027
    assert [tick.begins_session for tick in ticks].count(True) == 1


@pytest.mark.parametrize("late_us", [-30 * S, -1_500_000, 1_500_000, 30 * S, -(10**14)])
def test_a_camera_clock_that_switches_leaves_no_hole(late_us):
    arrivals = every(100_000, 400, start=0)
    stamps = [BEGAN + at + (late_us if number >= 10 else 0) for number, at in enumerate(arrivals)]
    ticks, clock = play(stamps, is_live=True, arrivals=arrivals)
    steps = [b - a for a, b in zip(times(ticks), times(ticks)[1:], strict=False)]
    assert min(steps) >= 20_000
    assert max(steps) <= 1_700_000
    if late_us == -1_500_000:  # half as fast until the camera's clock has caught up
        assert steps[9:20] == [50_000] * 11
    assert times(ticks)[-1] == pytest.approx(arrivals[-1], abs=2 * S)
    assert not any(tick.begins_session for tick in ticks[1:])
    is_small = abs(late_us) < 2 * S
    assert clock.num_reanchored == (0 if is_small else 1)
    if not is_small:
        assert to_us(clock.utc_of(times(ticks)[-1])) == stamps[-1]


@pytest.mark.parametrize(("off_us", "is_believed"), [(2 * S, True), (2 * S + 1, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_camera_clock_is_believed_within_two_seconds_of_arrival(off_us, is_believed, sign):
    arrivals = every(3 * S, 5, start=0)
    stamps = [BEGAN + at for at in arrivals]
    stamps[3] += sign * off_us
    ticks, _ = play(stamps, is_live=True, arrivals=arrivals)
    assert times(ticks)[3] == 9 * S + sign * off_us * is_believed


@pytest.mark.parametrize(("wrong_for_s", "num_reanchored"), [(9, 0), (10, 1)])
def test_a_camera_clock_must_be_wrong_for_ten_seconds_to_be_taken_anew(wrong_for_s, num_reanchored):
    arrivals = every(S, 40, start=0)
    wrong = range(10, 11 + wrong_for_s)
    stamps = [BEGAN + at - 3600 * S * (number in wrong) for number, at in enumerate(arrivals)]
    ticks, clock = play(stamps[: wrong[-1] + 1], is_live=True, arrivals=arrivals[: wrong[-1] + 1])
    assert clock.num_reanchored == num_reanchored
    assert times(ticks) == arrivals[: wrong[-1] + 1]


@given(st.integers(-20_000, 20_000))
def test_a_camera_clock_that_drifts_is_followed_by_at_most_one_percent(drift_ppm):
    arrivals = every(200_000, 600, start=0)
    stamps = [BEGAN + at + at * drift_ppm // S for at in arrivals]
    ticks, _ = play(stamps, is_live=True, arrivals=arrivals)
    errors = [tick.stream_time_us - at for tick, at in zip(ticks, arrivals, strict=True)]
    assert max(abs(error) for error in errors) <= 2 * S
    if abs(drift_ppm) <= 9_000:
        assert abs(errors[-1]) <= 10_000


def test_a_camera_clock_is_followed_by_one_percent_of_the_time_that_went_by():
    arrivals = every(S, 8, start=0)
    stamps = [BEGAN + at - (S if number >= 5 else 0) for number, at in enumerate(arrivals)]
    ticks, _ = play(stamps, is_live=True, arrivals=arrivals)
    assert times(ticks)[4:] == [4 * S, 4_500_000, 5_010_000, 6_020_000]


def test_frames_that_arrive_at_once_with_one_stamp_are_a_microsecond_apart():
    ticks, _ = play([BEGAN] * 3, is_live=True)
    assert times(ticks) == [0, 1, 2]


def test_arrival_that_stutters_does_not_bend_the_time_between_frames():
    stamps = every(100_000, 100)
    arrivals = [stamp - BEGAN + (number * 7919) % 900_000 for number, stamp in enumerate(stamps)]
    arrivals = [max(arrivals[: number + 1]) for number in range(100)]
    ticks, _ = play(stamps, is_live=True, arrivals=arrivals)
    steps = [b - a for a, b in zip(times(ticks), times(ticks)[1:], strict=False)]
    assert all(abs(step - 100_000) <= 10_000 for step in steps)


def test_stamps_are_read_without_floats():
    zone = timezone(timedelta(hours=2))
    moment = datetime(2026, 5, 1, 8, 0, 0, 299_999, tzinfo=zone)
    assert to_us(moment) % S == 299_999
    assert to_us(moment) == to_us(moment.astimezone(UTC))


def test_frames_of_one_stamp_are_told_from_those_whose_stamp_runs_back():
    ticks, _ = play([BEGAN, BEGAN, BEGAN - 1, BEGAN - 1, BEGAN + S])
    assert [tick.is_same_stamp for tick in ticks] == [False, True, False, True, False]
