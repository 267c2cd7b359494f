"""Kinds of held-out worlds. Importing this costs nothing, so the command can offer them."""

from enum import StrEnum

from connectors.world.config import Split


class HeldOutWorld(StrEnum):
    """Which worlds are measured on.

    ``plain`` is day with two or three objects about; ``full`` is what the world draws by default:
    up to five at once, and a share of infrared nights. ``wide`` has hundreds of concepts in many
    places, looks and weathers; its other two also show, and ask for, what was kept from training:
    combinations of look and noun, or whole concepts.
    """

    PLAIN = "plain"
    FULL = "full"
    WIDE = "wide"
    WIDE_COMBINATIONS = "wide-combinations"
    WIDE_CONCEPTS = "wide-concepts"

    @property
    def wide_split(self) -> Split | None:
        """Which part of the wide world it is; ``None`` for the other worlds."""
        return {
            HeldOutWorld.WIDE: Split.TRAIN,
            HeldOutWorld.WIDE_COMBINATIONS: Split.TEST_COMBINATIONS,
            HeldOutWorld.WIDE_CONCEPTS: Split.TEST_CONCEPTS,
        }.get(self)

    @property
    def max_objects(self) -> int:
        """Most objects of a stretch of time."""
        return 3 if self is HeldOutWorld.PLAIN else 5

    @property
    def night_probability(self) -> float:
        """Share of infrared scenes."""
        return 0.0 if self is HeldOutWorld.PLAIN else 0.15


# What a table of main results compares.
MAIN_WORLDS = (HeldOutWorld.PLAIN, HeldOutWorld.FULL, HeldOutWorld.WIDE)
