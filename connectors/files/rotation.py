"""When a file is full, how it is named then, and in which order such files are read.

``masklets.jsonl`` becomes ``masklets-20261129T014500Z.jsonl``, by the UTC of the rotation; if that
name is taken, ``masklets-20261129T014500Z_002.jsonl``.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMPED = re.compile(r"(?P<kind>.+)-(?P<stamp>\d{8}T\d{6}Z)(?:_(?P<number>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a file is full; ``None`` or 0: never.

    Attributes:
        num_bytes: Its largest size.
        period_s: It holds what is written between two multiples of this, in UTC. So a file keeps
            its period over restarts, and one of a day ends at midnight.
    """

    num_bytes: int | None
    period_s: float | None

    def is_due(self, *, size: int, added: int, written_s: float, now_s: float) -> bool:
        """Return whether a file is to be rotated before more is added to it.

        Args:
            size: Bytes that are in it.
            added: Bytes that are to be added.
            written_s: When it was last written to, in seconds since the epoch.
            now_s: The present time, likewise.
        """
        if size == 0:
            return False
        if self.num_bytes and size + added > self.num_bytes:
            return True
        return bool(self.period_s) and self._period(written_s) != self._period(now_s)

    def _period(self, time_s: float) -> int:
        return int(time_s // self.period_s) if self.period_s else 0


def stamped_path(
    path: Path, now_s: float, *, is_taken: Callable[[Path], bool] = os.path.lexists
) -> Path:
    """Return a free name for a file that holds a time.

    Args:
        path: Its name without.
        now_s: The time, in seconds since the epoch.
        is_taken: Whether a name is not free.
    """
    stamp = datetime.fromtimestamp(now_s, tz=UTC).strftime(_STAMP)
    stamped = path.with_name(f"{path.stem}-{stamp}{path.suffix}")
    number = 1
    while is_taken(stamped):
        number += 1
        stamped = path.with_name(f"{path.stem}-{stamp}_{number:03d}{path.suffix}")
    return stamped


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Return files by kind, those of one kind as they were written: the present one is last."""
    return sorted(paths, key=_order_of)


def kind_of(path: Path) -> str:
    """Return the name of a file before its rotation, without its ending: ``masklets``."""
    return _order_of(path)[0]


def _order_of(path: Path) -> tuple[str, bool, str, int, str]:
    found = _STAMPED.fullmatch(path.stem)
    if found is None:
        return path.stem, True, "", 0, path.name
    return found["kind"], False, found["stamp"], int(found["number"] or 1), path.name
