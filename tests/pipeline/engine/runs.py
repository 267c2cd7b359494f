"""Whole engines over scripted sources, and what came out of them."""

import json
import threading
import time
from collections.abc import Callable

from connectors.memory import MemorySink, MemorySource
from connectors.record import Topic
from connectors.video.config import FileSourceConfig, RtspSourceConfig
from pipeline.app import build_app
from pipeline.config.run import RunConfig
from tests.pipeline.fakes import BlobTracker

ZONES = [{"name": "right", "polygon": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]}]
RULES = [
    {"type": "appear", "name": "seen"},
    {"type": "enter", "name": "in-right", "zone": "right", "settle_s": 0.0},
]
FILE = FileSourceConfig(path="unused.mp4")
CAMERA = RtspSourceConfig(url="rtsp://camera.example/1")
SOON = {"initial_s": 0.001, "maximum_s": 0.01, "unauthorized_s": 0.001}


def make_config(*stream_ids, concepts=("red",), source=FILE, **fields):
    """A configuration of streams that are alike; waits are short."""
    sections = {name: fields.pop(name, {}) for name in ("engine", "status", "delivery")}
    streams = [
        {
            "id": stream_id,
            "source": source,
            "concepts": concepts,
            "zones": ZONES,
            "rules": RULES,
            "retry": SOON,
            **fields,
        }
        for stream_id in stream_ids or ("cam",)
    ]
    return RunConfig.model_validate({"streams": streams, **sections})


def playing(scripts: dict) -> Callable:
    """Return what builds each stream's source from its script, going on at a position."""

    def build(stream, position):
        return MemorySource(scripts[stream.id], stream_id=stream.id, position=position)

    return build


def make_app(config, *scripts, tracker=None, sink=None, others=(), build=None, **parts):
    """An engine over scripts, one per stream in order, or over what ``build`` builds."""
    ids = [stream.id for stream in config.streams]
    build = build or playing(dict(zip(ids, scripts, strict=True)))
    sinks = [MemorySink() if sink is None else sink, *others]
    return build_app(config, tracker=tracker or BlobTracker(), build=build, sinks=sinks, **parts)


def run(config, *scripts, sink=None, on_turn=lambda: None, **parts):
    """Run until all scripts are played; return the summary and the sink."""
    sink = sink or MemorySink()
    app = make_app(config, *scripts, sink=sink, **parts)
    return app.engine.run(on_turn), sink


def bodies(sink, topic):
    return [json.loads(record.value) for record in sink.records if record.topic is topic]


def states_of(sink, stream_id):
    found = bodies(sink, Topic.STATUS)
    return [body["state"] for body in found if body["stream_id"] == stream_id]


def wait_until(condition, *, seconds=30.0):
    """Return once a condition of other threads is met."""
    never, deadline_s = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, f"it did not come about in {seconds} s"
        never.wait(0.002)


def counts_of(summary, stream_id="cam"):
    return next(one.counts for one in summary.streams if one.stream_id == stream_id)


def assert_settled(summary):
    """Every frame is accounted for, and none waits any more."""
    for stream in summary.streams:
        counts = stream.counts
        lost = counts.gated + sum(counts.dropped.values())
        assert counts.received == counts.processed + lost
        assert counts.waiting == 0


def in_turn(engine, *steps, seconds=30.0):
    """Run an engine, carrying out each step, a condition and an action, once it is met, then stop.

    Fails if the steps are not done in time.
    """
    left = [*steps, (lambda: True, engine.stop)]
    deadline_s = time.monotonic() + seconds

    def on_turn():
        if left and left[0][0]():
            left.pop(0)[1]()
        elif time.monotonic() > deadline_s:
            engine.stop()

    summary = engine.run(on_turn)
    assert not left, f"{len(left) - 1} steps were not done in {seconds} s"
    return summary
