"""What is wrong with a data set, by file and item, and refused or left out."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.errors import ConfigError

_MOST_SHOWN = 20


class OnBad(StrEnum):
    """What happens to data that cannot be used."""

    FAIL = "fail"
    SKIP = "skip"


@dataclass(slots=True, kw_only=True)
class Problems:
    """Collects what is wrong.

    Attributes:
        on_bad: Whether :meth:`settle` refuses.
        lines: One line each: file, item, what is wrong.
    """

    on_bad: OnBad
    lines: list[str] = field(default_factory=list[str])

    def add(self, path: Path | str, item: str, reason: str) -> None:
        """Note something wrong with an item of a file; the caller leaves the item out."""
        self.lines.append(f"{path}: {item}: {reason}")

    def settle(self) -> None:
        """Refuse what was added, unless it is to be skipped.

        Raises:
            ConfigError: With the first problems and how many there are.
        """
        if self.lines and self.on_bad == OnBad.FAIL:
            rest = len(self.lines) - _MOST_SHOWN
            more = [f"and {rest} more problems"] if rest > 0 else []
            raise ConfigError([*self.lines[:_MOST_SHOWN], *more])
