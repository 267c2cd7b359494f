"""What the bookkeeping of many tracks costs a frame."""

import time
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from models.common.masks import CropMask
from models.protocols import MaskletObservation, Prediction
from pipeline.clock import Moment
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.tracks import BookState, SessionKey, TrackBook
from tests.pipeline.fakes import START

HEIGHT, WIDTH = 1080, 1920
STEP_US = 100_000


@dataclass(frozen=True, kw_only=True)
class TrackTimes:
    """CPU milliseconds of one frame: of most, and of the one on which masklets end."""

    frame_ms: float
    ending_ms: float


def make_crowd(num_objects: int, *, side: int = 90) -> list[MaskletObservation]:
    """Return round objects on one 1080p frame, all of one concept, some over each other."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] - side // 2
    bits = rows**2 + columns**2 < (side // 2) ** 2
    return [
        MaskletObservation(
            masklet_id=number + 1,
            concept="deer",
            concept_id="deer",
            score=0.9,
            presence_score=0.95,
            occlusion_score=1.0,
            is_matched=True,
            first_seen_s=0.0,
            last_seen_s=0.0,
            mask=CropMask(
                size_hw=(HEIGHT, WIDTH),
                x0=int(rng.integers(WIDTH - side)),
                y0=int(rng.integers(HEIGHT - side)),
                bits=bits,
            ),
            pointer=None,
        )
        for number in range(num_objects)
    ]


def make_prediction(masklets: list[MaskletObservation]) -> Prediction:
    return Prediction(stream_id="cam", masklets=tuple(masklets), ended=(), presence={"deer": 0.95})


def time_tracks(*, num_objects: int = 500, num_ending: int = 50, rounds: int = 5) -> TrackTimes:
    """Time frames of a crowd of which some end at once; the best of a few rounds."""
    crowd = make_crowd(num_objects)
    whole, rest = make_prediction(crowd), make_prediction(crowd[num_ending:])
    key = SessionKey(deployment="d", stream_id="cam", stream_epoch=0, began_at=START, first_seq=0)
    costs: list[list[float]] = []
    for _ in range(rounds):
        book = TrackBook(BookState.begin(key), TrackingConfig())
        frames = enumerate([whole, whole, rest])
        costs.append([_cost_ms(book, prediction, number) for number, prediction in frames])
    return TrackTimes(
        frame_ms=min(cost[1] for cost in costs), ending_ms=min(cost[2] for cost in costs)
    )


def _cost_ms(book: TrackBook, prediction: Prediction, number: int) -> float:
    now = Moment(stream_us=number * STEP_US, observed_us=number * STEP_US)
    began_s = time.process_time()
    book.apply(prediction, now=now)
    return (time.process_time() - began_s) * 1000


if __name__ == "__main__":
    times = time_tracks()
    Console().print(
        f"500 objects at 1080p: {times.frame_ms:.1f} ms, {times.ending_ms:.1f} ms when 50 end"
    )
