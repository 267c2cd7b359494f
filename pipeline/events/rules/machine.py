"""The machine behind every rule: answers in, events out.

Every rule asks one question per track and frame: does its condition hold? An event begins (``new``)
when the answer has been yes for the rule's delay, goes on (``update``) and ends (``end``) when the
answer has been no for its release delay or the track has ended. Delays and durations count observed
time; what differs between rules is said by their modules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from pipeline.clock import Moment
from pipeline.events.event import Event, EventPhase, OpenEvent, RuleFailure, RuleUpdate
from pipeline.events.rules.catalogue import StoredRule, kind_of
from pipeline.events.rules.config import Accepts, BaseRuleConfig, ZoneRuleConfig
from pipeline.events.zones import ZoneConfig, find_zone
from pipeline.tracking.states import TrackChangeKind, TrackState
from pipeline.tracking.track import Track, TrackChange, TrackUpdate

_Item = TypeVar("_Item", Track, TrackChange)
RULE_CHANGED = "rule_changed"


@dataclass(slots=True, kw_only=True)
class Watch:
    """One rule's memory of one track.

    Attributes:
        is_armed: The opposite of the condition has held long enough.
        holds_since: First of the frames in a row on which the condition held.
        fails_since: First of the frames in a row on which it failed.
        start: When the open event began; ``None`` if none is open.
        started_at: Its wall time.
        told: When its last phase was told.
        num_events: Events so far, the open one included.
        num_told: Phases of the open event that were told.
    """

    is_armed: bool
    holds_since: Moment | None = None
    fails_since: Moment | None = None
    start: Moment | None = None
    started_at: datetime | None = None
    told: Moment | None = None
    num_events: int = 0
    num_told: int = 0

    def is_open(self, ordinal: int) -> bool:
        """Tell whether that event has begun and not ended."""
        return self.start is not None and self.num_events == ordinal


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleState:
    """What a :class:`RuleMachine` knows.

    Attributes:
        config: Its configuration.
        zone: The rule's zone, if it has one.
        watches: By uid of the track.
    """

    config: StoredRule
    zone: ZoneConfig | None = None
    watches: Mapping[str, Watch] = field(default_factory=dict[str, Watch])


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBookState:
    """What a :class:`RuleBook` knows.

    Attributes:
        rules: As they are configured.
        former: As they were configured before, with what they know of tracks that live on.
    """

    rules: tuple[RuleState, ...] = ()
    former: tuple[RuleState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTime:
    """A frame's time, and how stream time becomes wall time."""

    now: Moment
    utc_of: Callable[[int], datetime]


class RuleMachine:
    """One rule on one stream.

    Args:
        config: Its configuration.
        zones: The stream's zones.
        watches: What another one of the same configuration knew, to go on from.
        is_former: The rule is no longer configured like this: open events end, none begins.
    """

    def __init__(
        self,
        config: BaseRuleConfig,
        zones: Sequence[ZoneConfig],
        watches: Mapping[str, Watch] | None = None,
        *,
        is_former: bool = False,
    ) -> None:
        kind = kind_of(config)
        self._config = config
        self._kind = kind
        self._zone = _zone_of(config, zones)
        self._condition = kind.condition(config, zones)
        self._timing = kind.timing(config)
        self._is_former = is_former
        self._watches = _copy(watches or {})

    @property
    def state(self) -> RuleState:
        """A copy of what it knows, from which another one goes on."""
        return RuleState(config=self._config, zone=self._zone, watches=_copy(self._watches))

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def open_events(self) -> list[OpenEvent]:
        """Events that have begun and not ended."""
        return [
            OpenEvent(rule=self._config.name, track_uid=uid, ordinal=watch.num_events)
            for uid, watch in self._watches.items()
            if watch.start is not None
        ]

    def apply(self, update: TrackUpdate, time: RuleTime) -> tuple[list[Event], RuleFailure | None]:
        """Return what this frame means to the rule, and whether it raised on one of the tracks."""
        events: list[Event] = []
        errors: list[Exception] = []
        turn = self._end_changed if self._is_former else self._watch
        for track in update.tracks:
            events += self._attempt(turn, track, time, errors)
        for change in update.changes:
            events += self._attempt(self._end_track, change, time, errors)
        failure = RuleFailure(rule=self._config.name, error=errors[0]) if errors else None
        return events, failure

    @staticmethod
    def _attempt(
        turn: Callable[[_Item, RuleTime], list[Event]],
        item: _Item,
        time: RuleTime,
        errors: list[Exception],
    ) -> list[Event]:
        """Return the events of one track; if its turn raises, none, and the error in ``errors``."""
        try:
            return turn(item, time)
        except Exception as error:  # noqa: BLE001  handed on in the result
            errors.append(error)
            return []

    def number_behind(self, former: RuleState) -> None:
        """Give no event an ordinal that a rule of the same name has given before."""
        if former.config.name != self._config.name:
            return
        for uid, watch in former.watches.items():
            mine = self._watches.setdefault(uid, self._new_watch())
            mine.num_events = max(mine.num_events, watch.num_events)

    def _new_watch(self) -> Watch:
        return Watch(is_armed=not self._kind.needs_opposite)

    def _end_changed(self, track: Track, time: RuleTime) -> list[Event]:
        watch = self._watches.get(track.uid)
        if watch is None or watch.start is None:
            return []
        ended = self._tell(EventPhase.END, watch, track, time, reason=RULE_CHANGED)
        watch.start = watch.holds_since = None
        return [ended]

    def _is_accepted(self, track: Track) -> bool:
        if self._config.concepts and track.concept_id not in self._config.concepts:
            return False
        is_believed = track.state is not TrackState.TENTATIVE
        return is_believed or self._config.accepts is Accepts.TENTATIVE

    def _watch(self, track: Track, time: RuleTime) -> list[Event]:
        """Ask the rule's question; one that raises leaves the track's watch as it was."""
        if not self._is_accepted(track):
            return []
        watch = self._watches.get(track.uid)
        if watch is None:
            watch = self._watches[track.uid] = self._new_watch()
        holds = self._condition(track)
        if holds is None:
            return []
        if not watch.is_armed:
            watch.is_armed = self._has_failed_for(
                watch, self._timing.hold_us, holds=holds, now=time.now
            )
            return []
        if watch.start is None:
            return self._maybe_begin(watch, track, time, holds=holds)
        return self._maybe_end(watch, track, time, holds=holds)

    @staticmethod
    def _has_failed_for(watch: Watch, delay_us: int, *, holds: bool, now: Moment) -> bool:
        if holds:
            watch.fails_since = None
            return False
        watch.fails_since = watch.fails_since or now
        return now.observed_us - watch.fails_since.observed_us >= delay_us

    def _maybe_begin(
        self, watch: Watch, track: Track, time: RuleTime, *, holds: bool
    ) -> list[Event]:
        watch.fails_since = None
        if not holds:
            watch.holds_since = None
            return []
        watch.holds_since = watch.holds_since or time.now
        if time.now.observed_us - watch.holds_since.observed_us < self._timing.hold_us:
            return []
        return [self._begin(watch, track, time, start=watch.holds_since)]

    def _maybe_end(self, watch: Watch, track: Track, time: RuleTime, *, holds: bool) -> list[Event]:
        now = time.now
        if self._has_failed_for(watch, self._timing.release_us, holds=holds, now=now):
            reason = self._kind.release_reason
            ended = self._tell(EventPhase.END, watch, track, time, reason=reason)
            watch.start = watch.holds_since = None
            return [ended]
        every_us = self._timing.update_every_us
        is_due = watch.told is None or now.observed_us - watch.told.observed_us >= every_us
        if holds and every_us and is_due:
            return [self._tell(EventPhase.UPDATE, watch, track, time)]
        return []

    def _end_track(self, change: TrackChange, time: RuleTime) -> list[Event]:
        if change.kind is not TrackChangeKind.ENDED:
            return []
        track = change.track
        reason = RULE_CHANGED if self._is_former else change.reason or "track_ended"
        watch = self._watches.pop(track.uid, None)
        if watch is None:
            return []
        events: list[Event] = []
        if watch.start is None:
            start = self._kind.begins_when_ended(track, reason)
            if start is None or self._is_former:
                return []
            events.append(self._begin(watch, track, time, start=start))
        return [*events, self._tell(EventPhase.END, watch, track, time, reason=reason)]

    def _begin(self, watch: Watch, track: Track, time: RuleTime, *, start: Moment) -> Event:
        watch.start = start
        watch.started_at = time.utc_of(start.stream_us)
        watch.num_events += 1
        watch.num_told = 0
        return self._tell(EventPhase.NEW, watch, track, time)

    def _tell(
        self,
        phase: EventPhase,
        watch: Watch,
        track: Track,
        time: RuleTime,
        *,
        reason: str | None = None,
    ) -> Event:
        now = watch.told = time.now
        sequence, watch.num_told = watch.num_told, watch.num_told + 1
        start = watch.start or now
        started_at = watch.started_at or time.utc_of(start.stream_us)
        # The clock that times come from may have been set back since the event began.
        ended_at = max(time.utc_of(now.stream_us), started_at)
        return Event(
            rule=self._config.name,
            kind=self._kind.name,
            phase=phase,
            track=track,
            ordinal=watch.num_events,
            sequence=sequence,
            start=start,
            now=now,
            started_at=started_at,
            ended_at=ended_at if phase is EventPhase.END else None,
            zone=self._zone.name if self._zone else None,
            end_reason=reason,
            value={self._kind.value_name: (now.observed_us - start.observed_us) / 1_000_000},
        )


class RuleBook:
    """All rules of one stream. Bounded by rules, configured or before, times living tracks.

    Args:
        rules: Their configuration.
        zones: The stream's zones.
        state: What another one knew of the same tracks, to go on from. Of a rule that is configured
            otherwise now, or not at all, open events end with the next update.
    """

    def __init__(
        self,
        rules: Sequence[BaseRuleConfig],
        zones: Sequence[ZoneConfig],
        state: RuleBookState | None = None,
    ) -> None:
        state = state or RuleBookState()
        configured = [(rule, _zone_of(rule, zones)) for rule in rules]
        kept = {
            one.config.name: one.watches
            for one in state.rules
            if (one.config, one.zone) in configured
        }
        former = _condense(
            [*state.former, *(one for one in state.rules if one.config.name not in kept)]
        )
        self._machines = tuple(
            RuleMachine(rule, zones, kept.get(rule.name)) for rule, _ in configured
        )
        self._former = tuple(_former_machine(one) for one in former)
        for machine in self._machines:
            for one in former:
                machine.number_behind(one)

    @property
    def state(self) -> RuleBookState:
        """A copy of what it knows, from which another one goes on."""
        return RuleBookState(
            rules=tuple(machine.state for machine in self._machines),
            former=tuple(machine.state for machine in self._former),
        )

    def __len__(self) -> int:
        return sum(len(machine) for machine in self._all)

    @property
    def open_events(self) -> tuple[OpenEvent, ...]:
        """Events of all rules that have begun and not ended."""
        return tuple(event for machine in self._all for event in machine.open_events)

    def apply(
        self, update: TrackUpdate, *, now: Moment, utc_of: Callable[[int], datetime]
    ) -> RuleUpdate:
        """Return what one frame means to all rules.

        Args:
            update: The stream's tracks after the frame.
            now: The frame's time; must not run backwards.
            utc_of: Turns stream time into wall time.
        """
        time = RuleTime(now=now, utc_of=utc_of)
        events: list[Event] = []
        failures: list[RuleFailure] = []
        for machine in self._all:
            found, failure = machine.apply(update, time)
            events += found
            if failure is not None:
                failures.append(failure)
        self._former = tuple(machine for machine in self._former if len(machine))
        return RuleUpdate(events=tuple(events), failures=tuple(failures))

    @property
    def _all(self) -> tuple[RuleMachine, ...]:
        return *self._former, *self._machines


def _zone_of(config: BaseRuleConfig, zones: Sequence[ZoneConfig]) -> ZoneConfig | None:
    return find_zone(config.zone, zones) if isinstance(config, ZoneRuleConfig) else None


def _condense(former: Sequence[RuleState]) -> list[RuleState]:
    """Return rules of before with what is asked of them: open events, and numbers given.

    However often the rules of a stream change, they are one entry a name, beside those of which
    events are to end.
    """
    numbers: dict[str, RuleState] = {}
    kept: list[RuleState] = []
    for one in former:
        open_, given = dict[str, Watch](), dict[str, Watch]()
        for uid, watch in one.watches.items():
            if watch.start is not None:
                open_[uid] = watch
            elif watch.num_events:
                given[uid] = watch
        if open_:
            kept.append(replace(one, watches=open_))
        before = numbers.get(one.config.name, RuleState(config=one.config))
        for uid, watch in before.watches.items():
            if uid not in given or given[uid].num_events < watch.num_events:
                given[uid] = watch
        if given:
            numbers[one.config.name] = replace(one, watches=given)
    return [*kept, *numbers.values()]


def _former_machine(state: RuleState) -> RuleMachine:
    zones = () if state.zone is None else (state.zone,)
    return RuleMachine(state.config, zones, state.watches, is_former=True)


def _copy(watches: Mapping[str, Watch]) -> dict[str, Watch]:
    return {uid: replace(watch) for uid, watch in watches.items()}
