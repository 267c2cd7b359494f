"""How far an evaluation has come, for whoever shows it."""

from collections.abc import Callable

# Given the number of steps, returns what is called after each of them.
OnTotal = Callable[[int], Callable[[], None]]


def no_progress(_total: int) -> Callable[[], None]:
    """Take the place of a display where nobody is looking."""
    return lambda: None
