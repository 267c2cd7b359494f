"""Records on their way to one sink: when they have arrived, and what was lost before."""

import errno
import os
import threading
import time
from dataclasses import dataclass, field

import pytest

from connectors.errors import SinkUnreachableError
from connectors.record import Record, Topic
from pipeline.engine.delivery import Delivery
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import RecordLog
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import GateSink, LoggedSink, opened, status, stop, value_of


class Volatile(LoggedSink):
    """Never makes anything durable."""

    def flush(self):
        raise SinkUnreachableError("gate", "away")


def test_what_was_written_and_never_flushed_is_kept_for_the_next_run(make_outbox):
    sink = opened(kind=Volatile)
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: value_of(metrics, "sink_errors_total", sink="sink-0"))
    assert outbox.close(2.0)["sink-0"].num_kept == 1
    assert sink.is_closed


class Console(GateSink):
    is_durable = False

    def flush(self):
        raise SinkUnreachableError("gate", "away")


def test_a_best_effort_sink_that_cannot_flush_gets_the_next_records_too(make_outbox):
    sink = opened(kind=Console)
    outbox, *_ = make_outbox(sink)
    outbox.start()
    for number in range(2):
        outbox.put(status(number))
        wait_until(lambda number=number: f"s{number}" in sink.keys)
    assert not stop(outbox)["sink-0"].is_failure
    assert sink.keys == ["s0", "s1"]


class Unclosable(Console):
    """Holds something that no disk takes."""

    def close(self):
        raise SinkUnreachableError("gate", "away")


def test_a_sink_that_cannot_be_closed_is_told_without_a_traceback(make_outbox, caplog):
    outbox, *_ = make_outbox(opened(kind=Unclosable))
    outbox.start()
    assert "away" in stop(outbox)["sink-0"].text
    assert not any(record.exc_info for record in caplog.records)


def test_records_whose_folder_was_removed_are_not_said_to_be_kept(make_outbox, tmp_path):
    outbox, *_ = make_outbox(opened(kind=LoggedSink, is_away=True))
    outbox.start()
    outbox.put(status(0))
    wait_until(lambda: list((tmp_path / "state").rglob("*.seg")))
    (tmp_path / "state").rename(tmp_path / "gone")  # at once, whatever is being written there
    outbox.put(status(1))
    left = outbox.close(2.0)["sink-0"]
    assert (left.num_kept, left.is_failure) == (None, True)
    assert left.text.endswith(
        f"0 records are kept in {tmp_path / 'state'} for the next run, 2 are lost"
    )


def test_records_that_the_log_found_damaged_are_counted(make_outbox, tmp_path):
    first, *_ = make_outbox(opened(kind=LoggedSink, is_away=True))
    first.start()
    for number in range(3):
        first.put(status(number))
    assert first.close()["sink-0"].num_kept == 3
    [segment] = [
        path
        for path in (tmp_path / "state").rglob("*")
        if path.is_file() and b'"s1"' in path.read_bytes()
    ]
    segment.write_bytes(segment.read_bytes().replace(b'"s1"', b'"x1"', 1))
    sink = opened(kind=LoggedSink)
    second, metrics, _ = make_outbox(sink)
    second.start()
    wait_until(lambda: sink.keys == ["s0", "s2"])
    stop(second)
    counted = [value_of(metrics, "log_corrupt_total", kind=kind.value) for kind in Kind]
    assert sum(filter(None, counted)) == 1


def test_records_that_the_log_sheds_on_a_full_disk_are_counted_by_sink(make_outbox, monkeypatch):
    sink = LoggedSink()
    outbox, metrics, _ = make_outbox(sink, memory_bytes=64 * 1024)
    outbox.start()

    def fail(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for number in range(600):
        outbox.put(status(number))

    def num_shed():
        counted = [value_of(metrics, "shed_total", sink="sink-0", kind=kind.value) for kind in Kind]
        return sum(filter(None, counted))

    wait_until(num_shed)
    sink.gate.set()
    outbox.close()
    assert len(sink.keys) + num_shed() <= 600


def test_bugs_of_ours_are_told_with_the_sink_and_nothing_is_lost(make_outbox, monkeypatch):
    sink, read = opened(), RecordLog.read
    outbox, metrics, _ = make_outbox(sink)
    is_broken = threading.Event()

    def fail(*arguments, **options):
        if not is_broken.is_set():
            raise ZeroDivisionError("a bug")
        return read(*arguments, **options)

    monkeypatch.setattr(RecordLog, "read", fail)
    outbox.start()
    outbox.put(status())
    wait_until(lambda: value_of(metrics, "sink_errors_total", sink="sink-0"))
    is_broken.set()
    wait_until(lambda: sink.keys == ["s0"])
    assert stop(outbox) == {}


def test_a_refused_record_is_let_go_of_once_its_letter_is_on_disk(make_outbox, monkeypatch):
    confirm, told = RecordLog.confirm, []

    def note(log, kind, consumer, seq):
        told.append(log.is_written(Kind.ALERTS, log.last_seq(Kind.ALERTS)))
        confirm(log, kind, consumer, seq)

    monkeypatch.setattr(RecordLog, "confirm", note)
    outbox, *_ = make_outbox(opened(kind=LoggedSink, refuses=frozenset({"s0"})))
    outbox.start()
    outbox.put(status())
    wait_until(lambda: len(told) == 2)  # the record, and its letter, which is refused too
    assert stop(outbox) == {}
    assert told == [True, True]


@dataclass
class Noting(GateSink):
    """Notes when it was given how much."""

    noted: list = field(default_factory=list)

    def write(self, records):
        self.noted.append((time.monotonic(), len(records)))
        return super().write(records)


def letter(number):
    """A record of a megabyte."""
    value = bytes(1_000_000)
    return Delivery(
        dead_letter=Record(topic=Topic.DLQ, key=f"s{number}", value=value, timestamp_ms=0)
    )


@pytest.mark.parametrize(("make", "num", "most"), [(status, 700, 500), (letter, 9, 4)])
def test_a_sink_that_was_held_up_is_given_a_bounded_part_at_once(make, num, most, make_outbox):
    sink = Noting()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(make(0))
    wait_until(lambda: sink.noted)  # it is held up with this one alone
    for number in range(1, num + 1):
        outbox.put(make(number))
    wait_until(lambda: outbox.num_waiting == num + 1)
    sink.gate.set()
    assert stop(outbox) == {}
    assert sink.keys == [f"s{number}" for number in range(num + 1)]
    assert max(size for _, size in sink.noted) == most


def test_a_sink_whose_writes_cost_much_is_left_alone_between_two(make_outbox):
    sink = opened(kind=type("Paced", (Noting,), {"pace_s": 0.3}))
    outbox, *_ = make_outbox(sink)
    outbox.start()
    for number in range(2):
        outbox.put(status(number))
        wait_until(lambda number=number: len(sink.keys) == number + 1)
    (first_s, _), (second_s, _) = sink.noted
    assert second_s - first_s >= sink.pace_s
    stop(outbox)


def test_the_end_does_not_wait_for_a_sink_whose_writes_cost_much(make_outbox):
    sink = type("Paced", (Noting,), {"pace_s": 60.0})()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    for number in range(3):
        outbox.put(status(number))
        assert sink.entered.wait(30)  # with the first alone; the others come meanwhile
    wait_until(lambda: outbox.num_waiting == 3)
    outbox.request_stop()
    assert outbox.join(1.0) == ["sink-0"]
    sink.gate.set()
    assert outbox.join(30) == []
    assert len(sink.keys) == 3
