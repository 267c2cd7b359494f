"""Records reach each consumer in order, none twice, none left out but those counted."""

import logging
import os
import shutil
import threading
from dataclasses import replace

import pytest

from pipeline.clock import ManualClock
from pipeline.engine.log.entries import UnloggableError
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer, RecordLog
from pipeline.errors import StateError
from tests.pipeline.engine.log.logs import (
    JSONL,
    KAFKA,
    MQTT,
    crash,
    make_record,
    make_records,
    num_disk_bytes,
    numbers_of,
    open_log,
    read_all,
)

ALL = list(range(1, 101))


def test_each_consumer_gets_all_in_order(tmp_path):
    log = open_log(tmp_path, KAFKA, JSONL)
    for kind in Kind:
        assert log.append(kind, make_records(1, 60, kind)) == 60
        assert log.append(kind, make_records(61, 100, kind)) == 100
    log.sync()
    for kind in Kind:
        assert read_all(log, kind, "kafka", max_records=7) == ALL
        assert read_all(log, kind, "jsonl", max_bytes=1000) == ALL
    log.close()


def test_batch_is_the_same_until_it_is_confirmed(tmp_path):
    log = open_log(None, JSONL)
    records = make_records(1, 5)
    log.append(Kind.TRACKS, records)
    for _ in range(2):
        batch = log.read(Kind.TRACKS, "jsonl", max_bytes=1, max_records=9)
        assert (batch.kind, batch.last_seq, batch.records) == (Kind.TRACKS, 1, records[:1])
    log.confirm(Kind.TRACKS, "jsonl", 1)
    assert numbers_of(log.read(Kind.TRACKS, "jsonl", max_bytes=10**6, max_records=3)) == [2, 3, 4]


def test_alerts_are_seen_once_they_are_on_disk(tmp_path):
    log = open_log(tmp_path, KAFKA, JSONL)
    log.append(Kind.ALERTS, make_records(1, 3))
    assert log.safe_seq(Kind.ALERTS) == 0
    assert not log.wait("kafka", 0)
    assert log.wait("jsonl", 0)
    assert read_all(log, Kind.ALERTS, "kafka") == []
    assert read_all(log, Kind.ALERTS, "jsonl") == [1, 2, 3]
    log.sync()
    assert log.safe_seq(Kind.ALERTS) == 3
    assert log.wait("kafka", 0)
    assert read_all(log, Kind.ALERTS, "kafka") == [1, 2, 3]


def test_records_are_safe_once_each_consumer_has_confirmed_them(tmp_path):
    log = open_log(tmp_path, KAFKA, MQTT, JSONL)
    log.append(Kind.TRACKS, make_records(1, 9, Kind.TRACKS))
    for name, seq, safe in (("kafka", 7, 0), ("jsonl", 5, 0), ("mqtt", 8, 5), ("jsonl", 9, 7)):
        log.confirm(Kind.TRACKS, name, seq)
        assert log.safe_seq(Kind.TRACKS) == safe
    assert len(log._kinds[Kind.TRACKS]._tail) == 2  # and memory has let go of them


def test_synced_alerts_survive_a_kill_byte_for_byte(tmp_path):
    log, records = open_log(tmp_path), make_records(1, 100, num_bytes=500)
    log.append(Kind.ALERTS, records)
    log.sync()
    crash(log)
    again = open_log(tmp_path)
    batch = again.read(Kind.ALERTS, "kafka", max_bytes=10**6, max_records=1000)
    assert list(batch.records) == records
    assert again.append(Kind.ALERTS, make_records(101, 101)) == 101


def test_close_keeps_memory_for_consumers_with_log(tmp_path):
    log = open_log(tmp_path)
    for kind in Kind:
        log.append(kind, make_records(1, 100, kind))
    log.confirm(Kind.TRACKS, "kafka", 40)
    log.close()
    again = open_log(tmp_path)
    assert read_all(again, Kind.ALERTS, "kafka") == ALL
    assert read_all(again, Kind.TRACKS, "kafka") == ALL[40:]
    assert read_all(again, Kind.MASKLETS, "kafka") == ALL
    assert again.counts().shed == dict.fromkeys([("kafka", kind) for kind in Kind], 0)


def test_request_makes_everything_safe_at_the_next_syncs(tmp_path):
    log = open_log(tmp_path, KAFKA, MQTT)
    log.append(Kind.MASKLETS, make_records(1, 9, Kind.MASKLETS))
    log.confirm(Kind.MASKLETS, "kafka", 9)
    log.confirm(Kind.MASKLETS, "mqtt", 3)
    log.sync()
    assert log.safe_seq(Kind.MASKLETS) == 3
    log.request_write_out()
    for last_seq in (9, 12):
        log.sync()
        assert log.safe_seq(Kind.MASKLETS) == last_seq
        log.append(Kind.MASKLETS, make_records(10, 12, Kind.MASKLETS))
    assert [path.stem for path in tmp_path.glob("log/masklets/*")] == [f"{4:020}"]
    crash(log)
    assert read_all(open_log(tmp_path, MQTT), Kind.MASKLETS, "mqtt") == list(range(4, 13))


def test_what_memory_has_no_room_for_goes_to_disk_and_comes_back(tmp_path):
    log = open_log(tmp_path, memory_bytes=2000, segment_bytes=1500)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS, 100))
    log.sync()
    assert num_disk_bytes(tmp_path) == 0
    for first in range(11, 101, 10):
        log.append(Kind.TRACKS, make_records(first, first + 9, Kind.TRACKS, 100))
        log.sync()
    assert num_disk_bytes(tmp_path) > 5000
    assert 0 < log.safe_seq(Kind.TRACKS) < 100
    assert log.lag("kafka").num_records == 100
    assert read_all(log, Kind.TRACKS, "kafka", max_records=9) == ALL
    log.sync()
    assert len(list(tmp_path.glob("log/tracks/*"))) <= 1
    assert log.lag("kafka").num_records == log.lag("kafka").num_bytes == 0


def test_full_memory_sheds_the_oldest_for_consumers_without_log(tmp_path):
    log = open_log(None, JSONL, memory_bytes=1000)
    log.append(Kind.TRACKS, make_records(1, 100, Kind.TRACKS, 100))
    assert not log.has_room()
    num_shed = log.counts().shed["jsonl", Kind.TRACKS]
    assert num_shed >= 90
    assert log.safe_seq(Kind.TRACKS) == num_shed
    assert read_all(log, Kind.TRACKS, "jsonl") == ALL[num_shed:]
    assert log.has_room()


def test_record_larger_than_memory_is_delivered():
    log = open_log(None, JSONL, memory_bytes=100)
    log.append(Kind.TRACKS, make_records(1, 2, Kind.TRACKS, 500))
    assert read_all(log, Kind.TRACKS, "jsonl", max_bytes=1) == [2]
    assert log.counts().shed["jsonl", Kind.TRACKS] == 1


def test_what_all_with_log_have_confirmed_is_not_written(tmp_path):
    log = open_log(tmp_path, KAFKA, JSONL)
    for kind in Kind:
        log.append(kind, make_records(1, 10, kind))
    log.confirm(Kind.TRACKS, "kafka", 10)
    log.confirm(Kind.MASKLETS, "kafka", 9)
    log.close()
    assert not list(tmp_path.glob("log/tracks/*"))
    assert [path.stem for path in tmp_path.glob("log/masklets/*")] == [f"{10:020}"]


def test_long_syncs_are_written_in_parts(tmp_path, monkeypatch):
    log, sizes, fsync = open_log(tmp_path, log_bytes=1 << 28), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sizes.append(os.fstat(fd).st_size), fsync(fd)))
    log.append(Kind.ALERTS, make_records(1, 60, num_bytes=100_000))
    log.append(Kind.ALERTS, make_records(61, 61, num_bytes=5_000_000))
    log.sync()
    written = [size for size in sizes if size > 10_000]
    assert [size // 1_000_000 for size in written] == [4, 6, 11]
    assert log.safe_seq(Kind.ALERTS) == 61


def test_batch_in_hand_is_no_loss_if_it_is_confirmed(tmp_path):
    log = open_log(None, JSONL, memory_bytes=1000)
    log.append(Kind.TRACKS, make_records(1, 5, Kind.TRACKS, 100))
    assert numbers_of(log.read(Kind.TRACKS, "jsonl", max_bytes=10**6, max_records=3)) == [1, 2, 3]
    log.append(Kind.TRACKS, make_records(6, 20, Kind.TRACKS, 100))
    assert log.safe_seq(Kind.TRACKS) == 0
    num_shed = log.counts().shed["jsonl", Kind.TRACKS]
    log.confirm(Kind.TRACKS, "jsonl", 3)
    assert read_all(log, Kind.TRACKS, "jsonl") == list(range(4 + num_shed, 21))
    assert log.counts().shed["jsonl", Kind.TRACKS] == num_shed


def test_batch_in_hand_is_a_loss_if_another_is_read_instead(tmp_path):
    log = open_log(None, JSONL, memory_bytes=1000)
    log.append(Kind.TRACKS, make_records(1, 5, Kind.TRACKS, 100))
    log.read(Kind.TRACKS, "jsonl", max_bytes=10**6, max_records=3)
    log.append(Kind.TRACKS, make_records(6, 20, Kind.TRACKS, 100))
    found = read_all(log, Kind.TRACKS, "jsonl")
    assert len(found) + log.counts().shed["jsonl", Kind.TRACKS] == 20


def test_what_is_in_hand_or_memory_at_the_end_is_a_loss(tmp_path):
    log = open_log(tmp_path, KAFKA, JSONL)
    log.append(Kind.TRACKS, make_records(1, 5, Kind.TRACKS))
    log.read(Kind.TRACKS, "jsonl", max_bytes=10**6, max_records=3)
    log.close()
    assert log.counts().shed["jsonl", Kind.TRACKS] == 5
    assert log.counts().shed["kafka", Kind.TRACKS] == 0


def test_full_log_sheds_masklets_then_tracks_then_alerts(tmp_path):
    log = open_log(tmp_path, log_bytes=20_000, memory_bytes=100, segment_bytes=1000)
    order = []
    for first in range(1, 400, 10):
        for kind in Kind:
            log.append(kind, make_records(first, first + 9, kind, 100))
        log.sync()
        shed = log.counts().shed
        order += [kind for kind in Kind if shed["kafka", kind] and kind not in order]
        assert num_disk_bytes(tmp_path) <= 20_000
    assert order == [Kind.MASKLETS, Kind.TRACKS, Kind.ALERTS]
    assert not log.has_room()
    for kind in Kind:
        found = read_all(log, kind, "kafka")
        assert found == list(range(401 - len(found), 401))
        assert len(found) + log.counts().shed["kafka", kind] == 400
    assert log.has_room()


def test_bound_of_the_log_holds_between_the_writes_of_one_sync(tmp_path, monkeypatch):
    log = open_log(tmp_path, log_bytes=20_000, memory_bytes=100, segment_bytes=1000)
    sizes, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sizes.append(num_disk_bytes(tmp_path)), fsync(fd)))
    for kind in Kind:
        log.append(kind, make_records(1, 150, kind, 200))
    log.close()
    assert 19_000 < max(sizes) <= 21_100
    assert num_disk_bytes(tmp_path) <= 20_000
    assert log.lag("kafka").num_records + sum(log.counts().shed.values()) == 450


def test_what_is_shed_from_disk_is_not_delivered_from_memory(tmp_path):
    log = open_log(tmp_path, log_bytes=2000, segment_bytes=400)
    for first in range(1, 30, 2):
        log.append(Kind.ALERTS, make_records(first, first + 1, num_bytes=200))
        log.sync()
    num_shed = log.counts().shed["kafka", Kind.ALERTS]
    assert num_shed > 0
    assert log.lag("kafka").num_records == 30 - num_shed
    assert read_all(log, Kind.ALERTS, "kafka") == list(range(num_shed + 1, 31))


def test_one_consumer_holds_records_for_itself_alone(tmp_path):
    log = open_log(tmp_path, KAFKA, MQTT, memory_bytes=1000, segment_bytes=1000)
    for first in range(1, 100, 10):
        log.append(Kind.TRACKS, make_records(first, first + 9, Kind.TRACKS, 100))
        log.sync()
        assert len(read_all(log, Kind.TRACKS, "kafka")) == 10
    log.close()
    again = open_log(tmp_path, KAFKA, MQTT)
    assert read_all(again, Kind.TRACKS, "kafka") == []
    assert read_all(again, Kind.TRACKS, "mqtt") == ALL


def test_numbers_go_on_above_cursors_where_no_segment_is_left(tmp_path):
    log = open_log(tmp_path)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS))
    log.confirm(Kind.TRACKS, "kafka", 10)
    log.close()
    again = open_log(tmp_path)
    assert again.append(Kind.TRACKS, make_records(11, 12, Kind.TRACKS)) == 12
    assert read_all(again, Kind.TRACKS, "kafka") == [11, 12]


def test_cursors_are_whole_after_a_power_cut(tmp_path, monkeypatch):
    log, synced, fsync = open_log(tmp_path), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    log.close()
    assert (tmp_path / "cursors" / "kafka.json").stat().st_ino in synced


def test_cursors_are_written_now_and_then(tmp_path):
    clock = ManualClock()
    log = open_log(tmp_path, clock=clock)
    log.append(Kind.ALERTS, make_records(1, 9))
    log.sync()
    log.confirm(Kind.ALERTS, "kafka", 4)
    clock.advance(1)
    log.sync()
    log.confirm(Kind.ALERTS, "kafka", 6)
    clock.advance(0.2)
    log.sync()
    crash(log)
    again = open_log(tmp_path, clock=clock)
    assert read_all(again, Kind.ALERTS, "kafka") == [5, 6, 7, 8, 9]


def test_lag_counts_memory_and_disk_and_their_age(tmp_path):
    clock = ManualClock()
    log = open_log(tmp_path, memory_bytes=1000, segment_bytes=1000, clock=clock)
    for first in range(1, 100, 10):
        log.append(Kind.TRACKS, make_records(first, first + 9, Kind.TRACKS, 100))
        log.sync()
        clock.advance(1)
    lag = log.lag("kafka")
    assert (lag.num_records, lag.oldest_age_s) == (100, 10)
    assert lag.num_bytes == pytest.approx(10_000, rel=0.1)
    log.confirm(Kind.TRACKS, "kafka", 35)
    assert (log.lag("kafka").num_records, log.lag("kafka").oldest_age_s) == (65, 7)
    log.confirm(Kind.TRACKS, "kafka", 99)
    assert (log.lag("kafka").num_records, log.lag("kafka").oldest_age_s) == (1, 1)


@pytest.mark.parametrize("is_reopened", [False, True])
def test_lag_touches_no_disk(tmp_path, is_reopened):
    clock = ManualClock()
    log = open_log(tmp_path, memory_bytes=200, clock=clock)
    for number in range(1, 102):
        log.append(Kind.TRACKS, make_records(number, number, Kind.TRACKS, 200))
        log.sync()
        clock.advance(1)
    if is_reopened:
        log.close()
        log = open_log(tmp_path, memory_bytes=200, clock=clock)
    shutil.rmtree(tmp_path / "log")
    for done in range(100):
        log.confirm(Kind.TRACKS, "kafka", done)
        assert 101 - done <= log.lag("kafka").oldest_age_s < 111 - done
    log.confirm(Kind.TRACKS, "kafka", 101)
    assert log.lag("kafka").oldest_age_s == 0


def test_sync_ends_the_wait_for_alerts(tmp_path):
    log, found = open_log(tmp_path), []
    log.append(Kind.ALERTS, make_records(1, 1))
    thread = threading.Thread(target=lambda: found.append(log.wait("kafka", 10)), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    log.sync()
    thread.join(5)
    assert found == [True]


def test_wake_ends_one_wait():
    log = open_log(None, JSONL)
    log.wake("jsonl")
    assert log.wait("jsonl", 0)
    assert not log.wait("jsonl", 0)


def test_wait_ends_when_there_is_something_or_it_is_woken(tmp_path):
    log = open_log(None, JSONL)
    assert not log.wait("jsonl", 0)
    for end_wait in (
        lambda: log.wake("jsonl"),
        lambda: log.append(Kind.TRACKS, make_records(1, 1)),
    ):
        found = []
        thread = threading.Thread(target=lambda: found.append(log.wait("jsonl", 60)), daemon=True)  # noqa: B023
        thread.start()
        end_wait()
        thread.join(10)
        assert found == [True]


@pytest.mark.parametrize("consumer", [[KAFKA], [JSONL], []])
def test_record_that_cannot_be_written_is_refused_with_all_beside_it(tmp_path, consumer):
    log = RecordLog(tmp_path, consumer, log_bytes=1 << 20, memory_bytes=1 << 20)
    bad = replace(make_record(2), headers=(("ce_id", None),))
    with pytest.raises(UnloggableError, match="header 'ce_id' is a NoneType"):
        log.append(Kind.ALERTS, [make_record(1), bad, make_record(3)])
    assert log.append(Kind.ALERTS, make_records(4, 5)) == 2
    log.sync()
    assert log.safe_seq(Kind.ALERTS) == (0 if consumer == [JSONL] else 2)
    for item in consumer:
        assert read_all(log, Kind.ALERTS, item.name) == [4, 5]


def test_record_that_cannot_be_written_after_all_holds_up_no_other(tmp_path, caplog):
    log, records = open_log(tmp_path), make_records(1, 3)
    log.append(Kind.ALERTS, records)
    object.__setattr__(records[1], "timestamp_ms", 1 << 63)  # what no caller may do
    log.sync()
    assert log.safe_seq(Kind.ALERTS) == 3
    assert "record 2 cannot be written" in caplog.text
    log.close()
    again = open_log(tmp_path)
    assert read_all(again, Kind.ALERTS, "kafka") == [1, 3]
    assert again.counts().corrupt[Kind.ALERTS] == 1


def test_without_consumers_everything_is_safe():
    log = RecordLog(None, [], log_bytes=1, memory_bytes=1)
    assert log.append(Kind.TRACKS, make_records(1, 100)) == 100
    assert log.safe_seq(Kind.TRACKS) == 100
    assert log.has_room()
    log.sync()
    log.close()


def test_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file.*cannot be used: .*accepted") as caught:
        open_log(tmp_path / "file" / "state")
    assert caught.value.path == tmp_path / "file" / "state"


def test_folder_has_one_owner(tmp_path):
    log = open_log(tmp_path)
    with pytest.raises(StateError, match=r"in use by process \d+"):
        open_log(tmp_path)
    log.close()
    open_log(tmp_path).close()


def test_log_that_no_sink_reads_is_dropped_and_that_is_said(tmp_path, caplog):
    log = open_log(tmp_path)
    log.append(Kind.ALERTS, make_records(1, 9))
    log.close()
    open_log(tmp_path, JSONL).close()
    assert "9 alerts of the log are dropped: no sink reads them" in caplog.text
    assert num_disk_bytes(tmp_path) == 0


def test_smaller_bound_holds_from_the_start(tmp_path):
    log = open_log(tmp_path)
    log.append(Kind.TRACKS, make_records(1, 100, Kind.TRACKS, 200))
    log.close()
    again = open_log(tmp_path, log_bytes=8000)
    assert num_disk_bytes(tmp_path) <= 8000
    found = read_all(again, Kind.TRACKS, "kafka")
    assert len(found) + again.counts().shed["kafka", Kind.TRACKS] == 100


def test_unreadable_cursor_starts_at_the_beginning(tmp_path, caplog):
    log = open_log(tmp_path)
    log.append(Kind.ALERTS, make_records(1, 100))
    log.sync()
    log.confirm(Kind.ALERTS, "kafka", 50)
    log.close()
    path = tmp_path / "cursors" / "kafka.json"
    path.write_text(path.read_text().replace("50", "90"))
    with caplog.at_level(logging.WARNING, "maskstream.log"):
        again = open_log(tmp_path)
    assert "kafka.json is damaged (its checksum is wrong)" in caplog.text
    assert "sink 'kafka' has no cursor: all 100 alerts" in caplog.text
    assert read_all(again, Kind.ALERTS, "kafka") == ALL
    assert again.append(Kind.ALERTS, make_records(101, 101)) == 101


def test_former_consumers_hold_nothing(tmp_path):
    slow = Consumer(name="a/b", uses_log=True)
    log = open_log(tmp_path, KAFKA, slow, segment_bytes=500)
    log.append(Kind.ALERTS, make_records(1, 100))
    log.sync()
    log.confirm(Kind.ALERTS, "kafka", 100)
    log.close()
    assert {path.name for path in tmp_path.glob("cursors/*")} == {"a%2Fb.json", "kafka.json"}
    open_log(tmp_path).close()
    assert {path.name for path in tmp_path.glob("cursors/*")} == {"kafka.json"}
    assert len(list(tmp_path.glob("log/alerts/*"))) <= 1


def test_segment_is_kept_until_its_last_record_is_confirmed(tmp_path):
    log = open_log(tmp_path, KAFKA, segment_bytes=1000)
    log.append(Kind.ALERTS, make_records(1, 100))
    log.sync()
    log.confirm(Kind.ALERTS, "kafka", 1)
    log.sync()
    log.close()
    again = open_log(tmp_path, KAFKA)
    assert read_all(again, Kind.ALERTS, "kafka") == ALL[1:]
    again.close()


def test_consumer_of_one_kind_holds_no_other_and_finds_what_was_kept_for_it(tmp_path):
    state = Consumer(name="state", uses_log=True, kinds=frozenset({Kind.ALERTS}))
    log = open_log(tmp_path, state, JSONL, segment_bytes=1000)
    log.append(Kind.ALERTS, make_records(1, 100))
    log.append(Kind.MASKLETS, make_records(1, 100, Kind.MASKLETS))
    assert log.last_seq(Kind.ALERTS) == 100
    log.sync()
    for kind in Kind:
        log.confirm(kind, "jsonl", 100)
    assert {kind: log.safe_seq(kind) for kind in (Kind.ALERTS, Kind.MASKLETS)} == {
        Kind.ALERTS: 100,
        Kind.MASKLETS: 100,
    }
    assert log.counts().shed.keys() == {
        ("jsonl", Kind.ALERTS),
        ("state", Kind.ALERTS),
        ("jsonl", Kind.TRACKS),
        ("jsonl", Kind.MASKLETS),
    }
    log.confirm(Kind.ALERTS, "state", 40)
    log.close()
    again = open_log(tmp_path, state, JSONL)
    kept = again.kept(Kind.ALERTS, "state")
    assert [(seq, record.timestamp_ms) for seq, record in kept] == [(n, n) for n in ALL[40:]]
    assert again.kept(Kind.ALERTS, "jsonl") == []
    assert again.lag("state").num_records == 60
    again.close()
