"""The newest records of a kind, in memory: which there are, and how much they take."""

from connectors.record import Record, Topic
from pipeline.engine.log.memory_tail import MemoryTail

RECORD = Record(topic=Topic.EVENTS, key="cam", value=b"{}", timestamp_ms=0)


def make_tail(*sizes, last_seq=0):
    tail = MemoryTail(last_seq)
    for size in sizes:
        tail.append(RECORD, size, 7.0)
    return tail


def test_records_are_numbered_on_and_their_sizes_summed_up():
    tail = make_tail(10, 20, 40, last_seq=4)
    assert (tail.first_seq, tail.last_seq, len(tail), tail.num_bytes) == (5, 7, 3, 70)
    assert [tail.bytes_after(seq) for seq in (0, 4, 5, 6, 7, 8)] == [70, 70, 60, 40, 0, 0]
    held = tail[6]
    assert (held.seq, held.num_bytes, held.bytes_to, held.appended_s) == (6, 20, 30, 7.0)


def test_what_is_let_go_of_takes_no_room():
    tail = make_tail(10, 20, 40)
    tail.drop_to(2)
    assert (tail.first_seq, tail.last_seq, len(tail), tail.bytes_after(0)) == (3, 3, 1, 40)
    assert tail.num_bytes == 40
    tail.drop_to(9)
    assert (tail.first_seq, tail.last_seq, len(tail), tail.bytes_after(0)) == (4, 3, 0, 0)
    assert tail.num_bytes == 0


def test_a_record_that_nobody_reads_leaves_no_gap_behind_it():
    tail = make_tail(10)
    tail.skip_to(2)
    assert (tail.first_seq, tail.last_seq, len(tail), tail.num_bytes) == (3, 2, 0, 0)
    tail.append(RECORD, 20, 7.0)
    assert (tail.bytes_after(2), tail[3].num_bytes) == (20, 20)
