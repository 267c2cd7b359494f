"""Kinds of held-out worlds. Importing this costs nothing, so the command can offer them."""

from enum import StrEnum


class HeldOutWorld(StrEnum):
    """Which worlds are measured on.

    ``plain`` is day with two or three objects about; ``full`` is what the world draws by default:
    up to five at once, and a share of infrared nights.
    """

    PLAIN = "plain"
    FULL = "full"

    @property
    def max_objects(self) -> int:
        """Most objects of a stretch of time."""
        return 3 if self is HeldOutWorld.PLAIN else 5

    @property
    def night_probability(self) -> float:
        """Share of infrared scenes."""
        return 0.0 if self is HeldOutWorld.PLAIN else 0.15
