"""An immutable fact about a track and a rule."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pipeline.clock import Moment
from pipeline.tracking.track import Track


class EventPhase(StrEnum):
    """A rule event's life: one ``new``, any number of ``update``, at most one ``end``."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One phase of one event.

    Attributes:
        rule: Name of the rule.
        kind: Its type.
        phase: New, update or end.
        track: The track as it stood then.
        ordinal: Number of the event among those of its rule and track, from 1.
        sequence: Number of this phase among those of the event, from 0.
        start: When it began.
        now: When it reached this phase.
        started_at: Wall time of ``start``, the same in all phases.
        ended_at: Wall time of ``now``; only for the phase ``end``.
        zone: The rule's zone, if it has one.
        end_reason: Why it ended; only for the phase ``end``.
        value: What the rule measured.
    """

    rule: str
    kind: str
    phase: EventPhase
    track: Track
    ordinal: int
    sequence: int
    start: Moment
    now: Moment
    started_at: datetime
    ended_at: datetime | None = None
    zone: str | None = None
    end_reason: str | None = None
    value: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def gap_us(self) -> int:
        """How much of the time since it began was not observed."""
        return self.now.gap_us_since(self.start)

    @property
    def caption(self) -> str:
        """One line for people: ``enter gate: deer #3``, with ``(ended)`` at the end."""
        place = f" {self.zone}" if self.zone else ""
        ended = " (ended)" if self.phase is EventPhase.END else ""
        return f"{self.kind}{place}: {self.track.concept} #{self.track.no}{ended}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEvent:
    """An event that has begun and not ended: what its id is made of."""

    rule: str
    track_uid: str
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFailure:
    """A rule that raised on a track of a frame; its memory and all other rules go on unharmed."""

    rule: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUpdate:
    """What one frame, or the end of a session, meant to all rules of a stream.

    Attributes:
        events: In the order of the rules.
        failures: At most one per rule.
    """

    events: tuple[Event, ...]
    failures: tuple[RuleFailure, ...] = ()
