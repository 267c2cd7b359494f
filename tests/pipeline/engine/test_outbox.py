"""Sinks that are slow, fail for a while or fail for good."""

import threading
from dataclasses import dataclass, field

import pytest

from connectors.base import RecordSink
from connectors.errors import NotWritableError, SinkUnreachableError
from connectors.memory import MemorySink
from pipeline.engine.delivery import Delivery
from pipeline.engine.outbox import Publisher, name_sinks
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StatusRecord
from tests.pipeline.fakes import START


def make_delivery(number=0, **fields):
    status = StatusRecord(stream_id=f"s{number}", state="running", time=START)
    return Delivery(deployment="d", status=status, **fields)


@dataclass
class GateSink(RecordSink):
    """Writes only while its gate is open; fails the first ``num_failures`` times."""

    gate: threading.Event = field(default_factory=threading.Event)
    num_failures: int = 0
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
        pass

    def close(self):
        self.is_closed = True


def make_publisher(*sinks, capacity=2, retry_s=30.0):
    metrics = Metrics()
    named = {f"sink-{i}": sink for i, sink in enumerate(sinks)}
    return Publisher(named, capacity=capacity, retry_s=retry_s, metrics=metrics), metrics


def value_of(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"maskstream_{name}", labels)


def test_flush_returns_when_all_is_written_in_order():
    sink = MemorySink()
    publisher, metrics = make_publisher(sink, capacity=4)
    publisher.start()
    for number in range(20):
        publisher.put(make_delivery(number))
    assert publisher.flush()
    assert [record.key for record in sink.records] == [f"s{i}" for i in range(20)]
    assert sink.num_flushes == 1
    publisher.stop()
    written = value_of(
        metrics, "records_written_total", sink="sink-0", topic="maskstream.status.v1"
    )
    assert written == 20


def test_a_slow_sink_sheds_only_what_may_be_shed():
    sink = GateSink()
    publisher, metrics = make_publisher(sink, capacity=2)
    publisher.start()
    publisher.put(make_delivery(0))
    assert sink.entered.wait(30)
    for number in range(1, 6):
        publisher.put(make_delivery(number, can_shed=True))
    sink.gate.set()
    publisher.put(make_delivery(6))
    publisher.stop()
    assert sink.keys == ["s0", "s1", "s2", "s6"]
    assert value_of(metrics, "results_shed_total", sink="sink-0") == 3


def test_a_sink_that_is_away_for_a_while_loses_nothing():
    sink = GateSink(num_failures=2)
    sink.gate.set()
    publisher, metrics = make_publisher(sink)
    publisher.start()
    publisher.put(make_delivery(0))
    assert publisher.flush()
    publisher.stop()
    assert sink.keys == ["s0"]
    assert value_of(metrics, "sink_errors_total", sink="sink-0") == 2


def test_a_sink_that_stays_away_is_given_up_and_the_others_go_on():
    bad, good = GateSink(num_failures=10**6), MemorySink()
    bad.gate.set()
    publisher, _ = make_publisher(bad, good, retry_s=0.0)
    publisher.start()
    for number in range(10):
        publisher.put(make_delivery(number))
    assert not publisher.flush()
    publisher.stop()
    assert publisher.errors.keys() == {"sink-0"}
    assert not publisher.is_useless
    assert len(good.records) == 10
    assert bad.is_closed


def test_a_result_that_cannot_be_encoded_is_dropped_and_the_sink_goes_on(monkeypatch):
    sink = MemorySink()
    publisher, metrics = make_publisher(sink, capacity=4)
    bad = make_delivery(1)
    encode = Delivery.records
    monkeypatch.setattr(
        Delivery, "records", lambda self: StatusRecord() if self is bad else encode(self)
    )
    publisher.start()
    for delivery in (make_delivery(0), bad, make_delivery(2)):
        publisher.put(delivery)
    assert publisher.flush()
    publisher.stop()
    assert [record.key for record in sink.records] == ["s0", "s2"]
    assert not publisher.errors
    assert value_of(metrics, "sink_errors_total", sink="sink-0") == 1


class BrokenSink(GateSink):
    def open(self):
        raise NotWritableError("folder", "no right to write")


def test_a_sink_that_cannot_be_opened_stops_the_start_and_closes_the_others():
    good = MemorySink()
    publisher, _ = make_publisher(good, BrokenSink())
    with pytest.raises(NotWritableError):
        publisher.start()
    assert not good.is_open


def test_names_are_unique():
    assert name_sinks(["jsonl", "video", "jsonl", "jsonl"]) == [
        "jsonl", "video", "jsonl-2", "jsonl-3"
    ]  # fmt: skip
