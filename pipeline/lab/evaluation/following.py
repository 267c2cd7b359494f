"""Clips through the pipeline's own streams: what is scored are its tracks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter

from connectors.frame import CaptureClock, Frame
from connectors.pictures.encoding import Pixels
from models.protocols import Concept, ConceptTracker, FrameInput, Prediction
from pipeline.streams.stream import Stream
from pipeline.streams.watching import watch
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.track import Track

_BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Time that a model took, and for how much.

    Attributes:
        seconds: All time.
        number: Pictures or frames.
    """

    seconds: float = 0.0
    number: int = 0
    _began: float = field(default=0.0)

    def __enter__(self) -> "Stopwatch":
        self._began = perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        self.seconds += perf_counter() - self._began

    @property
    def mean(self) -> float:
        """Seconds for one."""
        return self.seconds / max(self.number, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTracker:
    """A tracker whose steps alone are timed, not what is done with their predictions."""

    tracker: ConceptTracker
    stopwatch: Stopwatch

    def open_stream(self, stream_id: str, concepts: Sequence[str | Concept]) -> None:
        """Begin a stream."""
        self.tracker.open_stream(stream_id, concepts)

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream."""
        self.tracker.close_stream(stream_id)

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Advance each stream by a frame."""
        with self.stopwatch:
            predictions = self.tracker.step(inputs)
        self.stopwatch.number += len(inputs)
        return predictions


def follow_phrases(
    tracker: ConceptTracker,
    pictures: Iterable[Pixels],
    *,
    stream_id: str,
    phrases: Sequence[str],
    fps: float,
) -> Iterator[tuple[Track, ...]]:
    """Yield the tracks that can be seen on each picture of a clip, tentative ones included.

    Scores have a rule of their own for what was seen too briefly, so that they compare with
    published ones; the pipeline's would count time and not frames.
    """
    stream = Stream(
        stream_id, deployment="eval", model="", tracking=TrackingConfig(), is_live=False
    )
    frames = (
        _frame(index, pixels, stream_id=stream_id, fps=fps) for index, pixels in enumerate(pictures)
    )
    for result in watch(frames, tracker, stream, phrases):
        if result.scene is not None:
            yield tuple(track for track in result.tracks if track.is_visible)


def _frame(index: int, pixels: Pixels, *, stream_id: str, fps: float) -> Frame:
    pts_us = round(index * 1_000_000 / fps)
    return Frame(
        stream_id=stream_id,
        stream_epoch=0,
        frame_seq=index,
        pixels=pixels,
        pts_us=pts_us,
        captured_at=_BEGAN_AT + timedelta(microseconds=pts_us),
        capture_clock=CaptureClock.FILE_PTS,
        nominal_step_us=round(1_000_000 / fps),
    )
