"""A stream with an ordinary tracker, without an engine."""

from dataclasses import replace
from datetime import timedelta

from pipeline.config.sections.stream import StreamConfig
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from tests.pipeline.fakes import START, BlobTracker, make_frame

NOW = START + timedelta(days=1)
SEEN = {"type": "appear", "name": "seen", "update_every_s": 0}
ZONE = {"name": "all", "polygon": [(0, 0), (1, 0), (1, 1), (0, 1)]}


class Player:
    """Runs frames through a stream and an ordinary tracker, as the engine does."""

    def __init__(self, *, is_live=False, rules=(SEEN,), zone=ZONE, first_no=1, **tracking):
        config = StreamConfig(
            id="cam", source={"type": "world"}, concepts=("red",), rules=rules, zones=(zone,)
        )
        self.stream = Stream(
            "cam",
            deployment="d",
            model="blobs",
            tracking=TrackingConfig(**tracking),
            is_live=is_live,
            zones=config.zones,
            rules=config.rules,
            first_no=first_no,
        )
        self.tracker = BlobTracker()
        self.results = []

    def play(self, *frames):
        for frame in frames:
            admission = self.admit(frame)
            (prediction,) = self.tracker.step([admission.model_input])
            result = self.stream.apply(admission, prediction, now=NOW, dropped_since_last=0)
            self.results.append(result)
        return self.results[-1]

    def admit(self, frame):
        arrived_us = (frame.captured_at - START) // timedelta(microseconds=1)
        admission = self.stream.admit(frame, arrived_us=arrived_us, now=NOW)
        if admission.ended is not None:
            self.results.append(admission.ended)
        if admission.begins_session:
            if "cam" in self.tracker.streams:
                self.tracker.close_stream("cam")
            self.tracker.open_stream("cam", ("red",))
        return admission

    def end(self, reason="stream_ended"):
        result = self.stream.end_session(reason, now=NOW)
        if result is not None:
            self.results.append(result)
        return result

    @property
    def changes(self):
        return [(c.kind.value, c.reason) for result in self.results for c in result.changes]

    @property
    def events(self):
        return [e for result in self.results for e in result.events]


def red(seq, *, at_s=None, **fields):
    """A frame with a red blob, 10 a second unless told when."""
    frame = make_frame(seq, blobs={"red": (8, 8)}, **fields)
    if at_s is None:
        return frame
    return replace(frame, captured_at=START + timedelta(seconds=at_s))
