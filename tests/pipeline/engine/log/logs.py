"""Small logs and records that the tests of this folder share."""

import resource
from contextlib import contextmanager
from dataclasses import replace

from connectors.record import Record, Topic
from pipeline.engine.log.entries import size_of
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer, RecordLog

KAFKA = Consumer(name="kafka", uses_log=True)
MQTT = Consumer(name="mqtt", uses_log=True)
JSONL = Consumer(name="jsonl", uses_log=False)

TOPICS = {Kind.ALERTS: Topic.EVENTS, Kind.TRACKS: Topic.TRACKS, Kind.MASKLETS: Topic.MASKLETS}


def make_record(number, kind=Kind.ALERTS, num_bytes=0):
    """A record whose value and time stamp say its number; its entry has ``num_bytes`` if it can."""
    value, headers = str(number).encode(), (("ce_id", str(number).encode()),)
    topic = TOPICS[kind]
    record = Record(topic=topic, key="cam", value=value, headers=headers, timestamp_ms=number)
    return replace(record, value=value + b"." * (num_bytes - size_of(record)))


def make_records(first, last, kind=Kind.ALERTS, num_bytes=0):
    return [make_record(number, kind, num_bytes) for number in range(first, last + 1)]


def open_log(folder, *consumers, log_bytes=1 << 20, memory_bytes=1 << 20, **options):
    bounds = {"log_bytes": log_bytes, "memory_bytes": memory_bytes}
    return RecordLog(folder, consumers or (KAFKA,), **bounds, **options)


def numbers_of(batch):
    return [] if batch is None else [record.timestamp_ms for record in batch.records]


def read_all(log, kind, consumer, max_bytes=1 << 20, max_records=1000):
    """Read and confirm until there is nothing more; return the records' numbers."""
    found = []
    while batch := log.read(kind, consumer, max_bytes=max_bytes, max_records=max_records):
        found += numbers_of(batch)
        log.confirm(kind, consumer, batch.last_seq)
    return found


def crash(log):
    """Let go of the folder as a kill would: nothing is written."""
    log._folder_lock.close()


def num_disk_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.seg"))


@contextmanager
def limited_files(num_bytes):
    """A disk that is full: no file may grow beyond a size, partial writes included."""
    if num_bytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
