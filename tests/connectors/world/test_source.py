from datetime import datetime, timedelta
from threading import Thread
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.frame import CaptureClock
from connectors.world.scene import WorldConfig
from connectors.world.source import WORLD_EPOCH, WorldSource
from connectors.world.wide.scene import WideConfig

CONFIG = WorldConfig(seed=4, width=64, height=64, fps=5.0, duration_s=2.0)
WIDE = WideConfig(seed=4, width=64, height=64, fps=5.0, duration_s=2.0)


def make_source(config=CONFIG, **options):
    return WorldSource(stream_id="cam", config=config, **options)


def read_all(source):
    with source:
        return list(iter(source.read, None))


def test_source_yields_every_frame_once():
    frames = read_all(make_source())
    assert [frame.frame_seq for frame in frames] == list(range(10))
    assert {frame.stream_id for frame in frames} == {"cam"}
    assert {frame.capture_clock for frame in frames} == {CaptureClock.WORLD}
    assert frames[3].captured_at == WORLD_EPOCH + timedelta(seconds=0.6)
    assert frames[3].pts_us == 600_000


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["meadow", "wide"])
@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 10))
def test_reopened_source_goes_on_where_the_first_stopped(config, cut):
    whole = read_all(make_source(config))
    with make_source(config) as first:
        head = [first.read() for _ in range(cut)]
        position = first.position()
    tail = read_all(make_source(config, start_index=int(position["index"])))
    assert [frame.frame_seq for frame in head + tail] == list(range(10))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole, head + tail, strict=True))


def test_truth_belongs_to_the_frame_read():
    with make_source(start_index=7) as source:
        frame = source.read()
        assert frame is not None
        assert np.array_equal(frame.pixels, source.truth(7).pixels)


def test_ended_source_stays_ended():
    with make_source(start_index=10) as source:
        assert source.read() is None
        assert source.read() is None
        assert source.position() == {"index": 10}


def test_realtime_holds_frames_back():
    begun = monotonic()
    with make_source(start_index=7, realtime=True) as source:
        assert [source.read().frame_seq for _ in range(3)] == [7, 8, 9]
    assert monotonic() - begun >= 0.39


def test_close_ends_a_waiting_read():
    slow = WorldConfig(seed=4, width=64, height=64, fps=0.01, duration_s=1000.0)
    source = WorldSource(stream_id="cam", config=slow, realtime=True)
    source.open()
    assert source.read() is not None
    answers = []
    reader = Thread(target=lambda: answers.append(source.read()))
    reader.start()
    source.close()
    source.close()
    reader.join(timeout=10)
    assert answers == [None]
    assert source.position() == {"index": 1}


def test_source_refuses_misuse():
    with pytest.raises(ValueError, match="start_index"):
        make_source(start_index=-1)
    with pytest.raises(ValueError, match="time zone"):
        make_source(started_at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(RuntimeError, match="not open"):
        make_source().read()
