"""What a run led to, for people and for exit codes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.clock import Clock
from pipeline.engine.ledger import DropCause
from pipeline.errors import ExitCode, choose_exit_code
from pipeline.events.event import EventPhase
from pipeline.records.schema import FrameCounts
from pipeline.streams.result import FrameResult
from pipeline.tracking.states import TrackChangeKind

_MAX_BAD_FILES = 20  # named per stream; all are counted
_REFUSED = (DropCause.BAD_FRAME, DropCause.BAD_FILE)


@dataclass(slots=True, kw_only=True)
class StreamTotals:
    """What a stream led to so far."""

    num_started: int = 0
    num_confirmed: int = 0
    events: Counter[str] = field(default_factory=Counter[str])
    concepts: Counter[str] = field(default_factory=Counter[str])

    def add(self, result: FrameResult) -> None:
        """Count what a result holds: tracks by concept, new events by rule."""
        for change in result.changes:
            self.num_started += change.kind is TrackChangeKind.STARTED
            if change.kind is TrackChangeKind.CONFIRMED:
                self.num_confirmed += 1
                self.concepts[change.track.concept] += 1
        for event in result.events:
            self.events[event.rule] += event.phase is EventPhase.NEW


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
        bad_files: The first files that could not be read, and why.
    """

    stream_id: str
    counts: FrameCounts = field(default_factory=FrameCounts)
    num_tracks: int = 0
    num_started: int = 0
    concepts: dict[str, int] = field(default_factory=dict[str, int])
    events: dict[str, int] = field(default_factory=dict[str, int])
    error: str | None = None
    bad_files: tuple[str, ...] = ()

    @property
    def gave_nothing(self) -> bool:
        """Whether not one frame could be read, though something was tried."""
        num_refused = sum(self.counts.dropped.get(cause, 0) for cause in _REFUSED)
        is_tried = self.error is not None or num_refused > 0
        return is_tried and self.counts.received == num_refused

    @property
    def num_failed(self) -> int:
        """Files and frames that could not be read, and 1 for the stream itself if it failed."""
        num_refused = sum(self.counts.dropped.get(cause, 0) for cause in _REFUSED)
        return num_refused + (self.error is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A whole run.

    Attributes:
        wall_s: Seconds since it began.
        streams: By id.
        sink_errors: Sinks that did not get everything, and why.
        num_kept: Records that the log keeps for the next run, by those of them that lost nothing.
        failed_sinks: Those of them that have lost what had to arrive, or that are best effort and
            leave nothing of use.
        unfinished: Sources and sinks that did not end in time when they were asked to.
        device_error: Why the accelerator is gone, if it is.
        unkept: Streams whose last state is not on disk, and why.
    """

    wall_s: float
    streams: tuple[StreamSummary, ...]
    sink_errors: dict[str, str]
    num_kept: dict[str, int] = field(default_factory=dict[str, int])
    failed_sinks: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    device_error: str | None = None
    unkept: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def num_failed(self) -> int:
        """Streams, files, frames, sinks, states and the device if they failed or were left."""
        num_failed = sum(stream.num_failed for stream in self.streams)
        num_failed += len(self.unkept) + (self.device_error is not None)
        return num_failed + len(self.sink_errors) + len(self.unfinished)

    @property
    def errors(self) -> list[str]:
        """One line for each thing that failed, but sinks."""
        lines = [line for stream in self.streams for line in stream.bad_files]
        lines += [stream.error for stream in self.streams if stream.error is not None]
        lines += [
            f"stream {name!r}: its state is not kept: {why}" for name, why in self.unkept.items()
        ]
        lines += [f"{name} did not end in time and was left behind" for name in self.unfinished]
        return [*lines, *([self.device_error] if self.device_error else [])]

    @property
    def num_processed(self) -> int:
        """Frames that the model has seen."""
        return sum(stream.counts.processed for stream in self.streams)

    @property
    def fps(self) -> float:
        """Processed frames per second of wall time."""
        return self.num_processed / self.wall_s if self.wall_s > 0 else 0.0

    def exit_code(self, *, is_strict: bool = False) -> ExitCode:
        """Return how the process is to end.

        A source that gave no frame, and a sink in ``failed_sinks``, count as nothing at all; what
        the log keeps is not lost, and pictures may be left out.
        """
        if self.device_error is not None:
            return ExitCode.DEVICE_LOST
        return choose_exit_code(
            has_nothing=bool(self.failed_sinks) or any(one.gave_nothing for one in self.streams),
            num_failed=self.num_failed,
            is_strict=is_strict,
        )


class SummaryBook:
    """Keeps what streams led to, those that are gone included. Bounded by the configured streams.

    Streams that a source named are summed up under their template.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._retired: dict[str, StreamSummary] = {}
        self._bad_files: dict[str, list[str]] = {}

    def retire(self, summary: StreamSummary) -> None:
        """Take over what a stream led to that is gone, without its counts."""
        name = summary.stream_id
        self._retired[name] = _merge(self._retired.get(name), summary)

    def note_bad_file(self, stream_id: str, error: Exception) -> None:
        """Name a file that could not be read."""
        files = self._bad_files.setdefault(stream_id, [])
        if len(files) < _MAX_BAD_FILES:
            files.append(str(error))

    def build(  # noqa: PLR0913 - one for each part that may fail
        self,
        running: Sequence[StreamSummary],
        *,
        counts: Sequence[tuple[str, FrameCounts]],
        sink_errors: Mapping[str, str],
        num_kept: Mapping[str, int] | None = None,
        failed_sinks: Sequence[str] = (),
        unfinished: Sequence[str] = (),
        device_error: str | None = None,
        unkept: Mapping[str, str] | None = None,
    ) -> RunSummary:
        """Return the summary of all streams, running and gone.

        Args:
            running: Streams that are not gone, without their counts.
            counts: Of all streams, each with the name it is summed up under.
            sink_errors: Sinks that did not get everything, and why.
            num_kept: Records that the log keeps, by those of them that lost nothing.
            failed_sinks: Those of them by which the run has failed.
            unfinished: Sources and sinks that did not end in time.
            device_error: Why the accelerator is gone.
            unkept: Streams whose last state is not on disk, and why.
        """
        streams = dict(self._retired)
        named = [StreamSummary(stream_id=name, counts=some) for name, some in counts]
        files = [
            StreamSummary(stream_id=name, bad_files=tuple(some))
            for name, some in self._bad_files.items()
        ]
        for summary in (*running, *named, *files):
            name = summary.stream_id
            streams[name] = _merge(streams.get(name), summary)
        return RunSummary(
            wall_s=self._clock.monotonic_s() - self._began_s,
            streams=tuple(streams[name] for name in sorted(streams)),
            sink_errors=dict(sink_errors),
            num_kept=dict(num_kept or {}),
            failed_sinks=tuple(failed_sinks),
            unfinished=tuple(unfinished),
            device_error=device_error,
            unkept=dict(unkept or {}),
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
            waiting=a.counts.waiting + b.counts.waiting,
        ),
        num_tracks=a.num_tracks + b.num_tracks,
        num_started=a.num_started + b.num_started,
        concepts=_add(a.concepts, b.concepts),
        events=_add(a.events, b.events),
        error=b.error or a.error,
        bad_files=(*a.bad_files, *b.bad_files),
    )


def _add(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(a) + Counter(b))
