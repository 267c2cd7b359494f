import itertools

from hypothesis import given
from hypothesis import strategies as st

from connectors.backoff import Backoff


@given(st.floats(0.01, 10), st.floats(1, 100), st.floats(0, 1), st.randoms())
def test_delays_stay_between_nothing_and_the_maximum(initial_s, maximum_s, jitter, rng):
    backoff = Backoff(initial_s=initial_s, maximum_s=maximum_s, jitter=jitter)
    delays = list(itertools.islice(backoff.delays(rng), 40))
    assert all(0 <= delay <= maximum_s for delay in delays)
    assert min(delays[-5:]) >= min(maximum_s, initial_s) * (1 - jitter)


def test_delays_grow_to_the_maximum_without_jitter():
    delays = Backoff(initial_s=1, maximum_s=5, jitter=0).delays()
    assert list(itertools.islice(delays, 6)) == [1, 1.5, 2.25, 3.375, 5, 5]
