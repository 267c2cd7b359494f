"""Sinks that do what a test tells them, and outboxes over them."""

import threading
from dataclasses import dataclass, field

from connectors.base import FrameSink, PictureSink, RecordSink, Refused
from connectors.errors import SinkUnreachableError
from pipeline.engine.delivery import Delivery
from pipeline.records.schema import StatusRecord
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.fakes import START


def status(number=0):
    return Delivery(
        record=StatusRecord(stream_id=f"s{number}", state="running", since=START, time=START)
    )


@dataclass
class GateSink(RecordSink):
    """Writes only while its gate is open; is away while ``is_away``."""

    gate: threading.Event = field(default_factory=threading.Event)
    is_away: bool = False
    records: list = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    is_closed: bool = False
    refuses: frozenset = frozenset()

    def open(self):
        pass

    def write(self, records):
        self.entered.set()
        self.gate.wait(30)
        if self.is_away:
            raise SinkUnreachableError("gate", "away")
        refused = [one for one in records if one.key in self.refuses]
        self.records += [one for one in records if one not in refused]
        return [Refused(record=one, reason="odd") for one in refused]

    def flush(self):
        pass

    def interrupt(self):
        self.is_away = True
        self.gate.set()

    def close(self):
        self.is_closed = True

    @property
    def keys(self):
        return [record.key for record in self.records]


class LoggedSink(GateSink):
    needs_log = True


def opened(**fields):
    sink = fields.pop("kind", GateSink)(**fields)
    sink.gate.set()
    return sink


@dataclass
class FilmSink(PictureSink):
    """Notes the frames drawn; the gate holds it up."""

    gate: threading.Event = field(default_factory=threading.Event)
    told: list = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)

    def open(self):
        pass

    def write(self, frame, overlays, captions):
        self.entered.set()
        self.gate.wait(30)
        self.told.append(frame.frame_seq)

    def flush(self):
        pass

    def close_stream(self, stream_id):
        self.told.append(f"{stream_id} closed")

    def close(self):
        pass


@dataclass
class Frames(FrameSink):
    """Takes frames; the first ``num_failures`` writes fail."""

    num_failures: int = 0
    told: list = field(default_factory=list)
    num_flushes: int = 0

    def open(self):
        pass

    def write(self, frame):
        if self.num_failures:
            self.num_failures -= 1
            raise SinkUnreachableError("frames", "away")
        self.told.append(frame.frame_seq)

    def flush(self):
        self.num_flushes += 1

    def close(self):
        pass


def value_of(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"maskstream_{name}", labels)


def stop(outbox):
    outbox.request_stop()
    wait_until(lambda: outbox.join(0.1) == [])
    return outbox.close()
