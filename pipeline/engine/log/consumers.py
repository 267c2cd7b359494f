"""Who reads the log, and what it tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.engine.log.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One who reads records: a sink of records, or the keeper of state.

    Attributes:
        name: Name of its cursor.
        uses_log: Records wait for it on disk; otherwise only in memory.
        is_durable: A record is safe once it has it, not before.
        kinds: What it reads; all others are nothing to it.
        goes_first: No other consumer sees an alert before it is on disk for this one.
        misses_nothing: Memory exceeds its bound rather than that it loses a record.
    """

    name: str
    uses_log: bool
    is_durable: bool = True
    kinds: frozenset[Kind] = field(default=frozenset(Kind))
    goes_first: bool = False
    misses_nothing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """What a consumer has not confirmed.

    Attributes:
        num_records: How many records.
        num_bytes: Their size; on disk to within 64 kB for each kind.
        oldest_age_s: How long ago the oldest was appended, on disk up to 10 s too much; 0 without
            any.
    """

    num_records: int
    num_bytes: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Records that do not arrive.

    Attributes:
        shed: For want of room, by consumer and kind.
        corrupt: Damaged on disk, by kind.
    """

    shed: Mapping[tuple[str, Kind], int]
    corrupt: Mapping[Kind, int]
