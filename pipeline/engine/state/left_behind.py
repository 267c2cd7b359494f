"""Ends what streams left open that are configured no more.

Of live streams alone. One from Kafka may belong to another worker by now, or come back with its
partition: what is kept of it stays as it is.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.engine.state.snapshot_file import StoredSnapshot
from pipeline.engine.state.snapshot_store import SnapshotStore
from pipeline.errors import SnapshotError
from pipeline.records.replay import end_of, open_events_of, replay_events
from pipeline.records.schema import EventRecord
from pipeline.streams.result import FrameResult
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig

_logger = logging.getLogger("maskstream.state")

_REMOVED = "stream_removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBehind:
    """A stream that nothing goes on with.

    Attributes:
        ended: Ends of its tracks and events; ``None``: its snapshot held none.
        orphans: Ends of events that are in the log alone.
    """

    stream_id: str
    ended: FrameResult | None = None
    orphans: tuple[EventRecord, ...] = ()


def end_left_behind(
    store: SnapshotStore,
    logged: Mapping[str, Sequence[EventRecord]],
    *,
    claimed: Collection[str],
    now: datetime,
) -> list[LeftBehind]:
    """Return what is to be published of streams that nobody claims, before they are forgotten.

    Args:
        store: Where snapshots are kept.
        logged: By stream, events that no snapshot holds, in order; without those of claimed ones.
        claimed: Streams that go on.
        now: Wall time.
    """
    if store.is_shared:
        return []
    found: dict[str, LeftBehind] = {}
    for stored in store.load_others(claimed):
        stream_id = stored.about.stream_id
        try:
            if stored.stream.clock.timeline.is_live:
                found[stream_id] = _end(stored, logged.get(stream_id, ()), now)
        except SnapshotError as error:
            _logger.warning("%s; it is left alone", error, extra=_about(stream_id))
        except Exception:  # a bug must not keep the others from running
            _logger.exception("cannot be ended; it is left alone", extra=_about(stream_id))
    for stream_id, events in logged.items():
        # Frames of a source that keeps its position say where they came from.
        is_live = all(event.source_ref is None for event in events)
        if is_live and stream_id not in found:
            orphans = _ends_of(open_events_of(events), now)
            found[stream_id] = LeftBehind(stream_id=stream_id, orphans=orphans)
    return list(found.values())


def _end(stored: StoredSnapshot, logged: Sequence[EventRecord], now: datetime) -> LeftBehind:
    """End a session by the rules that it had."""
    about, snapshot = stored.about, stored.stream
    rules = () if snapshot.session is None else snapshot.session.rules.rules
    replayed = replay_events(snapshot, logged, next_masklet_id=about.next_masklet_id)
    stream = Stream(
        about.stream_id,
        deployment="",  # names new tracks alone
        model=about.model,
        tracking=TrackingConfig(),
        is_live=True,
        zones=list({one.zone.name: one.zone for one in rules if one.zone is not None}.values()),
        rules=[one.config for one in rules],
    )
    stream.restore(replayed.snapshot, first_no=about.next_no)
    ended = stream.end_session(_REMOVED, now=now)
    extra = _about(about.stream_id)
    _logger.warning("is configured no more: its tracks and events end", extra=extra)
    return LeftBehind(
        stream_id=about.stream_id, ended=ended, orphans=_ends_of(replayed.orphans, now)
    )


def _ends_of(orphans: Sequence[EventRecord], now: datetime) -> tuple[EventRecord, ...]:
    return tuple(end_of(record, reason=_REMOVED, now=now) for record in orphans)


def _about(stream_id: str) -> dict[str, str]:
    return {"stream": stream_id}
