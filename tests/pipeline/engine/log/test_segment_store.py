"""What was written is found again; what is damaged is named, and harms nothing else."""

import logging
import os
from pathlib import Path

import pytest

from pipeline.engine.log.entries import SEGMENT_HEAD_BYTES, encode_entry
from pipeline.engine.log.segment_store import SegmentStore
from pipeline.engine.log.segments import Place, read_chunk
from pipeline.errors import StateError
from tests.pipeline.engine.log.logs import limited_files, make_record, num_disk_bytes

ENTRY_BYTES = 200


def write(store, first, last):
    entries = [
        (seq, encode_entry(seq, seq, make_record(seq, num_bytes=ENTRY_BYTES)))
        for seq in range(first, last + 1)
    ]
    store.publish(store.write(entries))


def make_store(folder, segment_bytes=1000):
    return SegmentStore(folder, segment_bytes)


def read_seqs(store, after=0, max_bytes=1 << 20):
    found = []
    for segment in list(store.segments):
        while segment.last_seq > after:
            first, start, _ = segment.find(after)
            place = Place(segment, first, start, segment.last_seq, segment.num_bytes, after)
            chunk = read_chunk(place, max_bytes=max_bytes, max_records=100)
            for hole in chunk.holes:
                store.note_hole(segment, hole)
            found += [seq for seq, _ in chunk.records]
            after = chunk.last_seq
    return found


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_segments_are_named_by_their_first_record_and_bounded(tmp_path):
    store = make_store(tmp_path)
    for first in range(1, 20, 3):
        write(store, first, first + 2)
    assert names_of(tmp_path)[:2] == ["00000000000000000001.seg", "00000000000000000007.seg"]
    assert read_seqs(store) == list(range(1, 22))
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 1000 + 3 * ENTRY_BYTES


def test_a_segment_that_others_remove_is_no_longer_written_to(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 1)
    (tmp_path / "00000000000000000001.seg").unlink()
    with pytest.raises(FileNotFoundError, match="was removed while it was written to"):
        write(store, 2, 2)
    write(store, 2, 2)
    assert read_seqs(make_store(tmp_path)) == [2]


def test_a_gap_begins_a_segment(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 2)
    write(store, 9, 9)
    assert [(item.first_seq, item.last_seq) for item in store.segments] == [(1, 2), (9, 9)]


@pytest.mark.parametrize("num_bytes", [0, 5, SEGMENT_HEAD_BYTES, 20, 300, 413])
def test_torn_end_is_cut_and_written_over(tmp_path, num_bytes, caplog):
    store = make_store(tmp_path)
    write(store, 1, 3)
    store.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, num_bytes)
    again = make_store(tmp_path)
    num_whole = max(0, (num_bytes - SEGMENT_HEAD_BYTES) // ENTRY_BYTES)
    assert read_seqs(again) == list(range(1, num_whole + 1))
    assert again.num_corrupt == 0
    assert sum(item.num_bytes for item in again.segments) == num_disk_bytes(tmp_path)
    write(again, num_whole + 1, 5)
    assert read_seqs(again) == [1, 2, 3, 4, 5]
    assert read_seqs(make_store(tmp_path)) == [1, 2, 3, 4, 5]


def test_recovery_goes_on_in_the_last_segment(tmp_path):
    for seq in range(1, 5):
        store = make_store(tmp_path)
        write(store, seq, seq)
        store.close()
    assert names_of(tmp_path) == ["00000000000000000001.seg"]
    assert read_seqs(make_store(tmp_path)) == [1, 2, 3, 4]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_damage_is_counted_once_and_named_with_its_byte(tmp_path, caplog, is_reopened):
    store = make_store(tmp_path)
    write(store, 1, 5)
    write(store, 6, 8)
    path = store.segments[0].path
    data = bytearray(path.read_bytes())
    data[SEGMENT_HEAD_BYTES + 2 * ENTRY_BYTES] ^= 1  # the head of the third
    data[SEGMENT_HEAD_BYTES + 4 * ENTRY_BYTES - 1] ^= 1  # the payload of the fourth
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "maskstream.log"):
        store = make_store(tmp_path) if is_reopened else store
        for _ in range(2):
            assert read_seqs(store) == [1, 2, 5, 6, 7, 8]
    assert store.num_corrupt == 2
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{path} is damaged at byte {SEGMENT_HEAD_BYTES + 400}: 2 records lost, the others are read"
    ]


def test_damaged_end_is_counted_and_written_over(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 3)
    path = store.segments[0].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = make_store(tmp_path)
    assert (read_seqs(again), again.num_corrupt) == ([1, 2], 1)
    write(again, 4, 4)
    assert read_seqs(again) == [1, 2, 4]


@pytest.mark.parametrize("num_bytes", [0, SEGMENT_HEAD_BYTES, 500])
def test_segment_cut_in_the_middle_of_the_log_is_counted(tmp_path, num_bytes):
    store = make_store(tmp_path)
    write(store, 1, 5)
    write(store, 6, 8)
    os.truncate(store.segments[0].path, num_bytes)
    again = make_store(tmp_path)
    found = read_seqs(again)
    assert found[-3:] == [6, 7, 8]
    assert len(found) + again.num_corrupt == 8
    assert again.num_bytes == num_disk_bytes(tmp_path)


def test_damaged_end_is_counted_while_running_too(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 3)
    os.truncate(store.segments[0].path, SEGMENT_HEAD_BYTES + 2 * ENTRY_BYTES + 9)
    assert (read_seqs(store), store.num_corrupt) == ([1, 2], 1)


def test_records_in_two_segments_are_read_once(tmp_path):
    other = make_store(tmp_path / "other")
    write(other, 3, 6)
    store = make_store(tmp_path / "alerts")
    write(store, 1, 4)
    # As a failed write leaves it that could not be taken back.
    other.segments[0].path.rename(tmp_path / "alerts" / other.segments[0].path.name)
    again = make_store(tmp_path / "alerts")
    assert (read_seqs(again), again.num_corrupt) == ([1, 2, 3, 4, 5, 6], 0)


def test_new_files_and_folders_have_durable_names(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(fd):
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    folder = tmp_path / "log" / "alerts"
    store = make_store(folder)
    assert synced == [str(tmp_path), str(tmp_path / "log")]
    write(store, 1, 1)
    assert synced[2:] == [str(store.segments[0].path), str(folder)]
    write(store, 2, 2)
    assert synced[4:] == [str(store.segments[0].path)]


def open_files(folder):
    links = list(Path("/proc/self/fd").iterdir())
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return [target for target in targets if target.startswith(str(folder))]


def test_the_last_segment_alone_is_held_open(tmp_path):
    store = make_store(tmp_path)
    for seq in range(1, 20):
        write(store, seq, seq)
        assert open_files(tmp_path) == [str(store.segments[-1].path)]
    store.close()
    assert open_files(tmp_path) == []


def test_segment_of_a_failed_write_is_not_held_open(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 3)
    with limited_files(300), pytest.raises(OSError, match="File too large"):
        write(store, 4, 6)
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("limit", [None, 0, 4095])
def test_probe_leaves_nothing_behind(tmp_path, limit):
    store = make_store(tmp_path)
    with limited_files(limit):
        if limit is None:
            store.probe()
        else:
            with pytest.raises(OSError, match="File too large"):
                store.probe()
    assert names_of(tmp_path) == []


def test_probe_is_not_content_with_what_is_not_durable(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(OSError, match="I/O error"):
        store.probe()
    assert names_of(tmp_path) == []


def test_deleted_segment_in_use_takes_no_room(tmp_path):
    store = make_store(tmp_path)
    write(store, 1, 3)
    store.delete(store.segments.pop())
    assert store._fd is None
    write(store, 4, 5)
    assert read_seqs(store) == [4, 5]


def test_damaged_head_of_a_segment_harms_no_record(tmp_path, caplog):
    store = make_store(tmp_path)
    write(store, 1, 3)
    path = store.segments[0].path
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    again = make_store(tmp_path)
    assert read_seqs(again) == [1, 2, 3]
    assert "is damaged at byte 0: its head" in caplog.text


def test_newer_version_is_refused_and_left_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr("pipeline.engine.log.entries.VERSION", 2)
        write(make_store(tmp_path), 1, 3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StateError, match=r"newer version \(format 2\) \(accepted: format 1"):
        make_store(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_files_are_left_alone(tmp_path, caplog):
    (tmp_path / "notes.seg").write_text("mine")
    store = make_store(tmp_path)
    write(store, 1, 3)
    assert read_seqs(make_store(tmp_path)) == [1, 2, 3]
    assert (tmp_path / "notes.seg").read_text() == "mine"
    assert "notes.seg is no segment" in caplog.text


@pytest.mark.parametrize("limit", [0, 10, 300, SEGMENT_HEAD_BYTES + 3 * ENTRY_BYTES + 50])
def test_failed_write_leaves_nothing_and_the_next_one_all(tmp_path, limit):
    store = make_store(tmp_path)
    write(store, 1, 3)
    size = store.segments[0].num_bytes
    with limited_files(limit), pytest.raises(OSError, match="File too large"):
        write(store, 4, 6)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size
    write(store, 4, 6)
    assert read_seqs(store) == read_seqs(make_store(tmp_path)) == [1, 2, 3, 4, 5, 6]


def test_failed_fsync_is_no_write(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    write(store, 1, 3)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(OSError, match="I/O error"):
            write(store, 4, 6)
    write(store, 4, 6)
    # Pages of a failed fsync may be taken for clean: the file is not written to again.
    assert names_of(tmp_path) == ["00000000000000000001.seg", "00000000000000000004.seg"]
    assert read_seqs(make_store(tmp_path)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("max_bytes", [1, 150_000, 10_000_000])
def test_reading_finds_its_way_by_the_index(tmp_path, max_bytes):
    store = make_store(tmp_path, segment_bytes=10_000_000)
    for first in range(1, 2000, 100):
        write(store, first, first + 99)
    (segment,) = store.segments
    assert len(segment.index) == 1 + segment.num_bytes // (1 << 16)
    for after in (0, 1, 327, 328, 1234, 1995, 1999):
        first, start, appended_ms = segment.find(after)
        assert appended_ms == first
        assert first <= after + 1
        assert start == SEGMENT_HEAD_BYTES + (first - 1) * ENTRY_BYTES
        assert after - first < 2 * (1 << 16) / ENTRY_BYTES
    assert read_seqs(store, 1990, max_bytes) == list(range(1991, 2001))
    assert read_seqs(store, 1700, 150_000) == list(range(1701, 2001))


def test_a_record_larger_than_what_is_asked_for_is_read_whole(tmp_path):
    store = make_store(tmp_path)
    record = make_record(1, num_bytes=500_000)
    store.publish(store.write([(1, encode_entry(1, 0, record))]))
    place = Place(store.segments[0], 1, SEGMENT_HEAD_BYTES, 1, store.segments[0].num_bytes, 0)
    assert read_chunk(place, max_bytes=1, max_records=1).records == [(1, record)]
