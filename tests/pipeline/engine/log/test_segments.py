"""What is known of one segment, and reading it where its file or its disk is damaged."""

import errno
import os

import pytest

from pipeline.engine.log.entries import (
    SEGMENT_HEAD_BYTES,
    encode_entry,
    encode_gap,
    encode_segment_head,
)
from pipeline.engine.log.segments import (
    INDEX_STEP_BYTES,
    Hole,
    Place,
    Point,
    Segment,
    count,
    read_around,
    read_bytes,
    read_chunk,
)
from tests.pipeline.engine.log.logs import make_record

ENTRY_BYTES = 200
BLOCK = 1 << 16  # what is given up around a sector


def start_of(seq):
    return SEGMENT_HEAD_BYTES + (seq - 1) * ENTRY_BYTES


def write_segment(path, num, damaged=()):
    """A file of entries, the numbers of some of which cannot be read any more."""
    data = bytearray(encode_segment_head())
    for seq in range(1, num + 1):
        data += encode_entry(seq, seq, make_record(seq, num_bytes=ENTRY_BYTES))
    for seq in damaged:
        data[start_of(seq)] ^= 1
    path.write_bytes(data)
    return Segment(path, 1, num, len(data))


def read(segment, first_seq, last_seq):
    start, end = start_of(first_seq), start_of(last_seq + 1)
    place = Place(segment, first_seq, start, last_seq, end, first_seq - 1)
    return read_chunk(place, max_bytes=1 << 20, max_records=100)


@pytest.mark.parametrize("first_seq", [1, 2, 4])
def test_holes_say_where_in_the_file_they_are(tmp_path, first_seq):
    segment = write_segment(tmp_path / "1.seg", 9, damaged=[5, 6, 9])
    chunk = read(segment, first_seq, 9)
    assert [seq for seq, _ in chunk.records] == [*range(first_seq, 5), 7, 8]
    assert chunk.holes == [Hole(5, 6, start_of(5)), Hole(9, 9, start_of(9))]
    assert chunk.last_seq == 9


def test_hole_of_an_entry_without_record_says_where_it_is(tmp_path):
    segment = write_segment(tmp_path / "1.seg", 2)
    gap = encode_gap(3, 3)
    with segment.path.open("ab") as file:
        file.write(gap)
    place = Place(segment, 2, start_of(2), 3, start_of(3) + len(gap), 1)
    chunk = read_chunk(place, max_bytes=1 << 20, max_records=100)
    assert chunk.holes == [Hole(3, 3, start_of(3))]


@pytest.mark.parametrize(
    ("hole", "found"),
    [
        (Hole(3, 4, 7), [Hole(10, 12, 5), Hole(3, 4, 7)]),
        (Hole(8, 9, 7), [Hole(10, 12, 5), Hole(8, 9, 7)]),
        (Hole(13, 13, 7), [Hole(10, 12, 5), Hole(13, 13, 7)]),
        (Hole(8, 10, 7), [Hole(8, 12, 7)]),
        (Hole(12, 15, 7), [Hole(10, 15, 7)]),
        (Hole(11, 11, 7), [Hole(10, 12, 7)]),
    ],
)
def test_records_of_holes_that_overlap_are_lost_once(tmp_path, hole, found):
    segment = Segment(tmp_path, 1, 20, holes=[Hole(10, 12, 5)])
    segment.add_hole(hole)
    assert segment.holes == found
    assert segment.num_within(0, 99) == 20 - sum(1 + one.last_seq - one.first_seq for one in found)


@pytest.mark.parametrize(
    ("after", "to", "num"),
    [(0, 99, 17), (9, 12, 0), (9, 13, 1), (8, 11, 1), (11, 20, 8), (5, 5, 0)],
)
def test_records_within_bounds_are_counted_without_holes(tmp_path, after, to, num):
    segment = Segment(tmp_path, 1, 20, holes=[Hole(10, 12, 5)])
    assert segment.num_within(after, to) == num
    assert count([segment, Segment(tmp_path, 21, 30)], after, to) == num + min(10, max(0, to - 20))


def test_index_has_an_entry_each_64_kib_or_10_s_wherever_the_clock_goes(tmp_path):
    segment = Segment(tmp_path, 1, 9)
    first = Point(1, SEGMENT_HEAD_BYTES, 50_000)
    far = Point(3, first.at_byte + INDEX_STEP_BYTES, 50_000)
    late, early = far._replace(seq=6, appended_ms=60_000), far._replace(seq=9, appended_ms=50_000)
    for point in (
        first,
        far._replace(seq=2, at_byte=far.at_byte - 1),
        far,
        late._replace(seq=4, appended_ms=59_999),
        late,
        early._replace(seq=7, appended_ms=50_001),
        early,
    ):
        segment.add_to_index(point)
    assert segment.index == [first, far, late, early]


def test_search_begins_at_the_start_of_the_file_where_the_first_entries_are_lost(tmp_path):
    segment = Segment(tmp_path, 5, 20)
    assert segment.find(7) == Point(5, SEGMENT_HEAD_BYTES, 0)
    segment.index = [Point(9, 700, 1234), Point(15, 900, 1300)]
    assert segment.find(7) == Point(5, SEGMENT_HEAD_BYTES, 1234)
    assert segment.find(8) == segment.find(13) == segment.index[0]
    assert segment.find(14) == segment.index[1]


def fail_at(monkeypatch, code, bad=None):
    """A disk that fails with a code, everywhere or where it reads one byte."""
    pread = os.pread

    def fail(fd, size, at):
        if bad is None or at <= bad < at + size:
            raise OSError(code, os.strerror(code))
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", fail)


def test_bytes_of_a_bad_sector_are_filled_and_move_no_others(tmp_path, monkeypatch):
    path = tmp_path / "1.seg"
    path.write_bytes(b"a" * BLOCK + b"b" * BLOCK + b"c" * 100)
    fail_at(monkeypatch, errno.EIO, bad=7 + BLOCK)
    found = read_around(path, 7, 2 * BLOCK + 93)
    # The file is read from byte 7 on: the second of its blocks begins at the bad byte.
    assert found == b"a" * (BLOCK - 7) + b"b" * 7 + b"\xff" * BLOCK + b"c" * 93


@pytest.mark.parametrize("code", [errno.EPERM, errno.ESTALE])
def test_disk_that_fails_otherwise_is_no_bad_sector(tmp_path, monkeypatch, code):
    (tmp_path / "1.seg").write_bytes(bytes(100))
    fail_at(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)):
        read_around(tmp_path / "1.seg", 0, 100)


def test_read_that_gives_less_goes_on_to_the_end_of_the_file(tmp_path, monkeypatch):
    path, pread = tmp_path / "1.seg", os.pread
    path.write_bytes(bytes(range(100)))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 7), at))
    assert read_bytes(path, 3, 50) == bytes(range(3, 53))
    assert read_bytes(path, 3, 500) == bytes(range(3, 100))
