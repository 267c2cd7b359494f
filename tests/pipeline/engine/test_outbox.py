"""What all sinks together promise: nothing lost, nobody held up, nothing claimed too early."""

import errno
import json
import logging
import os
import threading
import time

import pytest

from connectors.errors import NotWritableError, SinkUnreachableError
from connectors.memory import MemorySink
from connectors.record import Topic
from pipeline.engine import outbox as module
from pipeline.engine.delivery import Delivery
from pipeline.engine.log.record_log import RecordLog
from pipeline.engine.state.log_mark import LogMark
from pipeline.observe.health import SinkState
from pipeline.records.schema import StatusRecord
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import GateSink, LoggedSink, opened, status, stop, value_of
from tests.pipeline.fakes import START
from tests.pipeline.streams.player import Player, red


def test_deliveries_are_numbered_and_written_in_order(make_outbox):
    sink = MemorySink()
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    numbers = [outbox.put(status(number)) for number in range(20)]
    assert stop(outbox) == {}
    assert numbers == list(range(1, 21))
    assert [record.key for record in sink.records] == [f"s{i}" for i in range(20)]
    topic = Topic.STATUS.value
    assert value_of(metrics, "records_delivered_total", sink="sink-0", topic=topic) == 20


def test_nothing_is_acknowledged_before_every_sink_has_confirmed_it(make_outbox):
    quick, slow = MemorySink(), GateSink()
    outbox, *_ = make_outbox(quick, slow)
    outbox.start()
    for number in range(3):
        outbox.put(status(number))
    wait_until(lambda: len(quick.records) == 3)
    assert outbox.acknowledged == 0
    slow.gate.set()
    wait_until(lambda: outbox.acknowledged == 3)
    assert len(slow.keys) == 3
    stop(outbox)


def test_what_lies_in_the_log_is_acknowledged_while_its_sink_is_away(make_outbox):
    sink = opened(kind=LoggedSink, is_away=True)
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    outbox.put(status(0))
    wait_until(lambda: outbox.acknowledged == 1)
    assert sink.keys == []
    assert value_of(metrics, "sink_waiting", sink="sink-0") == 1


def test_without_sinks_everything_is_acknowledged_at_once(make_outbox):
    outbox, *_ = make_outbox()
    outbox.start()
    number = outbox.put(status())
    wait_until(lambda: outbox.acknowledged == number == 1)


@pytest.mark.parametrize("kind", [GateSink, LoggedSink])
def test_a_sink_that_hangs_holds_up_neither_the_engine_nor_another_sink(kind, make_outbox):
    hanging, healthy = kind(), MemorySink()
    outbox, *_ = make_outbox(hanging, healthy, queue=1)
    outbox.start()
    for number in range(500):  # would never return
        outbox.put(status(number))
    wait_until(lambda: len(healthy.records) == 500)
    assert hanging.keys == []
    hanging.gate.set()
    wait_until(lambda: len(hanging.keys) == 500)
    assert hanging.keys == [f"s{number}" for number in range(500)]


@pytest.mark.parametrize("kind", [GateSink, LoggedSink])
def test_a_sink_that_was_away_gets_everything_in_order_and_once(kind, make_outbox, caplog):
    caplog.set_level(logging.INFO, "maskstream")
    sink = opened(kind=kind, is_away=True)
    outbox, metrics, health = make_outbox(sink, down_s=1e-6)
    outbox.start()
    for number in range(50):
        outbox.put(status(number))
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.DOWN)
    assert "away" in str(health.readiness().reasons)
    assert "away" in outbox.errors["sink-0"]
    assert value_of(metrics, "sink_state", sink="sink-0", state="down") == 1
    delivered = {"sink": "sink-0", "topic": Topic.STATUS.value}
    assert not value_of(metrics, "records_delivered_total", **delivered)
    sink.is_away = False
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.UP)
    stop(outbox)
    assert sink.keys == [f"s{number}" for number in range(50)]
    assert value_of(metrics, "records_delivered_total", **delivered) == 50
    told = [r.getMessage() for r in caplog.records if getattr(r, "sink", None) == "sink-0"]
    assert told[0] == "opened"
    assert "away" in told[1]
    assert told[-1].startswith("works again after")
    assert len(told) <= 5  # not one a try


def test_a_slow_sink_is_behind_without_having_failed(make_outbox):
    sink = GateSink()
    outbox, metrics, health = make_outbox(sink, behind_s=1e-6)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.BEHIND)
    assert value_of(metrics, "sink_oldest_record_seconds", sink="sink-0") > 0
    sink.gate.set()
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.UP)
    wait_until(lambda: value_of(metrics, "sink_oldest_record_seconds", sink="sink-0") == 0)


def test_what_a_sink_did_not_get_is_delivered_by_the_next_run(make_outbox):
    sink = opened(kind=LoggedSink, is_away=True)
    outbox, *_ = make_outbox(sink)
    outbox.start()
    for number in range(5):
        outbox.put(status(number))
    left = stop(outbox)
    assert "5 records are kept" in left["sink-0"].text
    assert (left["sink-0"].num_kept, left["sink-0"].is_failure) == (5, False)
    assert sink.is_closed
    back = opened(kind=LoggedSink)
    outbox, *_ = make_outbox(back)
    outbox.start()
    wait_until(lambda: back.keys == [f"s{number}" for number in range(5)])
    assert stop(outbox) == {}


def test_records_of_a_sink_without_a_log_are_said_to_be_lost(make_outbox):
    outbox, *_ = make_outbox(opened(is_away=True))
    outbox.start()
    outbox.put(status())
    outbox.request_stop()
    left = outbox.close()["sink-0"]
    assert ("1 did not arrive" in left.text, left.is_failure) == (True, True)


def test_a_sink_that_hangs_at_the_end_is_interrupted(make_outbox):
    sink = GateSink()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(status())
    assert sink.entered.wait(30)
    outbox.request_stop()
    assert outbox.join(0.0) == ["sink-0"]
    outbox.close()
    assert sink.is_closed


def test_an_event_does_not_wait_for_the_next_round_of_the_log(make_outbox, monkeypatch):
    monkeypatch.setattr(module, "_SYNC_S", 60.0)
    sink = opened(kind=LoggedSink)
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: sink.keys == ["s0"])
    stop(outbox)


@pytest.fixture
def hanging_disk(monkeypatch):
    """Lets every fsync hang from its call on; the event that it returns tells of the first."""
    is_syncing, may_end, fsync = threading.Event(), threading.Event(), os.fsync

    def hang(fd):
        is_syncing.set()
        may_end.wait(30)
        fsync(fd)

    def begin():
        monkeypatch.setattr(os, "fsync", hang)
        return is_syncing

    yield begin
    may_end.set()


def test_a_disk_that_hangs_is_seen_and_holds_up_no_end(make_outbox, hanging_disk):
    sink, other = opened(kind=LoggedSink), MemorySink()
    outbox, _, health = make_outbox(sink, other, behind_s=1e-6)
    is_hanging = hanging_disk()
    outbox.start()
    outbox.put(status())
    assert is_hanging.wait(30)
    wait_until(lambda: len(other.records) == 1)
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.BEHIND)
    assert outbox.acknowledged == 0
    outbox.request_stop()
    began_s = time.monotonic()
    left = outbox.close(0.5)
    assert time.monotonic() - began_s < 10.0
    assert "hangs" in left["sink-0"].text
    assert "sink-1" not in left


def test_what_a_full_disk_does_not_keep_at_the_end_is_said_to_be_lost(make_outbox, monkeypatch):
    sink = opened(kind=LoggedSink, is_away=True)
    outbox, _, health = make_outbox(sink)
    outbox.start()

    def fail(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for number in range(5):
        outbox.put(status(number))
    wait_until(sink.entered.is_set)  # from memory: the disk is known to fail
    wait_until(lambda: "the log cannot be written" in str(health.readiness().reasons))
    outbox.request_stop()
    left = outbox.close()["sink-0"]
    assert "0 records are kept" in left.text
    assert "5 are lost" in left.text
    assert (left.num_kept, left.is_failure) == (None, True)


def test_bugs_in_the_log_stop_neither_its_housekeeping_nor_a_feed(make_outbox, monkeypatch, caplog):
    sink = opened(kind=LoggedSink)
    outbox, *_ = make_outbox(sink)
    num_bugs = dict.fromkeys(("sync", "read", "append"), 0)

    def once(name):
        method = getattr(RecordLog, name)

        def act(*arguments, **options):
            num_bugs[name] += 1
            if num_bugs[name] == 1:
                raise ZeroDivisionError(f"a bug in {name}")
            return method(*arguments, **options)

        monkeypatch.setattr(RecordLog, name, act)

    for name in num_bugs:
        once(name)
    outbox.start()
    for number in range(3):
        outbox.put(status(number))
    wait_until(lambda: sink.keys == ["s1", "s2"])
    for name in num_bugs:
        assert f"a bug in {name}" in caplog.text
    assert stop(outbox) == {}


def test_a_console_that_nobody_reads_holds_up_no_commit(make_outbox):
    class Console(GateSink):
        is_durable = False

    console, good = Console(), MemorySink()
    outbox, *_ = make_outbox(console, good)
    outbox.start()
    outbox.put(status())
    assert console.entered.wait(30)
    wait_until(lambda: outbox.acknowledged == 1)
    console.gate.set()
    stop(outbox)


def test_a_refused_record_becomes_a_dead_letter_and_the_others_go_on(make_outbox):
    odd, other = opened(refuses=frozenset({"s1"})), MemorySink()
    outbox, metrics, _ = make_outbox(odd, other)
    outbox.start()
    for number in range(3):
        outbox.put(status(number))
    wait_until(lambda: other.of(Topic.DLQ))
    stop(outbox)
    assert odd.keys == ["s0", "s2"]  # the letter is about s1 too, and refused without a letter
    assert [record.key for record in other.of(Topic.STATUS)] == ["s0", "s1", "s2"]
    (letter,) = other.of(Topic.DLQ)
    assert letter.value == other.of(Topic.STATUS)[1].value
    assert dict(letter.headers)["maskstream_error_reason"] == b"odd"
    assert value_of(metrics, "records_refused_total", sink="sink-0") == 2


class Buggy(GateSink):
    def write(self, records):
        if any(record.key == "s5" and record.topic is Topic.STATUS for record in records):
            raise ZeroDivisionError("a bug")
        return super().write(records)


def test_a_record_that_a_sink_raises_on_harms_itself_alone(make_outbox):
    sink = opened(kind=Buggy)
    outbox, *_ = make_outbox(sink)
    for number in range(12):
        outbox.put(status(number))
    outbox.start()
    wait_until(lambda: any(record.topic is Topic.DLQ for record in sink.records))
    stop(outbox)
    kept = [record.key for record in sink.records if record.topic is Topic.STATUS]
    assert kept == [f"s{number}" for number in range(12) if number != 5]


def test_a_record_that_cannot_be_encoded_becomes_a_dead_letter(make_outbox):
    sink = MemorySink()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    bad = StatusRecord.model_construct(stream_id="bad", state="odd", since="never", time=START)
    for delivery in (status(0), Delivery(record=bad), status(2)):
        outbox.put(delivery)
    assert stop(outbox) == {}
    assert [(record.key, record.topic) for record in sink.records] == [
        ("s0", Topic.STATUS), ("bad", Topic.DLQ), ("s2", Topic.STATUS)
    ]  # fmt: skip


@pytest.mark.parametrize("is_durable", [False, True])
def test_readiness_needs_the_sinks_whose_records_must_arrive(is_durable, make_outbox):
    sink = opened(is_away=True)
    sink.is_durable = is_durable
    outbox, metrics, health = make_outbox(sink, down_s=1e-6)
    outbox.start()
    outbox.put(status())
    health.beat()
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.DOWN)
    assert health.readiness().is_good is not is_durable
    shed = value_of(metrics, "shed_total", sink="sink-0", kind="records")
    assert (shed == 1) is not is_durable


class BrokenSink(GateSink):
    def open(self):
        raise NotWritableError("folder", "no right to write")


def test_a_sink_that_cannot_be_opened_stops_the_start_and_closes_the_others(make_outbox):
    good = MemorySink()
    outbox, *_ = make_outbox(good, BrokenSink())
    with pytest.raises(NotWritableError):
        outbox.start()
    assert not good.is_open


def test_a_sink_that_hangs_is_down_and_back_up_when_it_goes_on(make_outbox):
    sink = GateSink()
    outbox, _, health = make_outbox(sink, behind_s=1e-6, down_s=1e-3)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.DOWN)
    assert "has confirmed nothing for" in outbox.errors["sink-0"]
    sink.gate.set()
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.UP)
    assert health.readiness().sinks["sink-0"].error is None


class Choking(GateSink):
    """Has a bug with every record until its gate is open."""

    def write(self, records):
        self.entered.set()
        if not self.gate.is_set():
            raise RuntimeError("can't start new thread")
        return super().write(records)


def test_a_bug_with_all_records_blames_none_of_them(make_outbox):
    sink = Choking()
    outbox, metrics, _ = make_outbox(sink)
    for number in range(6):
        outbox.put(status(number))
    outbox.start()
    assert sink.entered.wait(30)
    wait_until(lambda: value_of(metrics, "sink_errors_total", sink="sink-0"))
    sink.gate.set()
    stop(outbox)
    assert sink.keys == [f"s{number}" for number in range(6)]
    assert not value_of(metrics, "records_refused_total", sink="sink-0")


class Forgetful(GateSink):
    """Fails to flush once."""

    num_flushes = 0

    def flush(self):
        self.num_flushes += 1
        if self.num_flushes == 1:
            raise SinkUnreachableError("gate", "away")


def test_a_failed_flush_writes_nothing_twice(make_outbox):
    sink = opened(kind=Forgetful)
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: outbox.acknowledged == 1)
    assert (sink.keys, sink.num_flushes) == (["s0"], 2)


def test_what_a_best_effort_sink_leaves_out_does_not_count_as_delivered(make_outbox):
    sink = opened(is_away=True)
    sink.is_durable = False
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    outbox.put(status())
    assert stop(outbox)["sink-0"].is_failure
    topic = Topic.STATUS.value
    assert value_of(metrics, "shed_total", sink="sink-0", kind="records") == 1
    assert not value_of(metrics, "records_delivered_total", sink="sink-0", topic=topic)


class Narrow(MemorySink):
    def write(self, records):
        return super().write([self.shrink(record) or record for record in records])


def test_a_sink_is_told_how_masks_can_be_left_out(make_outbox):
    sink = Narrow()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(Delivery(result=Player().play(red(0))))
    stop(outbox)
    [record] = [one for one in sink.records if one.topic is Topic.MASKLETS]
    assert json.loads(record.value)["masks_omitted"]


def test_alerts_stay_in_the_log_until_they_are_part_of_the_state(make_outbox):
    sink = MemorySink()
    outbox, *_ = make_outbox(sink, keeps_state=True)
    outbox.start()
    for number in range(5):
        outbox.put(status(number))
    before, after = LogMark(), LogMark()
    outbox.put(Delivery(mark=before))
    outbox.put(status(5))
    outbox.put(Delivery(mark=after))
    wait_until(lambda: after.alerts_seq is not None)
    assert (before.alerts_seq, after.alerts_seq) == (5, 6)
    wait_until(lambda: outbox.are_alerts_safe(6))
    assert not outbox.are_alerts_safe(7)
    outbox.confirm_state(2)
    stop(outbox)
    again, *_ = make_outbox(sink, keeps_state=True)
    assert [record.key for record in again.logged_alerts()] == ["s2", "s3", "s4", "s5"]
    again.close()
    assert len(sink.records) == 6


def test_a_bug_in_the_log_is_tried_again_after_a_rest_that_an_end_breaks_off(
    make_outbox, monkeypatch
):
    tried, is_again = [], threading.Event()

    def fail(_log):
        tried.append(1)
        if len(tried) == 2:
            is_again.set()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "_REST_S", 60.0)
    monkeypatch.setattr(RecordLog, "sync", fail)
    outbox, *_ = make_outbox(opened())
    outbox.start()
    assert not is_again.wait(0.5)  # twelve times as long as without a rest
    began_s = time.monotonic()
    outbox.put(status())
    assert stop(outbox) == {}
    assert time.monotonic() - began_s < 4  # it does not hold up a close, which waits for 5 s
    assert len(tried) == 1


def test_a_close_leaves_no_thread_behind_though_nobody_asked_for_it_before(
    make_outbox, monkeypatch
):
    monkeypatch.setattr(module, "_SYNC_S", 60.0)
    monkeypatch.setattr(module, "_JUDGE_S", 60.0)
    before = set(threading.enumerate())
    outbox, *_ = make_outbox(opened(kind=LoggedSink))
    outbox.start()
    outbox.close(10.0)
    assert set(threading.enumerate()) <= before
