"""The newest of every stream, for whoever watches: pictures, events and status.

The engine and the recorder write here and wait for nobody. Nothing is queued for a reader: one
that is slow finds newer things, and is told how many it has missed.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from connectors.record import Record, Topic
from pipeline.config.sections.stream import StreamConfig
from pipeline.streams.result import Scene

_MAX_RECORDS = 1024
"""64 streams write 384 status records a minute, so these are two minutes and 1 MB."""
_TOPICS = frozenset({Topic.EVENTS, Topic.STATUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStream:
    """An open stream as it stands.

    Attributes:
        config: What it looks for.
        scene: Its newest frame with what was found on it; ``None`` before the first.
    """

    config: StreamConfig
    scene: Scene | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Records behind a place in the row of all.

    Attributes:
        records: With their numbers, oldest first.
        num_missed: How many between the place and the first of them are gone.
    """

    records: tuple[tuple[int, Record], ...]
    num_missed: int


class LiveView:
    """Streams are written by the engine's thread, records by the recorder's; any thread reads.

    Of each open stream one frame is held, 6 MB at 1080p.

    Args:
        max_records: The newest that are kept.
    """

    def __init__(self, *, max_records: int = _MAX_RECORDS) -> None:
        # Replaced where its size changes, so that readers need no lock that could hold the engine.
        self._streams: dict[str, LiveStream] = {}
        self._lock = threading.Lock()
        self._records: deque[Record] = deque(maxlen=max_records)
        self._num_records = 0
        self._on_record: Callable[[], None] = _do_nothing

    @property
    def streams(self) -> dict[str, LiveStream]:
        """The open streams by their ids; not to be changed."""
        return self._streams

    def set_stream(self, stream_id: str, config: StreamConfig) -> None:
        """Note a stream that was opened or is configured otherwise now."""
        before = self._streams.get(stream_id)
        stream = replace(before, config=config) if before else LiveStream(config=config)
        self._streams = {**self._streams, stream_id: stream}

    def show(self, scene: Scene) -> None:
        """Note the newest frame of an open stream."""
        stream_id = scene.frame.stream_id
        if stream_id in self._streams:
            self._streams[stream_id] = replace(self._streams[stream_id], scene=scene)

    def drop_stream(self, stream_id: str) -> None:
        """Leave a stream out that is gone."""
        self._streams = {name: one for name, one in self._streams.items() if name != stream_id}

    def add_records(self, records: Sequence[Record]) -> None:
        """Take those that are events or status; the oldest go."""
        shown = [record for record in records if record.topic in _TOPICS]
        if not shown:
            return
        with self._lock:
            self._records.extend(shown)
            self._num_records += len(shown)
            tell = self._on_record
        tell()

    @property
    def num_records(self) -> int:
        """How many records there were so far; the number of the last."""
        return self._num_records

    def news_since(self, number: int) -> News:
        """Return what came behind the record of a number; the first has 1."""
        with self._lock:
            num_new = max(self._num_records - number, 0)
            num_kept = min(num_new, len(self._records))
            first = self._num_records - num_kept + 1
            records = tuple(islice(self._records, len(self._records) - num_kept, None))
        return News(records=tuple(enumerate(records, first)), num_missed=num_new - num_kept)

    def watch(self, on_record: Callable[[], None]) -> None:
        """Let one reader be told when there are new records, by their thread; it may not raise."""
        self._on_record = on_record


def _do_nothing() -> None:
    pass
