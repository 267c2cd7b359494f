"""The streams that the engine holds, with the sources that feed them.

Used by the engine's thread alone; a source's thread meets it only in the source's router, in the
inbox and in the buffers.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from connectors.frame import Frame
from pipeline.clock import seconds_to_us
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import ANY_STREAM, Overflow, StreamConfig
from pipeline.engine.backoff import ModelBackoff
from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.gate import RateGate
from pipeline.engine.ledger import DropCause
from pipeline.engine.source_runner import RunnerParts, SourceRunner
from pipeline.engine.summary import StreamTotals
from pipeline.errors import StreamExistsError, StreamLimitError, UnknownStreamError
from pipeline.observe.live import LiveView
from pipeline.streams.stream import Stream


@dataclass(slots=True, kw_only=True)
class RunningStream:
    """One stream of the engine.

    Attributes:
        stream_id: Its name; differs from the configured one when its source names it.
        config: What to look for.
        stream: Its time, tracks and rules.
        buffer: Its frames on their way to the model.
        source: Feeds it.
        totals: What it led to so far.
        backoff: Leaves it out while the model fails on it.
        active_s: When it was opened, or a frame of it was taken last; monotonic.
        num_left_out: Frames gated or dropped up to its last result.
        num_reanchored: How often its source's clock was set otherwise, up to its last frame.
        rules_told: When it was logged last that a rule raised, by rule.
        done_to: Of frames that can be read again: up to here they are part of what it went on from.
        places: Partitions of its source that it has had frames from.
    """

    stream_id: str
    config: StreamConfig
    stream: Stream
    buffer: FrameBuffer
    source: SourceRunner
    active_s: float
    totals: StreamTotals = field(default_factory=StreamTotals)
    backoff: ModelBackoff = field(default_factory=ModelBackoff)
    num_left_out: int = 0
    num_reanchored: int = 0
    rules_told: dict[str, datetime] = field(default_factory=dict[str, datetime])
    done_to: dict[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    places: set[str] = field(default_factory=set[str])

    @property
    def is_named_by_source(self) -> bool:
        """Whether its configuration is a template."""
        return self.config.id == ANY_STREAM

    def has_done(self, frame: Frame) -> bool:
        """Whether a frame that was read again is part of what the stream went on from."""
        return bool(self.done_to and frame.position) and all(
            int(place) <= int(self.done_to.get(name, -1))
            for name, place in (frame.position or {}).items()
        )

    @property
    def waits_for_cut(self) -> bool:
        """Whether its next frame is to wait for frames of others, and a transaction behind them."""
        head, commits = self.buffer.head, self.source.commits
        return head is not None and commits is not None and commits.is_behind_cut(head.ticket)

    @property
    def may_wait(self) -> bool:
        """Whether its source can be slowed, so that a slow sink costs no result."""
        return self.config.buffer_overflow is Overflow.WAIT


@dataclass(slots=True, kw_only=True)
class RunningSource:
    """One source of the engine.

    Attributes:
        runner: Its thread.
        has_ended: It gives no more frames.
        error: Why, if it failed for good.
        is_removed: Its stream was removed; it only has to let go.
        last_delivery: The delivery that must be acknowledged before the last commit.
        is_told_of: Status tells of it by its configured name, of which no stream is open.
    """

    runner: SourceRunner
    has_ended: bool = False
    error: Exception | None = None
    is_removed: bool = False
    last_delivery: int | None = None
    is_told_of: bool = False

    @property
    def is_template(self) -> bool:
        """Whether it names its streams itself."""
        return self.runner.config.id == ANY_STREAM


class StreamTable:
    """Streams enter, change and leave by the verbs below, at the start and while others run.

    Args:
        config: The whole configuration.
        parts: Shared by the source runners.
        live: Shows which streams are open; ``None``: nobody watches.
    """

    def __init__(
        self, config: RunConfig, parts: RunnerParts, *, live: LiveView | None = None
    ) -> None:
        self._config = config
        self._parts = parts
        self._live = live
        self._streams: dict[str, RunningStream] = {}
        self._sources: dict[int, RunningSource] = {}
        self._leaving: list[SourceRunner] = []
        self._num_sources = 0

    def __iter__(self) -> Iterator[RunningStream]:
        return iter(tuple(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, stream_id: str) -> RunningStream:
        return self._streams[stream_id]

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._streams

    @property
    def sources(self) -> tuple[RunningSource, ...]:
        """All sources that have not been taken out."""
        return tuple(self._sources.values())

    def source(self, number: int) -> RunningSource | None:
        """Return the source that messages call ``number``; ``None`` if it is gone."""
        return self._sources.get(number)

    def add(self, config: StreamConfig) -> tuple[RunningSource, RunningStream | None]:
        """Let in a stream with its source, which is to be started, or a source alone.

        Alone come templates, and sources whose streams go on from what other workers have kept:
        where that is, their first frame tells.

        Called at the start for every configured stream, later for
        ``add_stream``.

        Raises:
            StreamExistsError: If there is a stream of that name.
            StreamLimitError: If there are too many streams.
        """
        others = [source for source in self._sources.values() if not source.is_removed]
        if any(source.runner.config.id == config.id for source in others):
            raise StreamExistsError(stream_id=config.id)
        runner = SourceRunner(self._num_sources, config, self._parts)
        running = None
        if not self._opens_late(config):
            running = self._open(config.id, runner)
        self._num_sources += 1
        source = self._sources[runner.number] = RunningSource(runner=runner)
        return source, running

    def open_named(self, source: RunningSource, stream_id: str) -> RunningStream | None:
        """Let in a stream that its source has named, by the source's template.

        Called for ``UnknownStream``. Returns ``None`` if it is known already, or named as the
        template itself: that is no stream, and its frames are counted as unknown.

        Raises:
            StreamExistsError: If another source feeds a stream of that name.
            StreamLimitError: If there are too many streams.
        """
        router = source.runner.router
        if stream_id == ANY_STREAM:
            router.refuse(stream_id, DropCause.UNKNOWN_STREAM)
        if router.find(stream_id) is not None:
            return None
        try:
            return self._open(stream_id, source.runner)
        except StreamLimitError:
            router.refuse(stream_id, DropCause.STREAM_LIMIT)
            raise
        except StreamExistsError:
            router.refuse(stream_id, DropCause.DUPLICATE_STREAM)
            raise

    def configured(self, stream_id: str) -> RunningStream:
        """Return a stream that commands may change.

        Raises:
            UnknownStreamError: If there is none of that name, or its source has named it.
        """
        running = self._streams.get(stream_id)
        if running is None or running.is_named_by_source:
            known = [one.stream_id for one in self if not one.is_named_by_source]
            raise UnknownStreamError(stream_id=stream_id, known=known)
        return running

    def can_keep_source(self, config: StreamConfig) -> bool:
        """Whether a changed configuration leaves alone how frames are read and taken."""
        names = ("concepts", "zones", "rules", "paused")
        news = {name: getattr(config, name) for name in names}
        return self.configured(config.id).config.model_copy(update=news) == config

    def change(self, config: StreamConfig) -> None:
        """Give a stream other concepts, zones or rules, and pause it or let it go on.

        Where concepts differ, its session is to be ended before.
        """
        running = self.configured(config.id)
        running.config = config
        running.stream.change(zones=config.zones, rules=config.resolved_rules)
        if self._live is not None:
            self._live.set_stream(running.stream_id, config)
        if not config.paused:
            running.source.resume()
            return
        running.source.pause()
        if config.is_live:  # what waits would be old when it goes on
            running.buffer.clear(DropCause.PAUSED)

    def remove(self, stream_id: str) -> RunningStream:
        """Stop a stream and its source; what waits is dropped.

        The stream is to be finished after.

        Raises:
            UnknownStreamError: If there is none of that name, or its source has named it.
        """
        running = self.configured(stream_id)
        running.source.stop()
        self._sources[running.source.number].is_removed = True
        running.buffer.close(drop_cause=DropCause.REMOVED)
        return running

    def drop(self, running: RunningStream) -> None:
        """Take out a stream that was finished."""
        del self._streams[running.stream_id]
        running.source.router.forget(running.stream_id)
        if self._live is not None:
            self._live.drop_stream(running.stream_id)

    def drop_source(self, source: RunningSource) -> None:
        """Take out a source that has ended, or that is given up."""
        del self._sources[source.runner.number]
        self._leaving = [runner for runner in self._leaving if not runner.join(0.0)]
        self._leaving.append(source.runner)

    def join(self, timeout_s: float) -> list[str]:
        """Wait for the threads of sources taken out; returns the names of those that go on."""
        deadline_s = time.monotonic() + timeout_s
        return [
            runner.config.id
            for runner in self._leaving
            if not runner.join(deadline_s - time.monotonic())
        ]

    def streams_of(self, source: RunningSource) -> list[RunningStream]:
        """Return the streams that a source feeds."""
        return [one for one in self._streams.values() if one.source is source.runner]

    def stop(self) -> None:
        """Ask all sources to end, and drop what waits; called for ``Stop``.

        For exactly once nothing is dropped: frames of others behind it have a result already.
        """
        cause = DropCause.STOPPED if self._config.exactly_once is None else None
        for source in self._sources.values():
            source.runner.stop()
        for running in self._streams.values():
            running.buffer.close(drop_cause=cause)

    def _opens_late(self, config: StreamConfig) -> bool:
        store = self._parts.store
        is_shared = store is not None and store.is_shared and config.source.names_streams
        return is_shared or config.id == ANY_STREAM

    def _open(self, stream_id: str, runner: SourceRunner) -> RunningStream:
        if stream_id in self._streams:
            raise StreamExistsError(stream_id=stream_id)
        limit = self._config.engine.max_streams
        if len(self._streams) >= limit:
            raise StreamLimitError(stream_id=stream_id, limit=limit)
        running = RunningStream(
            stream_id=stream_id,
            config=runner.config,
            stream=self._new_stream(stream_id, runner.config),
            buffer=self._new_buffer(stream_id, runner.config),
            source=runner,
            active_s=self._parts.clock.monotonic_s(),
        )
        self._streams[stream_id] = running
        runner.router.open(stream_id, running.buffer)
        if self._live is not None:
            self._live.set_stream(stream_id, runner.config)
        return running

    def _new_stream(self, stream_id: str, config: StreamConfig) -> Stream:
        return Stream(
            stream_id,
            deployment=self._config.deployment,
            model=self._config.model.name,
            tracking=self._config.tracking,
            is_live=config.is_live,
            zones=config.zones,
            rules=config.resolved_rules,
        )

    def _new_buffer(self, stream_id: str, config: StreamConfig) -> FrameBuffer:
        gate = None
        if config.max_fps is not None:
            gap_us = seconds_to_us(self._config.tracking.session_gap_s)
            gate = RateGate(config.max_fps, is_live=config.is_live, session_gap_us=gap_us)
        return FrameBuffer(
            stream_id,
            capacity=self._config.engine.buffer_frames,
            overflow=config.buffer_overflow,
            ledger=self._parts.ledger,
            on_frame=self._parts.inbox.wake,
            gate=gate,
        )
