"""Replay logged events over an older snapshot of their stream, so that none is raised twice.

What was logged behind the snapshot came from frames that are lost. Where frames go on exactly
behind the snapshot nothing is replayed: the same events come of them again, under the same ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from connectors.frame import CaptureClock, KafkaOrigin
from models.common.masks import Box, CropMask
from pipeline.clock import Moment, seconds_to_us
from pipeline.events.event import EventPhase
from pipeline.events.rules.catalogue import kind_of
from pipeline.events.rules.config import Accepts, BaseRuleConfig
from pipeline.events.rules.machine import (
    RULE_CHANGED,
    RuleBook,
    RuleBookState,
    RuleState,
    Watch,
)
from pipeline.events.zones import ZoneConfig
from pipeline.records.base import SourceRef
from pipeline.records.schema import EventRecord
from pipeline.records.translate import event_id_of
from pipeline.streams.clock import advanced
from pipeline.streams.result import FrameStamp
from pipeline.streams.snapshot import SessionState, StreamSnapshot
from pipeline.tracking.states import TrackState
from pipeline.tracking.track import Track
from pipeline.tracking.tracks import TRACK_END_REASONS, Life

# Ordinals are found by their event's id. A snapshot is seconds old, so the next few are enough.
_MAX_ORDINALS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedTrack:
    """A track that began behind the snapshot: its masklet has no memory.

    Attributes:
        masklet_id: Under which the tracker is to give it.
        track: As it was last told of; its mask is its box.
    """

    masklet_id: int
    track: Track


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedStream:
    """A snapshot that knows what was logged behind it.

    Attributes:
        snapshot: To go on from.
        remembered: Tracks that the tracker is to look for as well.
        ended_masklets: Masklets of the snapshot whose tracks have ended.
        orphans: Last records of open events that nothing can go on with; see :func:`end_of`.
    """

    snapshot: StreamSnapshot
    remembered: tuple[RememberedTrack, ...] = ()
    ended_masklets: tuple[int, ...] = ()
    orphans: tuple[EventRecord, ...] = ()


def replay_events(
    snapshot: StreamSnapshot,
    logged: Iterable[EventRecord],
    *,
    next_masklet_id: int,
    rules: Sequence[BaseRuleConfig] = (),
    zones: Sequence[ZoneConfig] = (),
) -> ReplayedStream:
    """Return the snapshot as it would be if it had been taken behind the last of its events.

    Each event that the log leaves open is open, with its ordinal, sequence and beginning; those
    that it ends have ended, with their tracks where those ended. No number of a track that the log
    names is given again.

    Args:
        snapshot: How the stream stood.
        logged: Its events, in order; those that the snapshot knows already change nothing.
        next_masklet_id: The tracker has given no id from here on.
        rules: As they are configured now; they go on with events of rules new since the snapshot.
        zones: The stream's zones now.
    """
    logged = tuple(logged)
    # Numbers run ahead of what was leased while snapshots fail.
    next_no = max([snapshot.next_no, *((record.track_no or 0) + 1 for record in logged)])
    snapshot = replace(snapshot, next_no=next_no)
    session = snapshot.session
    if session is None:
        return ReplayedStream(snapshot=snapshot, orphans=open_events_of(logged))
    configured = RuleBook(rules, zones).state.rules
    replay = _Replay(snapshot, session, configured, next_masklet_id)
    for record in logged:
        replay.add(record)
    return replay.finish()


def open_events_of(logged: Iterable[EventRecord]) -> tuple[EventRecord, ...]:
    """Return the last record of each event that has begun and not ended."""
    last: dict[str, EventRecord] = {}
    for record in logged:
        _note_open(last, record)
    return tuple(last.values())


def end_of(record: EventRecord, *, reason: str, now: datetime) -> EventRecord:
    """Return the end of an event that nothing goes on with, at the time it was last told of.

    Args:
        record: Its last record.
        reason: Why it ends.
        now: Wall time.
    """
    lasted_us = _measured_us(record) + seconds_to_us(record.gap_s or 0.0)
    news = {
        "phase": EventPhase.END,
        "sequence": record.sequence + 1,
        "end_time": record.start_time + timedelta(microseconds=lasted_us),
        "end_reason": reason,
        "result_time": now,
        "ce_id": None,
    }
    return record.model_copy(update=news)


class _Replay:
    """The parts of a snapshot that events change."""

    def __init__(
        self,
        snapshot: StreamSnapshot,
        session: SessionState,
        configured: Sequence[RuleState],
        next_masklet_id: int,
    ) -> None:
        self._snapshot, self._session = snapshot, session
        known = {one.config.name for one in session.rules.rules}
        new = [one for one in configured if one.config.name not in known]
        self._rules = [_WatchedRule.of(one) for one in (*session.rules.rules, *new)]
        self._former = [_WatchedRule.of(one) for one in session.rules.former]
        self._lives = dict(session.book.lives)
        self._ended: set[str] = set()
        self._orphans: dict[str, EventRecord] = {}
        self._first_new_id = self._next_id = next_masklet_id
        self._gap_us = session.now.stream_us - session.now.observed_us
        self._last: tuple[EventRecord, Moment] | None = None

    def add(self, record: EventRecord) -> None:
        """Take over the next event."""
        uid = record.track_uid
        if uid is None or record.stream_time_us < self._session.now.stream_us:
            return  # of no track, which no rule of today tells of; or the snapshot knows it
        found = self._find(record, uid)
        if found is None:
            return
        rule, ordinal = found
        watch = rule.watches.setdefault(uid, Watch(is_armed=True))
        if _is_known(watch, record, ordinal):
            return
        now = self._moment(record, watch, ordinal)
        self._last = record, now
        if record.phase == EventPhase.END:
            watch.start = watch.holds_since = None
            watch.num_events = ordinal
            self._end(uid, record.end_reason, kind_of(rule.config).release_reason)
        else:
            _open(watch, record, ordinal, now)
            self._see(record, uid, watch.start or now, now)
            if rule.config.accepts is not Accepts.TENTATIVE:
                self._confirm(uid)

    def finish(self) -> ReplayedStream:
        """Return the snapshot that knows the events so far."""
        rules = (*self._former, *self._rules)
        is_open = {uid for rule in rules for uid, one in rule.watches.items() if one.start}
        new = {life.track.uid for no, life in self._lives.items() if no >= self._first_new_id}
        # A track whose events have not all ended in the log lives on, to end them.
        over = (self._ended | new) - is_open
        lives = {no: life for no, life in self._lives.items() if life.track.uid not in over}
        living = {life.track.uid for life in lives.values() if not life.is_expired}
        for rule in rules:
            rule.watches = {uid: one for uid, one in rule.watches.items() if uid in living}
        return ReplayedStream(
            snapshot=self._advanced(lives),
            remembered=tuple(
                RememberedTrack(masklet_id=number, track=life.track)
                for number, life in lives.items()
                if number >= self._first_new_id
            ),
            ended_masklets=tuple(sorted(self._session.book.lives.keys() - lives.keys())),
            orphans=tuple(self._orphans.values()),
        )

    def _find(self, record: EventRecord, uid: str) -> "tuple[_WatchedRule, int] | None":
        """Return the rule of an event and the event's ordinal; ``None`` if there is no such rule.

        Two have the same name while events of a rule that is configured otherwise are to end.
        """
        rules = [one for one in (*self._former, *self._rules) if one.config.name == record.rule]
        if not rules:
            _note_open(self._orphans, record)
            return None
        told = [one for one in rules if uid in one.watches]
        first = max((one.watches[uid].num_events for one in told), default=1)
        for ordinal in range(max(first, 1), first + _MAX_ORDINALS):
            if event_id_of(record.stream_id, record.rule, uid, ordinal) == record.event_id:
                opened = (one for one in told if one.watches[uid].is_open(ordinal))
                return next(opened, rules[-1]), ordinal
        return None  # one of long ago

    def _moment(self, record: EventRecord, watch: Watch, ordinal: int) -> Moment:
        """Return a record's time; an open event tells how much of it was observed."""
        stream_us = record.stream_time_us
        if watch.start is not None and watch.is_open(ordinal):
            observed_us = watch.start.observed_us + _measured_us(record)
            self._gap_us = max(self._gap_us, stream_us - observed_us)
        return Moment(stream_us=stream_us, observed_us=stream_us - self._gap_us)

    def _end(self, uid: str, reason: str | None, release_reason: str) -> None:
        if reason in (release_reason, RULE_CHANGED):
            return
        self._ended.add(uid)
        if reason not in TRACK_END_REASONS:  # the session ended, and with it all tracks
            self._ended.update(life.track.uid for life in self._lives.values())

    def _see(self, record: EventRecord, uid: str, start: Moment, now: Moment) -> None:
        """Remember a track that the snapshot does not know as it was told of last."""
        number = self._number_of(uid)
        if number is None:
            number, self._next_id = self._next_id, self._next_id + 1
            track = _new_track(record, uid, self._session.shape, start, now)
            self._lives[number] = Life(track=track)
        elif number >= self._first_new_id:
            old = self._lives[number]
            news = _new_track(record, uid, self._session.shape, old.track.first_seen, now)
            best = max(old.track.best_score, news.score)
            track = replace(news, best_score=best, state=old.track.state)
            self._lives[number] = replace(old, track=track)

    def _confirm(self, uid: str) -> None:
        number = self._number_of(uid)
        if number is None or self._lives[number].is_confirmed:
            return
        life = self._lives[number]
        track = replace(life.track, state=TrackState.CONFIRMED)
        self._lives[number] = replace(life, track=track, is_confirmed=True)

    def _number_of(self, uid: str) -> int | None:
        living = (number for number, life in self._lives.items() if life.track.uid == uid)
        return next(living, None)

    def _advanced(self, lives: dict[int, Life]) -> StreamSnapshot:
        """Return the snapshot with all that has changed."""
        snapshot, session = self._snapshot, self._session
        stamp, now = session.stamp, session.now
        if self._last is not None and self._last[1].stream_us > now.stream_us:
            record, now = self._last
            stamp = _stamp_of(record, stamp)
        rules = RuleBookState(
            rules=tuple(one.state for one in self._rules),
            former=tuple(one.state for one in self._former if one.watches),
        )
        book = replace(session.book, lives=lives, last=now)
        return replace(
            snapshot,
            clock=advanced(snapshot.clock, now),
            session=replace(session, book=book, rules=rules, stamp=stamp, now=now),
            last_stamp=stamp,
        )


@dataclass(slots=True, kw_only=True)
class _WatchedRule:
    """A rule of the snapshot, with watches of its own."""

    config: BaseRuleConfig
    zone: ZoneConfig | None
    watches: dict[str, Watch]

    @classmethod
    def of(cls, state: RuleState) -> Self:
        watches = {uid: replace(watch) for uid, watch in state.watches.items()}
        return cls(config=state.config, zone=state.zone, watches=watches)

    @property
    def state(self) -> RuleState:
        return RuleState(config=self.config, zone=self.zone, watches=self.watches)


def _note_open(last: dict[str, EventRecord], record: EventRecord) -> None:
    if record.phase == EventPhase.END:
        last.pop(record.event_id, None)
    else:
        last[record.event_id] = record


def _is_known(watch: Watch, record: EventRecord, ordinal: int) -> bool:
    """Tell whether the snapshot, or a record before, says all that this one does."""
    if ordinal != watch.num_events:
        return ordinal < watch.num_events
    return watch.start is None or record.sequence < watch.num_told


def _open(watch: Watch, record: EventRecord, ordinal: int, now: Moment) -> None:
    if not watch.is_open(ordinal):
        lasted_us, gap_us = _measured_us(record), seconds_to_us(record.gap_s or 0.0)
        watch.start = Moment(
            stream_us=now.stream_us - lasted_us - gap_us, observed_us=now.observed_us - lasted_us
        )
        watch.holds_since = watch.start
        watch.started_at = record.start_time
        watch.num_events = ordinal
        watch.is_armed = True
    watch.fails_since = None
    watch.told = now
    watch.num_told = record.sequence + 1


def _measured_us(record: EventRecord) -> int:
    """Return how long an event had lasted, as far as it was observed: what its rule measures."""
    return seconds_to_us(next(iter(record.value.values()), 0.0))


def _new_track(
    record: EventRecord, uid: str, shape: tuple[int, ...], first_seen: Moment, now: Moment
) -> Track:
    """Return a track out of sight where an event told of it last."""
    bbox, score = record.bbox or (0.0, 0.0, 1.0, 1.0), record.score or 0.0
    return Track(
        uid=uid,
        no=record.track_no or 1,
        concept=record.concept or "",
        concept_id=record.concept_id or "",
        state=TrackState.TENTATIVE,
        score=score,
        best_score=score,
        presence_score=0.0,
        occlusion_score=0.0,
        bbox=bbox,
        area=0.0,
        is_visible=False,
        has_place=True,
        last_mask=_filled(bbox, shape),
        first_seen=first_seen,
        last_seen=now,
        now=now,
        visible_us=now.observed_us - first_seen.observed_us,
    )


def _filled(bbox: Box, shape: tuple[int, ...]) -> CropMask:
    """Return the pixels of a box, at least one."""
    height, width = shape[:2]
    x0 = min(max(round(bbox[0] * width), 0), width - 1)
    y0 = min(max(round(bbox[1] * height), 0), height - 1)
    x1 = min(max(round((bbox[0] + bbox[2]) * width), x0 + 1), width)
    y1 = min(max(round((bbox[1] + bbox[3]) * height), y0 + 1), height)
    bits = np.ones((y1 - y0, x1 - x0), np.bool_)
    return CropMask(size_hw=(height, width), x0=x0, y0=y0, bits=bits)


def _stamp_of(record: EventRecord, before: FrameStamp) -> FrameStamp:
    clock = record.capture_clock
    return FrameStamp(
        stream_id=record.stream_id,
        stream_epoch=record.stream_epoch,
        frame_seq=record.frame_seq,
        captured_at=record.capture_time,
        capture_clock=clock if isinstance(clock, CaptureClock) else before.capture_clock,
        capture_uncertainty_s=record.capture_uncertainty_s,
        pts_us=record.pts_us,
        stream_time_us=record.stream_time_us,
        origin=_origin_of(record.source_ref),
    )


def _origin_of(ref: SourceRef | None) -> KafkaOrigin | None:
    if ref is None or ref.topic is None:
        return None
    return KafkaOrigin(topic=ref.topic, partition=ref.partition or 0, offset=ref.offset or 0)
