"""A stream from its frames to results, in the caller's time, with a model of its own."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from connectors.frame import Frame
from models.protocols import ConceptTracker
from pipeline.streams.clock import to_us
from pipeline.streams.result import FrameResult
from pipeline.streams.stream import Stream


def watch(
    frames: Iterable[Frame], tracker: ConceptTracker, stream: Stream, concepts: Sequence[str]
) -> Iterator[FrameResult]:
    """Yield a result per frame, and one for each end of a session that ended something.

    Every frame arrives when it was captured, so results depend on frames and model alone. No
    session is open afterwards, neither the stream's nor the model's, however this ends.

    Args:
        frames: Of one stream, in order.
        tracker: The model; must not follow a stream of this name yet.
        stream: What becomes of predictions.
        concepts: What the model is to look for.
    """
    now: datetime | None = None
    is_open = False
    try:
        for frame in frames:
            now = frame.captured_at
            admission = stream.admit(frame, arrived_us=to_us(now), now=now)
            if admission.ended is not None:
                yield admission.ended
            if admission.begins_session:
                if is_open:
                    is_open = False
                    tracker.close_stream(stream.stream_id)
                tracker.open_stream(stream.stream_id, concepts)
                is_open = True
            (prediction,) = tracker.step([admission.model_input])
            yield stream.apply(admission, prediction, now=now, dropped_since_last=0)
        if now is not None:
            ended = stream.end_session("stream_ended", now=now)
            if ended is not None:
                yield ended
    finally:
        if now is not None:
            stream.end_session("stopped", now=now)
        if is_open:
            tracker.close_stream(stream.stream_id)
