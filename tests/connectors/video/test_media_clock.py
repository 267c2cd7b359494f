import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.video.decode import MediaClock

TIMES = st.one_of(st.none(), st.integers(-(10**12), 10**12))


@given(st.lists(TIMES, max_size=50))
def test_times_grow_within_an_epoch_whatever_comes(times):
    clock, epoch = MediaClock(), []
    for time in times:
        advanced = clock.advance(time)
        if advanced is None:
            continue
        pts_us, is_discontinuous = advanced
        epoch = [] if is_discontinuous else epoch
        assert not epoch or pts_us > epoch[-1]
        epoch.append(pts_us)


def test_missing_first_time_is_filled_in():
    clock = MediaClock(step_us=40_000)
    advanced = [clock.advance(time) for time in (None, 0, 40_000)]
    assert advanced == [(0, False), (40_000, False), (80_000, False)]


def test_repeated_time_is_refused_and_a_jump_back_begins_anew():
    clock = MediaClock()
    assert [clock.advance(time) for time in (5_000_000, 5_000_000, 4_900_000)] == [
        (5_000_000, False),
        None,
        None,
    ]
    assert clock.advance(500_000) == (500_000, True)
    assert clock.num_refused == 2


def test_live_clock_keeps_pictures_stamped_in_the_order_of_decoding():
    """Stamps of three pictures shown between two others, as a server that ignores them gives."""
    clock = MediaClock(step_us=40_000, keeps_disordered=True)
    told = [clock.advance(number * 40_000) for number in (6, 5, 7, 4, 10, 9, 11, 8)]
    assert None not in told
    times = [pts_us for pts_us, _ in told]
    assert times == sorted(set(times))
    assert times[-1] - times[0] == pytest.approx(200_000, abs=10_000)
    assert clock.advance(times[-1]) is None
