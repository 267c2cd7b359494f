"""What it costs to write one frame's objects down."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from pipeline.events.zones import ZoneConfig
from pipeline.records.codec import encode_record
from pipeline.records.translate import to_models
from pipeline.streams.result import FrameResult
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from tests.benchmarks.tracks import HEIGHT, WIDTH, make_crowd, make_prediction
from tests.pipeline.fakes import make_frame

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ZONE = ZoneConfig(name="gate", polygon=((0.2, 0.2), (0.8, 0.2), (0.8, 0.9), (0.2, 0.9)))


def make_result(*, num_objects: int, side: int) -> FrameResult:
    """Return the second frame of a crowd at 1080p: one masklets record."""
    stream = Stream(
        "cam",
        deployment="d",
        model="m",
        tracking=TrackingConfig(confirm_s=0),
        is_live=False,
        zones=(ZONE,),
    )
    prediction = make_prediction(make_crowd(num_objects, side=side))
    for number in range(2):
        frame = replace(make_frame(number, size=(HEIGHT, WIDTH)), stream_id="cam")
        admission = stream.admit(frame, arrived_us=0, now=NOW)
        result = stream.apply(admission, prediction, now=NOW, dropped_since_last=0)
    return result


def time_records(*, num_objects: int = 5, side: int = 350, rounds: int = 20) -> float:
    """Return CPU milliseconds from a result to bytes; the best of a few rounds."""
    result = make_result(num_objects=num_objects, side=side)
    costs: list[float] = []
    for _ in range(rounds):
        began_s = time.process_time()
        for model in to_models(result):
            encode_record(model)
        costs.append(time.process_time() - began_s)
    return min(costs) * 1000


if __name__ == "__main__":
    Console().print(f"5 objects of 350 px at 1080p: {time_records():.2f} ms")
