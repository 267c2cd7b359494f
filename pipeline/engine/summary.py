"""What a run led to, for people and for exit codes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.clock import Clock
from pipeline.config.run import ANY_STREAM
from pipeline.engine.lane import Lane, LaneTotals
from pipeline.records.schema import FrameCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """One stream, or all streams that one source named (``*``).

    Attributes:
        counts: Where its frames went.
        num_tracks: Tracks that were confirmed.
        num_started: Tracks that were begun, the unconfirmed ones included.
        concepts: Confirmed tracks by concept.
        events: Events by rule.
        error: Why it failed, if it did.
    """

    stream_id: str
    counts: FrameCounts
    num_tracks: int = 0
    num_started: int = 0
    concepts: dict[str, int] = field(default_factory=dict[str, int])
    events: dict[str, int] = field(default_factory=dict[str, int])
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A whole run.

    Attributes:
        wall_s: Seconds since it began.
        streams: By id.
        sink_errors: Sinks that were given up, and why.
    """

    wall_s: float
    streams: tuple[StreamSummary, ...]
    sink_errors: dict[str, str]

    @property
    def is_good(self) -> bool:
        """Whether no stream and no sink has failed."""
        return not self.sink_errors and all(stream.error is None for stream in self.streams)

    @property
    def num_processed(self) -> int:
        """Frames that the model has seen."""
        return sum(stream.counts.processed for stream in self.streams)

    @property
    def fps(self) -> float:
        """Processed frames per second of wall time."""
        return self.num_processed / self.wall_s if self.wall_s > 0 else 0.0


class SummaryBook:
    """Keeps the totals of streams that are gone. Bounded by the configured streams."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._retired: dict[str, StreamSummary] = {}

    def retire(self, lane: Lane) -> None:
        """Take over the totals of a stream that has ended."""
        summary = _summary_of(lane)
        self._retired[summary.stream_id] = _merge(self._retired.get(summary.stream_id), summary)

    def draw_up(
        self,
        lanes: Sequence[Lane],
        *,
        strays: Mapping[str, FrameCounts],
        source_errors: Mapping[str, str],
        sink_errors: Mapping[str, str],
    ) -> RunSummary:
        """Return the summary of all streams, living and gone."""
        streams = dict(self._retired)
        extra = [_summary_of(lane) for lane in lanes]
        extra += [StreamSummary(stream_id=name, counts=counts) for name, counts in strays.items()]
        extra += [
            StreamSummary(stream_id=name, counts=FrameCounts(), error=error)
            for name, error in source_errors.items()
        ]
        for summary in extra:
            streams[summary.stream_id] = _merge(streams.get(summary.stream_id), summary)
        return RunSummary(
            wall_s=self._clock.monotonic_s() - self._began_s,
            streams=tuple(streams[name] for name in sorted(streams)),
            sink_errors=dict(sink_errors),
        )


def _summary_of(lane: Lane) -> StreamSummary:
    totals: LaneTotals = lane.totals
    return StreamSummary(
        stream_id=lane.config.id if lane.config.id == ANY_STREAM else lane.stream_id,
        counts=lane.ledger.counts(),
        num_tracks=totals.num_confirmed,
        num_started=totals.num_started,
        concepts=dict(totals.concepts),
        events={rule: num for rule, num in totals.events.items() if num},
        error=None if lane.error is None else str(lane.error),
    )


def _merge(a: StreamSummary | None, b: StreamSummary) -> StreamSummary:
    if a is None:
        return b
    return StreamSummary(
        stream_id=b.stream_id,
        counts=FrameCounts(
            received=a.counts.received + b.counts.received,
            processed=a.counts.processed + b.counts.processed,
            gated=a.counts.gated + b.counts.gated,
            dropped=_add(a.counts.dropped, b.counts.dropped),
        ),
        num_tracks=a.num_tracks + b.num_tracks,
        num_started=a.num_started + b.num_started,
        concepts=_add(a.concepts, b.concepts),
        events=_add(a.events, b.events),
        error=b.error or a.error,
    )


def _add(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(a) + Counter(b))
