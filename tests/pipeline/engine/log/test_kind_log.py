"""What happens to one kind between looking a segment up and having read it."""

from pipeline.engine.log.entries import encode_entry
from pipeline.engine.log.kind_log import KindLog
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.segment_store import SegmentStore
from pipeline.engine.log.segments import Chunk, Hole, read_chunk
from tests.pipeline.engine.log.logs import make_records, numbers_of

READ = {"max_bytes": 10_000, "max_records": 100}


def make_kind_log(folder, num_records=10, memory_bytes=100):
    """All but the last record on disk alone."""
    store = SegmentStore(folder, 1000)
    log = KindLog(Kind.TRACKS, store, ({}, {"kafka": 0, "mqtt": 0}), 0, memory_bytes)
    log.append(make_records(1, num_records, Kind.TRACKS, 200), now_s=0)
    while held := log.to_write(num_records, 500, is_everything=False):
        entries = [(item.seq, encode_entry(item.seq, 0, item.record)) for item in held]
        log.publish(store.write(entries), store)
    return log


def test_segment_that_is_shed_while_it_is_read_gives_nothing(tmp_path):
    log = make_kind_log(tmp_path)
    place = log.read("kafka", **READ)
    chunk = read_chunk(place, **READ)
    shed = log.take_oldest()
    assert shed is place.segment
    assert log.take("kafka", place, chunk) is None
    assert log.read("kafka", **READ).after == log.positions["kafka"].num_shed == shed.last_seq


def test_segment_that_was_shed_is_not_damaged(tmp_path):
    log = make_kind_log(tmp_path)
    place = log.read("kafka", **READ)
    log.delete(log.take_oldest())
    chunk = Chunk([], [Hole(1, place.last_seq, 0)], place.last_seq)  # its file is gone
    assert log.take("kafka", place, chunk) is None
    assert log.store.num_corrupt == 0


def test_batch_from_disk_that_is_shed_from_the_hands_is_no_loss_once_confirmed(tmp_path):
    log = make_kind_log(tmp_path)
    for name in ("kafka", "mqtt"):
        place = log.read(name, max_bytes=500, max_records=2)
        chunk = read_chunk(place, max_bytes=500, max_records=2)
        assert log.take(name, place, chunk).last_seq == 2
    num_left = log.take_oldest().last_seq - 2
    log.confirm("kafka", 2)
    for name in ("kafka", "mqtt"):
        log.read(name, **READ)
    assert log.positions["kafka"].num_shed == num_left
    assert log.positions["mqtt"].num_shed == num_left + 2


def test_what_memory_holds_is_read_there_though_all_before_it_is_lost(tmp_path):
    log = KindLog(Kind.ALERTS, SegmentStore(tmp_path, 10_000), ({}, {"kafka": 0}), 0, 500)
    log.append(make_records(1, 5, num_bytes=200), now_s=0)
    entries = [
        (item.seq, encode_entry(item.seq, 0, item.record))
        for item in log.to_write(5, 9999, is_everything=True)
    ]
    log.publish(log.store.write(entries), log.store)
    [segment] = log.store.segments
    log.store.note_hole(segment, Hole(1, 3, 0))
    assert numbers_of(log.read("kafka", **READ)) == [4, 5]
