"""Which streams' frames form the next batch. Bookkeeping only: no threads, no clocks, no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A stream that has frames.

    Attributes:
        stream_id: Its name.
        num_frames: How many wait.
    """

    stream_id: str
    num_frames: int


class Scheduler:
    """Least lately served first, so that no stream starves; at most one frame per stream.

    Args:
        max_batch: Frames in one batch.
    """

    def __init__(self, *, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"bad max_batch {max_batch!r} (accepted: at least 1)")
        self._max_batch = max_batch
        self._num_served = 0
        self._served: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._served)

    def next_batch(self, waiting: Sequence[Waiting]) -> tuple[str, ...]:
        """Return the streams that are to give one frame each; none if nothing waits.

        Between streams that were never served, the one with more frames waiting goes first.
        """
        ready = [stream for stream in waiting if stream.num_frames > 0]
        ready.sort(key=lambda s: (self._served.get(s.stream_id, -1), -s.num_frames, s.stream_id))
        chosen = tuple(stream.stream_id for stream in ready[: self._max_batch])
        for stream_id in chosen:
            self._num_served += 1
            self._served[stream_id] = self._num_served
        return chosen

    def forget(self, stream_id: str) -> None:
        """Drop what is remembered of a stream that has ended."""
        self._served.pop(stream_id, None)
