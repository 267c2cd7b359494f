"""Sinks that are slow, fail for a while or fail for good."""

import logging
import threading
from dataclasses import dataclass, field

import pytest

from connectors.base import RecordSink
from connectors.errors import NotWritableError, SinkUnreachableError
from connectors.memory import MemorySink
from pipeline.clock import ManualClock
from pipeline.engine.delivery import Delivery
from pipeline.engine.outbox import Outbox, name_sinks
from pipeline.observe.health import Health, SinkState
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StatusRecord
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.fakes import START


def make_delivery(number=0, **fields):
    status = StatusRecord(stream_id=f"s{number}", state="running", since=START, time=START)
    return Delivery(deployment="d", status=status, **fields)


@dataclass
class GateSink(RecordSink):
    """Writes only while its gate is open; fails the first ``num_failures`` times."""

    gate: threading.Event = field(default_factory=threading.Event)
    num_failures: int = 0
    num_flush_failures: int = 0
    keys: list[str] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    is_closed: bool = False

    def open(self):
        pass

    def write(self, records):
        self.entered.set()
        self.gate.wait(30)
        if self.num_failures:
            self.num_failures -= 1
            raise SinkUnreachableError("gate", "away")
        self.keys += [record.key for record in records]

    def flush(self):
        if self.num_flush_failures:
            self.num_flush_failures -= 1
            raise SinkUnreachableError("gate", "away")

    def close_stream(self, stream_id):
        self.keys.append(f"{stream_id} closed")

    def close(self):
        self.is_closed = True


def make_outbox(*sinks, capacity=2, retry_s=30.0):
    metrics = Metrics(tuple)
    health = Health(ManualClock(), stall_s=60)
    named = {f"sink-{i}": sink for i, sink in enumerate(sinks)}
    fields = {"capacity": capacity, "retry_s": retry_s, "metrics": metrics, "health": health}
    return Outbox(named, **fields), metrics, health


def value_of(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"maskstream_{name}", labels)


def stop(outbox):
    outbox.request_stop()
    assert outbox.join(30.0) == []


def test_deliveries_are_numbered_and_written_in_order():
    sink = MemorySink()
    outbox, metrics, _ = make_outbox(sink, capacity=4)
    outbox.start()
    numbers = [outbox.put(make_delivery(number)) for number in range(20)]
    stop(outbox)
    assert numbers == list(range(1, 21))
    assert [record.key for record in sink.records] == [f"s{i}" for i in range(20)]
    written = value_of(
        metrics, "records_written_total", sink="sink-0", topic="maskstream.status.v1"
    )
    assert written == 20


def test_nothing_is_acknowledged_before_every_sink_was_flushed():
    quick, slow = MemorySink(), GateSink()
    outbox, *_ = make_outbox(quick, slow, capacity=8)
    outbox.start()
    for number in range(3):
        outbox.put(make_delivery(number))
    wait_until(lambda: len(quick.records) == 3)
    assert (outbox.acknowledged, quick.num_flushes) == (0, 0)
    outbox.request_flush()
    wait_until(lambda: quick.num_flushes == 1)
    assert outbox.acknowledged == 0
    slow.gate.set()
    wait_until(lambda: outbox.acknowledged == 3)
    assert len(slow.keys) == 3
    outbox.put(make_delivery(3))
    assert outbox.acknowledged == 3
    stop(outbox)


def test_without_sinks_everything_is_acknowledged_at_once():
    outbox, *_ = make_outbox()
    assert outbox.put(make_delivery()) == outbox.acknowledged == 1


def test_a_sink_that_fails_to_flush_acknowledges_nothing():
    sink = GateSink(num_flush_failures=10**6)
    sink.gate.set()
    outbox, *_ = make_outbox(sink, retry_s=0.0)
    outbox.start()
    outbox.put(make_delivery())
    outbox.request_flush()
    wait_until(lambda: outbox.errors)
    assert outbox.acknowledged == 0
    stop(outbox)


def test_a_slow_sink_sheds_only_what_may_be_shed():
    sink = GateSink()
    outbox, metrics, _ = make_outbox(sink, capacity=2)
    outbox.start()
    outbox.put(make_delivery(0))
    assert sink.entered.wait(30)
    for number in range(1, 6):
        outbox.put(make_delivery(number, can_shed=True))
    sink.gate.set()
    outbox.put(make_delivery(6))
    stop(outbox)
    assert sink.keys == ["s0", "s1", "s2", "s6"]
    assert value_of(metrics, "results_shed_total", sink="sink-0") == 3


def test_a_sink_that_is_away_for_a_while_loses_nothing():
    sink = GateSink(num_failures=2)
    sink.gate.set()
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    outbox.put(make_delivery(0))
    wait_until(lambda: sink.keys == ["s0"])
    stop(outbox)
    assert value_of(metrics, "sink_errors_total", sink="sink-0") == 2
    assert value_of(metrics, "sink_state", sink="sink-0", state="up") == 1


def test_a_sink_is_behind_while_it_is_tried_again_and_says_when_it_is_back(caplog):
    caplog.set_level(logging.INFO, "maskstream")
    sink = GateSink(num_failures=10**6)
    sink.gate.set()
    outbox, metrics, health = make_outbox(sink)
    outbox.start()
    outbox.put(make_delivery(0))
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.BEHIND)
    assert "away" in health.readiness().sinks["sink-0"].error
    assert value_of(metrics, "sink_state", sink="sink-0", state="behind") == 1
    sink.num_failures = 0
    wait_until(lambda: health.readiness().sinks["sink-0"].state is SinkState.UP)
    stop(outbox)
    told = [(record.sink, record.getMessage().split(" after")[0]) for record in caplog.records]
    assert (told[0], told[-1]) == (("sink-0", "opened"), ("sink-0", "works again"))


@pytest.mark.parametrize("is_durable", [False, True])
def test_readiness_needs_the_sinks_whose_records_must_arrive(is_durable):
    sink = GateSink(num_failures=10**6)
    sink.gate.set()
    sink.is_durable = is_durable
    outbox, _, health = make_outbox(sink, retry_s=0.0)
    outbox.start()
    outbox.put(make_delivery(0))
    stop(outbox)
    health.beat()
    assert health.readiness().sinks["sink-0"].state is SinkState.DOWN
    assert health.readiness().is_good is not is_durable


def test_a_sink_that_stays_away_is_given_up_and_the_others_go_on():
    bad, good = GateSink(num_failures=10**6), MemorySink()
    bad.gate.set()
    outbox, metrics, health = make_outbox(bad, good, retry_s=0.0)
    outbox.start()
    for number in range(10):
        outbox.put(make_delivery(number))
    stop(outbox)
    assert outbox.errors.keys() == {"sink-0"}
    assert not outbox.is_useless
    assert len(good.records) == 10
    assert bad.is_closed
    assert value_of(metrics, "sink_state", sink="sink-0", state="down") == 1
    assert "away" in str(health.readiness().reasons)


def test_retries_are_cut_short_when_the_run_is_to_stop():
    sink = GateSink(num_failures=10**6)
    sink.gate.set()
    outbox, *_ = make_outbox(sink, capacity=1, retry_s=3600.0)
    outbox.start()
    for number in range(4):
        outbox.put(make_delivery(number), is_stopping=lambda: True)
    stop(outbox)
    assert "away" in outbox.errors["sink-0"]


def test_a_sink_that_hangs_is_left_behind():
    sink = GateSink()
    outbox, *_ = make_outbox(sink, capacity=1)
    outbox.start()
    outbox.put(make_delivery())
    assert sink.entered.wait(30)
    outbox.request_stop()
    assert outbox.join(0.0) == ["sink-0"]
    sink.gate.set()
    assert outbox.join(30.0) == []


def test_a_result_that_cannot_be_encoded_is_dropped_and_the_sink_goes_on(monkeypatch):
    sink = MemorySink()
    outbox, metrics, _ = make_outbox(sink, capacity=4)
    bad = make_delivery(1)
    encode = Delivery.records
    monkeypatch.setattr(
        Delivery, "records", lambda self: StatusRecord() if self is bad else encode(self)
    )
    outbox.start()
    for delivery in (make_delivery(0), bad, make_delivery(2)):
        outbox.put(delivery)
    stop(outbox)
    assert [record.key for record in sink.records] == ["s0", "s2"]
    assert not outbox.errors
    assert value_of(metrics, "sink_errors_total", sink="sink-0") == 1


def test_a_stream_that_is_gone_is_closed_behind_its_last_result():
    sink = GateSink()
    sink.gate.set()
    outbox, *_ = make_outbox(sink, capacity=4)
    outbox.start()
    outbox.put(make_delivery(0))
    outbox.put(Delivery(deployment="d", closed_stream="s0"))
    stop(outbox)
    assert sink.keys == ["s0", "s0 closed"]


class BrokenSink(GateSink):
    def open(self):
        raise NotWritableError("folder", "no right to write")


def test_a_sink_that_cannot_be_opened_stops_the_start_and_closes_the_others():
    good = MemorySink()
    outbox, *_ = make_outbox(good, BrokenSink())
    with pytest.raises(NotWritableError):
        outbox.start()
    assert not good.is_open


def test_names_are_unique():
    assert name_sinks(["jsonl", "video", "jsonl", "jsonl"]) == [
        "jsonl", "video", "jsonl-2", "jsonl-3"
    ]  # fmt: skip
