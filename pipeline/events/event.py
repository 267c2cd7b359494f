"""An immutable fact about a track and a rule."""

from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.tracking.tracks import Track


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
        start_s: Capture time at which the event began, in seconds.
        time_s: Capture time of this phase, in seconds.
        zone: The rule's zone, if it has one.
        end_reason: Why it ended; only for the phase ``end``.
        value: What the rule measured.
    """

    rule: str
    kind: str
    phase: EventPhase
    track: Track
    start_s: float
    time_s: float
    zone: str | None = None
    end_reason: str | None = None
    value: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def caption(self) -> str:
        """One line for people: ``enter gate: deer #3``, with ``(ended)`` at the end."""
        place = f" {self.zone}" if self.zone else ""
        ended = " (ended)" if self.phase is EventPhase.END else ""
        return f"{self.kind}{place}: {self.track.concept} #{self.track.no}{ended}"
