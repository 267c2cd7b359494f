"""Steps of a film as drawn by hypothesis or by hand, and streams that they are played to."""

from dataclasses import replace
from datetime import timedelta
from itertools import accumulate

from hypothesis import strategies as st

from pipeline.config.sections.stream import StreamConfig
from pipeline.records.translate import to_models
from pipeline.streams.stream import Stream
from pipeline.tracking.config import TrackingConfig
from tests.pipeline.fakes import START, make_frame, make_observation, make_prediction

ZONES = (
    {"name": "left", "polygon": [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]},
    {"name": "right", "polygon": [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]},
)
SEEN = {"type": "appear", "name": "seen", "update_every_s": 2}
RULES = (
    SEEN,
    {"type": "disappear", "name": "gone", "after_s": 1},
    {"type": "enter", "name": "in", "zone": "right", "accepts": "tentative"},
    {"type": "leave", "name": "out", "zone": "right"},
    {"type": "dwell", "name": "stay", "zone": "left", "dwell_s": 2},
)
INSIDE, OUTSIDE = (18, 3, 6, 6), (1, 1, 4, 9)
NOW = START + timedelta(hours=1)


def make_stream(*, is_live=False, rules=RULES, zones=ZONES, stream_id="cam", **tracking):
    config = StreamConfig(
        id="cam", source={"type": "world"}, concepts=("red",), rules=rules, zones=zones
    )
    return Stream(
        stream_id,
        deployment="d",
        model="blobs",
        tracking=TrackingConfig(expire_s=8, session_gap_s=20, **tracking),
        is_live=is_live,
        zones=config.zones,
        rules=config.rules,
    )


def play(stream, steps, *, first=0, boot_us=777, stream_epoch=0):
    """Run steps of (microseconds since the first, masklets) through a stream; arrival jitters."""
    results = []
    for seq, (at_us, masklets) in enumerate(steps, start=first):
        captured_at = START + timedelta(microseconds=at_us)
        frame = replace(make_frame(seq), captured_at=captured_at, stream_epoch=stream_epoch)
        now = NOW + timedelta(microseconds=at_us)
        admission = stream.admit(frame, arrived_us=boot_us + at_us + 9 * (seq % 3), now=now)
        results += [admission.ended] if admission.ended else []
        said = make_prediction(*masklets)
        results.append(stream.apply(admission, said, now=NOW, dropped_since_last=0))
    return results


def records_of(results):
    return [model.model_dump() for result in results for model in to_models(result)]


def seen(*boxes, is_matched=True):
    return [
        make_observation(number, box=box, is_matched=is_matched)
        for number, box in enumerate(boxes, start=1)
    ]


BOXES = st.none() | st.tuples(
    st.integers(0, 20), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)
)
MASKLETS = st.dictionaries(st.integers(1, 4), st.tuples(BOXES, st.booleans()), max_size=4)
STEP_US = st.integers(1, 1_500_000) | st.sampled_from([0, -5_000_000, 4_000_000, 21_000_000])
STEPS = st.lists(st.tuples(STEP_US, MASKLETS), min_size=2, max_size=25)


def told(steps):
    """Turn drawn steps into what a stream is played."""
    at_us = accumulate(step_us for step_us, _ in steps)
    for time_us, (_, masklets) in zip(at_us, steps, strict=True):
        yield (
            time_us,
            [
                make_observation(number, box=box, is_matched=is_matched)
                for number, (box, is_matched) in masklets.items()
            ],
        )


def steps_of(*boxes, first=0, step_us=200_000):
    return [((first + at) * step_us, seen(box)) for at, box in enumerate(boxes)]
