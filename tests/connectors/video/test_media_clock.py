import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.video.media_clock import MediaClock

TIMES = st.one_of(st.none(), st.integers(-(10**12), 10**12))


@given(st.lists(TIMES, max_size=50))
def test_times_grow_within_an_epoch_whatever_comes(times):
    clock, epoch = MediaClock(), []
    for time in times:
        pts_us, is_discontinuous = clock.advance(time)
        epoch = [] if is_discontinuous else epoch
        assert not epoch or pts_us > epoch[-1]
        epoch.append(pts_us)


def test_missing_first_time_is_filled_in():
    clock = MediaClock(step_us=40_000)
    advanced = [clock.advance(time) for time in (None, 0, 40_000)]
    assert advanced == [(0, False), (40_000, False), (80_000, False)]


def times_of(stamps_us, **options):
    clock = MediaClock(step_us=40_000, **options)
    return [clock.advance(stamp) for stamp in stamps_us]


def test_equal_stamps_are_spread_by_the_nominal_step():
    assert [time for time, _ in times_of([0] * 4)] == [0, 40_000, 80_000, 120_000]


def test_one_repeated_stamp_shifts_no_later_one_for_good():
    times = [time for time, _ in times_of([0, 40_000, 40_000, 80_000, 120_000])]
    assert times == [0, 40_000, 80_000, 81_000, 120_000]


def test_pictures_stamped_in_the_order_of_decoding_are_kept():
    """Stamps of three pictures shown between two others, as a server that ignores them gives."""
    told = times_of([number * 40_000 for number in (6, 5, 7, 4, 10, 9, 11, 8)])
    assert [time for time, _ in told] == [
        *(240_000, 241_000, 280_000, 281_000),
        *(400_000, 401_000, 440_000, 441_000),
    ]
    assert not any(is_discontinuous for _, is_discontinuous in told)


@pytest.mark.parametrize("stamp", [0, -(10**19), 10**19])
def test_jump_back_or_a_day_ahead_is_a_discontinuity_and_time_goes_on(stamp):
    told = times_of([5_000_000, stamp, stamp + 70_000])
    assert told == [(5_000_000, False), (5_040_000, True), (5_110_000, False)]


def test_times_count_from_where_the_container_says_that_it_begins():
    told = times_of([50_000_000_000, 50_000_040_000], origin_us=50_000_000_000)
    assert told == [(0, False), (40_000, False)]


@pytest.mark.parametrize("stamp", [-(10**19), 10**19])
def test_absurd_first_stamp_counts_as_the_beginning(stamp):
    assert times_of([stamp, stamp + 40_000]) == [(0, False), (40_000, False)]
