"""What a study is: settings that are compared, measured on the same held-out seeds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections.model import ModelConfig
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.progress import OnTotal, no_progress


class Unit(StrEnum):
    """What a measure counts in, and how it is shown."""

    PERCENT = "%"
    MILLISECONDS = "ms"
    NUMBER = ""

    @property
    def scale(self) -> float:
        """Shown value of 1."""
        return 100.0 if self is Unit.PERCENT else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number.

    Attributes:
        name: What was measured, such as ``cgF1``.
        value: A share in [0, 1] if the unit is percent, else in the unit; ``None`` where nothing
            could be measured.
        count: How many things it is about: questions, objects or frames.
        unit: See :class:`Unit`.
    """

    name: str
    value: float | None
    count: int
    unit: Unit = Unit.PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one setting gives on one held-out set.

    Attributes:
        setting: One of the study's settings.
        seed: Chooses the held-out set.
        measures: All measures, in the order of the table's columns.
    """

    setting: str
    seed: int
    measures: tuple[Measure, ...]

    def measure(self, name: str) -> Measure | None:
        """Return the measure of that name; ``None`` if this setting has none."""
        return next((measure for measure in self.measures if measure.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the step from one setting to another does to a measure.

    Attributes:
        measure: Name of the measure.
        baseline: Setting before.
        setting: Setting after.
        difference: Mean of after minus before, in the measure's own scale.
        low: Lower end of the 95 % interval; ``None`` where there is too little to say.
        high: Its upper end.
        p_value: Chance of at least such a difference if there were none, two-sided; likewise.
        method: How interval and p were had, such as "paired t-test over 3 seeds".
        unit: The measure's.
    """

    measure: str
    baseline: str
    setting: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    method: str
    unit: Unit = Unit.PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What a study found.

    Attributes:
        name: Name of the study; also of its files.
        title: One line over table and plot.
        settings: All settings in the order in which they are shown.
        x_label: What the settings are, on the plot's axis.
        points: One per setting and seed.
        plotted: Measures that the plot shows, all of one unit.
        is_ordered: Whether the settings are steps of one scale, drawn as a line and not as bars.
        comparisons: What differs from what, and how surely.
        note: How it was measured, for the reader of the table.
        sheet: RGB picture (H, W, 3), uint8, in place of a plot.
    """

    name: str
    title: str
    settings: tuple[str, ...]
    x_label: str
    points: tuple[Point, ...]
    plotted: tuple[str, ...] = ()
    is_ordered: bool = False
    comparisons: tuple[Comparison, ...] = ()
    note: str = ""
    sheet: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        unknown = sorted({point.setting for point in self.points} - set(self.settings))
        if unknown:
            raise ValueError(
                f"points of {self.name!r} have settings {unknown!r}; accepted: {self.settings!r}"
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, sorted."""
        return tuple(sorted({point.seed for point in self.points}))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The first measure of each name, in the order in which the points bring them."""
        found: dict[str, Measure] = {}
        for point in self.points:
            for measure in point.measures:
                found.setdefault(measure.name, measure)
        return tuple(found.values())

    def values(self, setting: str, name: str) -> dict[int, float]:
        """Return a measure of a setting by seed, where it has a value."""
        found = {
            point.seed: measure.value
            for point in self.points
            if point.setting == setting and (measure := point.measure(name)) is not None
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def count(self, setting: str, name: str) -> int:
        """Return how many things a measure of a setting is about, over all seeds."""
        found = [point.measure(name) for point in self.points if point.setting == setting]
        return sum(measure.count for measure in found if measure is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """What a study measures, and on what.

    Attributes:
        model: Which model.
        seeds: Held-out sets; each setting is measured on all of them.
        samples: Pictures or clips per seed; the study's own number if ``None``.
        world: Which world; the study's own if ``None``. Studies that compare worlds take no other.
        on_total: Told of the number of steps, returns what is to be called after each.
    """

    model: ModelConfig
    seeds: tuple[int, ...] = (0, 1, 2)
    samples: int | None = None
    world: HeldOutWorld | None = None
    on_total: OnTotal = no_progress

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds!r}; accepted: different ones, each from 0")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples {self.samples!r}; accepted: from 1")


class Study(Protocol):
    """Runs a study."""

    def __call__(self, context: StudyContext, /) -> StudyResult:
        """Measure all settings on all seeds."""
        ...
