"""Which of a row of capture times is not to be believed, judged by its neighbours. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import combinations, pairwise

# Cameras write whole seconds, and name two pictures of one burst in any order.
_SLACK = timedelta(seconds=2)


def is_contradicted(stamps: Sequence[datetime | None], index: int) -> bool:
    """Return whether the others agree on an order that the stamp at ``index`` breaks.

    The largest set of stamps that stand in order is believed; of two as large, the one that spans
    less time. A clock that was set back contradicts nothing: both sides of the step stand in
    order. Pictures far apart do neither.

    Args:
        stamps: Capture times of a few pictures in a row, ``None`` where a picture has none.
        index: Which of them is judged.
    """
    known = [(place, stamp) for place, stamp in enumerate(stamps) if stamp is not None]
    ordered = list(_ordered_subsets(known))
    best = max((_rank(one) for one in ordered), default=None)
    return not any(
        _rank(one) == best and any(place == index for place, _ in one) for one in ordered
    )


_Stamps = Sequence[tuple[int, datetime]]


def _ordered_subsets(known: _Stamps) -> Iterator[_Stamps]:
    for size in range(1, len(known) + 1):
        for subset in combinations(known, size):
            steps = pairwise(subset)
            if all(before <= behind + _SLACK for (_, before), (_, behind) in steps):
                yield subset


def _rank(subset: _Stamps) -> tuple[int, timedelta]:
    times = [stamp for _, stamp in subset]
    return len(subset), min(times) - max(times)
