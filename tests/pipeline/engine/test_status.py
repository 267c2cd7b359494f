"""What a stream is doing, told by what its source says, when frames come and what is lost."""

import logging
from itertools import groupby

import pytest

from connectors.errors import StreamEndedError, UnreachableError
from pipeline.clock import ManualClock
from pipeline.config.sections.status import StatusConfig
from pipeline.config.sections.stream import Overflow
from pipeline.engine.buffer import Arrived, FrameBuffer
from pipeline.engine.ledger import DropCause, Ledger
from pipeline.engine.status import StatusBook
from pipeline.errors import ModelError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import EventRecord, RestoredState
from pipeline.records.translate import to_models
from tests.pipeline.fakes import START, make_frame
from tests.pipeline.streams.player import Player, red

AWAY = UnreachableError("cam", "nobody answers", position={"url": "rtsp://cam"})
MODEL = ModelError(stream_id="cam", reason="white corner", frame_seq=3)


class Bench:
    """One stream's status, with a clock that moves when told to."""

    def __init__(self, **config):
        self.clock, self.ledger, self.records = ManualClock(), Ledger(), []
        self.metrics = Metrics(self.ledger.snapshot)
        self.health = Health(self.clock, stall_s=60)
        self.book = StatusBook(
            StatusConfig(**config),
            publish=self.records.append,
            ledger=self.ledger,
            metrics=self.metrics,
            health=self.health,
            clock=self.clock,
            state_error_of=lambda _: self.state_error,
        )
        self.state_error = None
        self.buffer = FrameBuffer(
            "cam",
            capacity=1,
            overflow=Overflow.DROP_OLDEST,
            ledger=self.ledger,
            on_frame=lambda: None,
        )
        self.book.open("cam", buffer=self.buffer)

    @property
    def now_us(self):
        return round(self.clock.monotonic_s() * 1e6)

    @property
    def states(self):
        return [record.state.value for record in self.records]

    def connect(self):
        self.book.source_opened("cam", at_us=self.now_us)

    def frames(self, num, *, fps=10.0, num_taken=None):
        """Let frames come and be taken, but for the last ``num - num_taken`` of them."""
        for number in range(num):
            self.clock.advance(1 / fps)
            self.buffer.offer(Arrived(frame=make_frame(), arrived_us=self.now_us, now_us=0))
            if num_taken is None or number < num_taken:
                self.buffer.take()
                self.ledger.finish("cam")
            self.book.refresh()

    def wait(self, seconds, *, step_s=0.25):
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.book.refresh()


def running(**config):
    bench = Bench(**config)
    bench.connect()
    bench.frames(3)
    return bench


def test_a_stream_connects_and_runs_with_its_first_frame():
    bench = Bench()
    bench.connect()
    bench.book.refresh()
    assert bench.states == ["connecting"]
    bench.frames(1)
    assert bench.states == ["connecting", "running"]
    assert bench.health.readiness().streams["cam"].state == "running"
    shown = bench.metrics.exposition()
    assert b'maskstream_stream_state{state="running",stream="cam"} 1.0' in shown
    assert b'maskstream_stream_state{state="connecting",stream="cam"} 0.0' in shown


def test_a_camera_down_at_the_start_is_reconnecting_then_offline_with_its_error():
    bench = Bench()
    bench.book.source_lost("cam", AWAY)
    bench.wait(29.75)
    assert bench.states[:2] == ["connecting", "reconnecting"]
    assert bench.records[-1].state == "reconnecting"
    bench.wait(0.25)
    last = bench.records[-1]
    assert last.state == "offline"
    assert (last.error.type, last.error.position) == ("UnreachableError", {"url": "rtsp://cam"})
    assert last.since == START


def test_offline_tells_since_when_and_recovery_is_said(caplog):
    caplog.set_level(logging.INFO)
    bench = running()
    bench.wait(0.75)
    lost_at = bench.clock.utc_now()
    bench.book.source_lost("cam", StreamEndedError("cam", "hung up"))
    for _ in range(8):
        bench.wait(5.0)
        bench.book.source_lost("cam", AWAY)
    offline = next(record for record in bench.records if record.state == "offline")
    assert offline.since == bench.records[-1].since == lost_at
    assert "nobody answers" in bench.health.readiness().streams["cam"].error
    bench.connect()
    bench.book.refresh()
    assert bench.records[-1].state == "offline"
    bench.frames(1)
    assert bench.records[-1].state == "running"
    assert bench.records[-1].error is None
    assert "running again; was offline for 40" in caplog.text
    assert b'maskstream_reconnects_total{stream="cam"} 1.0' in bench.metrics.exposition()


def test_the_log_says_why_a_stream_is_in_trouble_and_names_no_reason_where_there_is_none(caplog):
    caplog.set_level(logging.INFO)
    bench = running()
    bench.frames(1)
    assert [one.getMessage() for one in caplog.records] == ["connected", "running"]
    caplog.clear()
    bench.book.source_lost("cam", AWAY)
    bench.wait(30)
    bench.book.finish("cam", AWAY)
    found = [(one.levelname, one.getMessage(), one.stream) for one in caplog.records]
    assert found == [
        ("WARNING", f"reconnecting: {AWAY}", "cam"),
        ("WARNING", f"offline: {AWAY}", "cam"),
        ("ERROR", f"failed: {AWAY}", "cam"),
    ]


def test_a_connection_without_frames_is_no_recovery():
    bench = running()
    for _ in range(70):
        bench.book.source_lost("cam", StreamEndedError("cam", "hung up"))
        bench.wait(0.5)
        bench.connect()
    changes = [state for state, _ in groupby(bench.states)]
    assert changes == ["connecting", "running", "reconnecting", "offline"]


@pytest.mark.parametrize(("fps", "limit_s"), [(10.0, 2.0), (0.5, 10.0)])
def test_a_connected_stream_without_frames_is_stalled(fps, limit_s):
    bench = Bench()
    bench.connect()
    bench.frames(40, fps=fps)
    bench.wait(limit_s - 0.25)
    assert bench.records[-1].state == "running"
    bench.wait(0.5)
    assert bench.records[-1].state == "stalled"
    bench.frames(1)
    assert bench.records[-1].state == "running"


def test_a_source_that_opens_and_gives_nothing_is_stalled():
    bench = Bench()
    bench.connect()
    bench.wait(2.25)
    assert bench.states == ["connecting", "stalled"]


def test_a_stream_whose_frames_wait_for_a_slow_model_is_not_stalled():
    bench = running()
    bench.frames(1, num_taken=0)
    bench.wait(30.0)
    assert "stalled" not in bench.states


def drop(bench, num, of):
    """Of ``of`` frames in two seconds the model is too slow for ``num``."""
    for number in range(of):
        bench.frames(1, fps=of / 2)
        if number < num:
            bench.ledger.receive("cam")
            bench.ledger.drop("cam", DropCause.OVERFLOW)


def test_a_stream_is_overloaded_above_five_percent_and_calm_again_below_half_of_it():
    bench = running()
    drop(bench, 0, of=100)
    drop(bench, 4, of=100)
    assert "overloaded" not in bench.states
    for _ in range(5):
        drop(bench, 8, of=100)
    assert bench.records[-1].state == "overloaded"
    for _ in range(8):
        drop(bench, 4, of=100)
    assert bench.records[-1].state == "overloaded"
    for _ in range(8):
        drop(bench, 1, of=100)
    changes = [state for state, _ in groupby(bench.states)]
    assert changes == ["connecting", "running", "overloaded", "running"]


def test_frames_lost_for_other_reasons_are_no_overload():
    bench = running()
    for _ in range(200):
        bench.frames(1)
        bench.ledger.refuse("cam", DropCause.BAD_FRAME)
    assert "overloaded" not in bench.states


def test_a_status_comes_at_each_change_and_every_ten_seconds():
    bench = running()
    num_before = len(bench.records)
    bench.frames(305)
    assert len(bench.records) - num_before == 3
    assert {record.state for record in bench.records[num_before:]} == {"running"}


def test_another_error_is_told_though_the_state_stays():
    bench = running()
    bench.book.source_lost("cam", StreamEndedError("cam", "hung up"))
    bench.book.source_lost("cam", AWAY)
    bench.book.source_lost("cam", AWAY)
    errors = [record.error.type for record in bench.records if record.error]
    assert errors == ["StreamEndedError", "UnreachableError"]


def test_state_that_is_not_kept_is_told_at_once_and_until_it_is():
    bench = Bench()
    bench.connect()
    bench.frames(20)
    num_told = len(bench.records)
    for error in ("disk full", None):
        bench.state_error = error
        bench.frames(2)
        num_told += 1
        assert len(bench.records) == num_told
        assert (bench.records[-1].state, bench.records[-1].state_error) == ("running", error)
        assert bench.health.liveness().streams["cam"].state_error == error
        assert bench.records[-1].error is None


def test_what_a_stream_went_on_from_is_in_each_record():
    bench, restored = Bench(), RestoredState(taken_at=START, age_s=1.0)
    assert bench.records[-1].restored is None
    bench.book.open("cam", buffer=bench.buffer, restored=restored)
    assert bench.records[-1].restored == restored
    later = RestoredState(taken_at=START, age_s=2.0)
    bench.book.model_restored("cam", later)
    bench.book.model_failed("cam", MODEL)
    assert bench.records[-1].restored == later
    assert bench.health.liveness().streams["cam"].restored == later


def test_model_errors_are_stated_until_it_works_again():
    bench = running()
    bench.book.model_failed("cam", MODEL)
    assert (bench.records[-1].state, bench.records[-1].error.type) == ("running", "ModelError")
    bench.book.model_works("cam")
    bench.book.refresh()
    assert bench.records[-1].error is None
    assert bench.book.error_of("cam") is None


@pytest.mark.parametrize(("error", "state"), [(None, "ended"), (AWAY, "failed")])
def test_the_end_is_told_once_and_the_stream_can_be_forgotten(error, state):
    bench = running()
    bench.book.finish("cam", error)
    bench.wait(60.0)
    assert bench.states[-1] == state
    assert bench.states.count(state) == 1
    bench.book.forget("cam")
    assert "cam" not in bench.health.readiness().streams


def test_counts_are_those_of_the_moment():
    bench = running()
    bench.frames(4)
    bench.book.finish("cam")
    counts = bench.records[-1].counts
    assert (counts.received, counts.processed, counts.waiting) == (7, 7, 0)


def test_a_template_runs_while_it_is_connected():
    bench = Bench()
    bench.book.open("*")
    bench.book.source_opened("*", at_us=bench.now_us)
    bench.wait(60.0)
    assert [r.state.value for r in bench.records if r.stream_id == "*"][:2] == [
        "connecting",
        "running",
    ]
    assert all(r.state != "stalled" for r in bench.records if r.stream_id == "*")


def test_a_record_says_until_when_it_holds_and_the_last_one_for_ever():
    bench = running(every_s=5)
    bench.book.finish("cam")
    valid_s = [
        record.valid_until and (record.valid_until - record.time).total_seconds()
        for record in bench.records
    ]
    assert valid_s == [15.0] * (len(valid_s) - 1) + [None]
    assert len(valid_s) >= 3
    assert bench.records[0].open_event_ids is None


def test_a_record_names_the_events_that_are_open():
    bench, player = Bench(), Player()
    bench.book.open("cam", buffer=bench.buffer, stream=player.stream)
    player.play(*[red(i) for i in range(10)])
    bench.book.finish("cam")
    (new,) = [
        one for result in player.results for one in to_models(result) if type(one) is EventRecord
    ]
    named = [record.open_event_ids for record in bench.records[1:]]
    assert named == [(), (new.event_id,)]
    player.end()
    assert player.stream.open_events == ()
