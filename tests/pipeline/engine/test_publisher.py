"""What may be left out for a slow sink, and what is counted on the way."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from connectors.frame import CaptureClock
from pipeline.engine.publisher import Publisher
from pipeline.engine.summary import StreamTotals
from pipeline.events.event import RuleFailure
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics
from pipeline.streams.result import FrameResult, FrameStamp, Scene
from pipeline.tracking.states import TrackChangeKind
from pipeline.tracking.track import TrackChange
from tests.pipeline.engine.runs import make_config
from tests.pipeline.fakes import START, make_frame, make_track

STARTED = TrackChange(kind=TrackChangeKind.STARTED, track=make_track())


class Outbox:
    """Keeps what it is given."""

    def __init__(self, *, takes_frames=True):
        self.takes_frames, self.deliveries = takes_frames, []

    @property
    def num_put(self):
        return len(self.deliveries)

    def put(self, delivery):
        self.deliveries.append(delivery)
        return self.num_put


def make_result(*changes, frame=None, tracks=()):
    frame = frame or make_frame()
    scene = Scene(
        frame=frame, tracks=tracks, presence={}, zones=(), captions=(), dropped_since_last=0
    )
    stamp = FrameStamp.of(frame, stream_time_us=0)
    now = frame.captured_at + timedelta(seconds=0.3)
    return FrameResult(stamp=stamp, result_time=now, model="m", changes=changes, scene=scene)


def make_publisher(*, may_wait=False, live=None, **fields):
    outbox, metrics = Outbox(**fields), Metrics(tuple)
    running = SimpleNamespace(
        stream_id="cam",
        totals=StreamTotals(),
        may_wait=may_wait,
        rules_told={},
    )
    publisher = Publisher(outbox, metrics=metrics, live=live)
    return publisher, running, outbox, metrics


@pytest.mark.parametrize("may_wait", [False, True])
def test_results_and_frames_of_streams_that_cannot_wait_are_live(may_wait):
    publisher, running, outbox, _ = make_publisher(may_wait=may_wait)
    assert publisher.result(running, make_result()) == 1
    assert publisher.frame(running, make_frame()) == 2
    assert [delivery.is_live for delivery in outbox.deliveries] == [not may_wait] * 2


def test_results_are_counted_by_track_change_and_state():
    publisher, running, _, metrics = make_publisher()
    publisher.result(running, make_result(STARTED, tracks=(make_track(1), make_track(2))))
    value = metrics.registry.get_sample_value
    labels = {"stream": "cam", "kind": "started"}
    assert value("maskstream_track_changes_total", labels) == 1
    assert value("maskstream_tracks", {"stream": "cam", "state": "confirmed"}) == 2
    assert value("maskstream_tracks", {"stream": "cam", "state": "lost"}) == 0
    assert running.totals.num_started == 1
    publisher.result(running, replace(make_result(), scene=None))
    assert value("maskstream_tracks", {"stream": "cam", "state": "confirmed"}) == 0


@pytest.mark.parametrize(
    ("clock", "num"), [(CaptureClock.RTCP_NTP, 1), (CaptureClock.FILE_PTS, None)]
)
def test_latency_is_that_of_live_clocks_only(clock, num):
    publisher, running, _, metrics = make_publisher()
    frame = replace(make_frame(), capture_clock=clock, captured_at=START)
    publisher.result(running, make_result(frame=frame))
    name = "maskstream_capture_to_result_seconds"
    assert metrics.registry.get_sample_value(f"{name}_count", {"stream": "cam"}) == num


def test_a_rule_that_raises_is_counted_always_and_logged_once_in_a_while(caplog):
    publisher, running, _, metrics = make_publisher()
    failures = tuple(RuleFailure(rule=name, error=ZeroDivisionError("x")) for name in "ab")
    result = replace(make_result(), rule_failures=failures)
    for seconds in (0, 1, 59, 60, 61):
        later = result.result_time + timedelta(seconds=seconds)
        publisher.result(running, replace(result, result_time=later))
    labels = {"stream": "cam", "rule": "a"}
    assert metrics.registry.get_sample_value("maskstream_rule_errors_total", labels) == 5
    assert [r.getMessage() for r in caplog.records].count("rule 'a' raised") == 2


@pytest.mark.parametrize("takes_frames", [True, False])
def test_frames_are_handed_on_only_where_a_sink_takes_them(takes_frames):
    publisher, running, outbox, _ = make_publisher(takes_frames=takes_frames)
    assert publisher.frame(running, make_frame()) == outbox.num_put == takes_frames


def test_the_newest_frame_is_shown_with_what_was_found_on_it():
    live = LiveView()
    live.set_stream("cam", make_config().streams[0])
    publisher, running, *_ = make_publisher(live=live)
    result = make_result(tracks=(make_track(),))
    publisher.result(running, result)
    assert live.streams["cam"].scene is result.scene
    publisher.result(running, replace(result, scene=None))
    assert live.streams["cam"].scene is result.scene
    publisher.show_frame(make_frame(9))
    assert live.streams["cam"].scene.frame.frame_seq == 9
    assert live.streams["cam"].scene.tracks == ()
