from datetime import UTC, datetime, timedelta

import pytest

from connectors.pictures.capture_times import is_contradicted

DAY = datetime(2026, 5, 1, 8, tzinfo=UTC)
FUTURE, PAST = 10 * 365 * 86_400, -20 * 365 * 86_400


def judge(*seconds):
    """Return the places that are contradicted, each judged with two neighbours on each side."""
    stamps = [None if one is None else DAY + timedelta(seconds=one) for one in seconds]
    doubtful = []
    for place in range(len(stamps)):
        first = max(place - 2, 0)
        if is_contradicted(stamps[first : place + 3], place - first):
            doubtful.append(place)
    return doubtful


@pytest.mark.parametrize(
    ("seconds", "doubtful"),
    [
        ((FUTURE, 2, 4, 6, 8), [0]),
        ((0, FUTURE, 4, 6, 8), [1]),
        ((0, 2, FUTURE, 6, 8), [2]),
        ((0, 2, 4, FUTURE, 8), [3]),
        ((0, 2, PAST, 6, 8), [2]),
        ((0, PAST, 4, 6), [1]),
        ((0, 2, 4, PAST), [3]),
        ((0, 2, None, FUTURE, 8, 10), [3]),
    ],
)
def test_one_false_stamp_is_found_wherever_it_stands(seconds, doubtful):
    assert [place for place in judge(*seconds) if seconds[place] is not None] == doubtful


@pytest.mark.parametrize(
    "seconds",
    [
        (0, 0, 0, 0, 0),
        (0, 1, 43_200, 43_201, 259_200, 259_201),
        (0, 2, 4, -3600, -3598, -3596),
        (FUTURE, FUTURE + 2, FUTURE + 4, 0, 2, 4),
        (1, 0, 3, 2, 5, 4),
        (0, -86_400, 2, -86_398, 4, -86_396),
        (0, PAST),
        (0,),
    ],
    ids=["burst", "visits", "set back", "put right", "names", "two cameras", "two", "one"],
)
def test_stamps_that_may_be_true_are_believed(seconds):
    assert judge(*seconds) == []
