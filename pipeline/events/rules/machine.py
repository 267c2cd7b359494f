"""Rules as small state machines on capture time.

Every rule asks one question per track and frame: does its condition hold? An event begins (``new``)
when the answer has been yes for the rule's delay, goes on (``update``) and ends (``end``) when the
answer has been no for its release delay or the track has ended. What differs between rules is the
condition and the two delays; see the rules' modules for what each means to a user.

An object out of sight keeps its place: hiding behind a tree is neither entering nor leaving.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.events.event import Event, EventPhase
from pipeline.events.rules.appear import AppearRule
from pipeline.events.rules.catalogue import RuleConfig
from pipeline.events.rules.config import Accepts
from pipeline.events.rules.disappear import DisappearRule
from pipeline.events.rules.dwell import DwellRule
from pipeline.events.rules.enter import EnterRule
from pipeline.events.rules.leave import LeaveRule
from pipeline.events.zones import ZoneConfig, anchor_of, contains
from pipeline.tracking.states import TrackChangeKind, TrackState
from pipeline.tracking.tracks import Track, TrackUpdate

_EPSILON_S = 1e-9
_GONE_REASONS = frozenset({"expired", "tracker"})  # the object went; other ends are the engine's

Condition = Callable[[Track], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timing:
    """Delays of a rule in seconds.

    Attributes:
        hold_s: The condition must hold this long before the event begins.
        release_s: It must fail this long before the event ends.
        update_every_s: Least time between updates; 0 sends none.
    """

    hold_s: float = 0.0
    release_s: float = 0.0
    update_every_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One rule's memory of one track."""

    is_armed: bool = False
    holds_since_s: float | None = None
    fails_since_s: float | None = None
    start_s: float | None = None
    said_s: float = 0.0


class RuleMachine:
    """One rule on one stream."""

    def __init__(self, config: RuleConfig, zones: Sequence[ZoneConfig]) -> None:
        self._config = config
        self._zone = getattr(config, "zone", None)
        self._condition = _condition_of(config, zones)
        self._timing = _timing_of(config)
        self._needs_arming = isinstance(config, LeaveRule)
        self._watches: dict[str, _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def apply(self, update: TrackUpdate, *, time_s: float) -> list[Event]:
        """Return what this frame means to the rule.

        Args:
            update: The stream's tracks after the frame.
            time_s: Capture time in seconds; must not run backwards.
        """
        events: list[Event] = []
        for track in update.tracks:
            if self._is_accepted(track):
                events += self._watch(track, time_s)
        for change in update.changes:
            if change.kind is TrackChangeKind.ENDED:
                events += self._end_track(change.track, change.reason or "track_ended", time_s)
        return events

    def _is_accepted(self, track: Track) -> bool:
        if self._config.concepts and track.concept not in self._config.concepts:
            return False
        is_believed = track.state is not TrackState.TENTATIVE
        return is_believed or self._config.accepts is Accepts.TENTATIVE

    def _watch(self, track: Track, time_s: float) -> list[Event]:
        watch = self._watches.setdefault(track.uid, _Watch())
        holds = self._condition(track)
        if holds is None:
            return []
        if self._needs_arming and not watch.is_armed:
            watch.is_armed = self._is_settled(watch, holds=not holds, time_s=time_s)
            return []
        if watch.start_s is None:
            return self._maybe_begin(watch, track, holds=holds, time_s=time_s)
        return self._maybe_end(watch, track, holds=holds, time_s=time_s)

    def _is_settled(self, watch: _Watch, *, holds: bool, time_s: float) -> bool:
        """Tell whether the opposite has held long enough for the condition to mean a change."""
        if not holds:
            watch.fails_since_s = None
            return False
        if watch.fails_since_s is None:
            watch.fails_since_s = time_s
        return time_s - watch.fails_since_s >= self._timing.hold_s - _EPSILON_S

    def _maybe_begin(
        self, watch: _Watch, track: Track, *, holds: bool, time_s: float
    ) -> list[Event]:
        watch.fails_since_s = None
        if not holds:
            watch.holds_since_s = None
            return []
        if watch.holds_since_s is None:
            watch.holds_since_s = time_s
        if time_s - watch.holds_since_s < self._timing.hold_s - _EPSILON_S:
            return []
        watch.start_s = watch.holds_since_s
        return [self._say(EventPhase.NEW, watch, track, time_s)]

    def _maybe_end(self, watch: _Watch, track: Track, *, holds: bool, time_s: float) -> list[Event]:
        if holds:
            watch.fails_since_s = None
            every_s = self._timing.update_every_s
            if every_s and time_s - watch.said_s >= every_s - _EPSILON_S:
                return [self._say(EventPhase.UPDATE, watch, track, time_s)]
            return []
        if watch.fails_since_s is None:
            watch.fails_since_s = time_s
        if time_s - watch.fails_since_s < self._timing.release_s - _EPSILON_S:
            return []
        ended = self._say(EventPhase.END, watch, track, time_s, reason=self._release_reason())
        watch.start_s = watch.holds_since_s = None
        return [ended]

    def _end_track(self, track: Track, reason: str, time_s: float) -> list[Event]:
        watch = self._watches.pop(track.uid, None)
        if watch is None:
            return []
        events: list[Event] = []
        is_gone = not track.is_visible or reason in _GONE_REASONS
        if isinstance(self._config, DisappearRule) and watch.start_s is None and is_gone:
            # It is gone for good, however short the wait was.
            watch.start_s = time_s - track.unseen_s
            events.append(self._say(EventPhase.NEW, watch, track, time_s))
        if watch.start_s is not None:
            events.append(self._say(EventPhase.END, watch, track, time_s, reason=reason))
        return events

    def _release_reason(self) -> str:
        match self._config:
            case DisappearRule():
                return "seen_again"
            case LeaveRule():
                return "came_back"
            case EnterRule() | DwellRule():
                return "left_zone"
            case AppearRule():
                return "track_ended"

    def _say(
        self,
        phase: EventPhase,
        watch: _Watch,
        track: Track,
        time_s: float,
        *,
        reason: str | None = None,
    ) -> Event:
        watch.said_s = time_s
        start_s = time_s if watch.start_s is None else watch.start_s
        return Event(
            rule=self._config.name,
            kind=self._config.type,
            phase=phase,
            track=track,
            start_s=start_s,
            time_s=time_s,
            zone=self._zone,
            end_reason=reason,
            value={_VALUE_NAMES[self._config.type]: round(time_s - start_s, 6)},
        )


class RuleBook:
    """All rules of one stream. Bounded by rules times living tracks."""

    def __init__(self, rules: Sequence[RuleConfig], zones: Sequence[ZoneConfig]) -> None:
        self._machines = tuple(RuleMachine(rule, zones) for rule in rules)

    def __len__(self) -> int:
        return sum(len(machine) for machine in self._machines)

    def apply(self, update: TrackUpdate, *, time_s: float) -> tuple[Event, ...]:
        """Return the events of one frame, in the order of the rules."""
        return tuple(
            event for machine in self._machines for event in machine.apply(update, time_s=time_s)
        )


_VALUE_NAMES = {
    "appear": "present_s",
    "disappear": "absent_s",
    "enter": "dwell_s",
    "leave": "outside_s",
    "dwell": "dwell_s",
}


def _condition_of(config: RuleConfig, zones: Sequence[ZoneConfig]) -> Condition:
    match config:
        case AppearRule():
            return lambda _track: True
        case DisappearRule():
            return lambda track: not track.is_visible
        case EnterRule() | DwellRule() | LeaveRule():
            polygon = next(zone.polygon for zone in zones if zone.name == config.zone)
            wants_inside = not isinstance(config, LeaveRule)

            def is_on_side(track: Track) -> bool | None:
                if not track.is_visible:
                    return None
                return contains(polygon, anchor_of(track.bbox, config.anchor)) is wants_inside

            return is_on_side


def _timing_of(config: RuleConfig) -> _Timing:
    match config:
        case AppearRule():
            return _Timing(update_every_s=config.update_every_s)
        case DisappearRule():
            return _Timing(hold_s=config.after_s)
        case EnterRule():
            return _Timing(
                hold_s=config.settle_s,
                release_s=config.settle_s,
                update_every_s=config.update_every_s,
            )
        case LeaveRule():
            return _Timing(hold_s=config.settle_s, release_s=config.settle_s)
        case DwellRule():
            return _Timing(
                hold_s=config.dwell_s,
                release_s=config.settle_s,
                update_every_s=config.update_every_s,
            )
