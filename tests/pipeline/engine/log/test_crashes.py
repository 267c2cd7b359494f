"""Kills, full disks and other processes: what was promised is kept, and the rest is said."""

import errno
import os
import random
import resource
import subprocess
import sys
import threading
import time

import pytest

from pipeline.clock import ManualClock
from pipeline.engine.log.disk_watch import HANG_S
from pipeline.engine.log.kinds import Kind
from pipeline.errors import StateError
from tests.pipeline.engine.log.logs import (
    JSONL,
    KAFKA,
    MQTT,
    limited_files,
    make_record,
    make_records,
    numbers_of,
    open_log,
    read_all,
)

KINDS = (Kind.ALERTS, Kind.TRACKS)


def start_writer(folder, first):
    command = [sys.executable, "-m", "tests.pipeline.engine.log.writer", str(folder), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(writer, num_lines):
    """Return what a writer had said, as numbers by kind and word, when it was killed."""
    lines = [writer.stdout.readline() for _ in range(num_lines)]
    writer.kill()
    lines += writer.communicate(timeout=60)[0].splitlines(keepends=True)
    said = {}
    for line in lines:
        if line.count(" ") == 2 and line.endswith("\n"):
            kind, word, number = line.split()
            said[kind, word] = max(int(number), said.get((kind, word), 0))
    return said


def test_kills_lose_nothing_that_was_safe_and_repeat_it_byte_for_byte(tmp_path):
    chance, first = random.Random(8), 1  # noqa: S311 - no secret
    for _ in range(4):
        said = kill_after(start_writer(tmp_path, first), chance.randint(10, 150))
        log = open_log(tmp_path, KAFKA, JSONL)
        for kind in KINDS:
            records = read_records(log, kind)
            found = [record.timestamp_ms for record in records]
            confirmed = said.get((kind, "confirmed"), first - 1)
            assert {*range(confirmed + 1, said[kind, "safe"] + 1)} <= {*found}
            assert found == list(range(found[0], found[-1] + 1)) if found else True
            assert records == [make_record(number, kind, 200) for number in found]
            first = max([first, *found])
        log.close()
        first += 1


def read_records(log, kind):
    records = []
    while batch := log.read(kind, "kafka", max_bytes=5000, max_records=100):
        records += batch.records
        log.confirm(kind, "kafka", batch.last_seq)
    return records


def test_two_processes_on_one_folder_are_told_of_each_other(tmp_path):
    writer = start_writer(tmp_path, 1)
    assert writer.stdout.readline() == "open\n"
    with pytest.raises(StateError, match=f"in use by process {writer.pid} ") as caught:
        open_log(tmp_path)
    assert str(tmp_path) in str(caught.value)
    kill_after(writer, 1)
    open_log(tmp_path).close()


def test_full_disk_is_said_and_lets_alerts_pass(tmp_path):
    log = open_log(tmp_path)
    log.append(Kind.ALERTS, make_records(1, 50, num_bytes=200))
    with limited_files(3000):
        log.sync()
        assert log.error == "the log cannot be written: File too large"
        assert log.wait("kafka", 0)
        assert numbers_of(log.read(Kind.ALERTS, "kafka", max_bytes=1000, max_records=2)) == [1, 2]
        assert log.safe_seq(Kind.ALERTS) == 0
        log.confirm(Kind.ALERTS, "kafka", 2)
        log.sync()
        assert log.error is not None
    log.sync()
    assert log.error is None
    assert log.safe_seq(Kind.ALERTS) == 50
    log.close()
    assert read_all(open_log(tmp_path), Kind.ALERTS, "kafka") == list(range(3, 51))


def test_what_finds_room_on_a_full_disk_is_written(tmp_path):
    log = open_log(tmp_path)
    log.append(Kind.ALERTS, make_records(1, 100, num_bytes=5000))
    with limited_files(100_000):
        log.sync()
        assert log.safe_seq(Kind.ALERTS) == 0
        log.sync()
        assert log.safe_seq(Kind.ALERTS) == 13  # 64 kB of them
        assert log.error is not None
    log.sync()
    assert log.safe_seq(Kind.ALERTS) == 100


def test_full_disk_after_a_restart_is_said(tmp_path):
    log = open_log(tmp_path)
    log.append(Kind.TRACKS, make_records(1, 5, Kind.TRACKS, 200))
    log.close()
    again = open_log(tmp_path)
    with limited_files(100):
        again.append(Kind.ALERTS, make_records(1, 5, num_bytes=200))
        again.sync()
        assert again.error is not None
        assert again.has_room()
        assert again.lag("kafka").num_records == 10
        assert read_all(again, Kind.TRACKS, "kafka") == [1, 2, 3, 4, 5]


def test_full_disk_stays_said_though_nothing_waits_to_be_written(tmp_path, caplog):
    log = open_log(tmp_path)
    log.append(Kind.ALERTS, make_records(1, 5, num_bytes=200))
    with limited_files(100):
        log.sync()
        assert read_all(log, Kind.ALERTS, "kafka") == [1, 2, 3, 4, 5]
        for _ in range(3):
            log.sync()
            assert log.error is not None
    assert caplog.text.count("the log cannot be written") == 1
    log.sync()
    assert log.error is None


def test_full_disk_sheds_what_memory_cannot_hold_and_nothing_on_disk(tmp_path):
    log = open_log(tmp_path, memory_bytes=2000)
    log.append(Kind.TRACKS, make_records(1, 20, Kind.TRACKS, 200))
    log.sync()
    with limited_files(100):
        log.append(Kind.TRACKS, make_records(21, 60, Kind.TRACKS, 200))
        log.sync()
        assert log.counts().shed["kafka", Kind.TRACKS] == 40
        assert not log.has_room()
    log.sync()
    assert read_all(log, Kind.TRACKS, "kafka") == [*range(1, 11), *range(51, 61)]
    assert log.has_room()


def test_what_cannot_be_written_at_the_end_is_counted(tmp_path):
    log = open_log(tmp_path, KAFKA, JSONL)
    log.append(Kind.TRACKS, make_records(1, 5, Kind.TRACKS, 200))
    log.confirm(Kind.TRACKS, "jsonl", 2)
    with limited_files(100):
        log.close()
    assert log.counts().shed["kafka", Kind.TRACKS] == 5
    assert log.counts().shed["jsonl", Kind.TRACKS] == 3
    assert log.lag("kafka").num_records == log.lag("jsonl").num_records == 0


def test_segment_deleted_by_others_is_counted_and_passed_over(tmp_path):
    log = open_log(tmp_path, memory_bytes=200, segment_bytes=1000)
    for first in (1, 11, 21):
        log.append(Kind.TRACKS, make_records(first, first + 9, Kind.TRACKS, 200))
        log.sync()
    sorted(tmp_path.glob("log/tracks/*"))[1].unlink()
    found = read_all(log, Kind.TRACKS, "kafka")
    assert found == sorted({*range(1, 31)} & {*found})
    assert len(found) + log.counts().corrupt[Kind.TRACKS] == 30
    assert log.counts().corrupt[Kind.TRACKS] > 0


def test_segment_that_cannot_be_opened_now_is_tried_again(tmp_path):
    log = open_log(tmp_path, memory_bytes=200)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS, 200))
    log.sync()
    log.wake("kafka")  # else it would wait a second before the next try
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        assert log.read(Kind.TRACKS, "kafka", max_bytes=1000, max_records=10) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert read_all(log, Kind.TRACKS, "kafka") == list(range(1, 11))


def test_segment_that_cannot_be_opened_is_tried_once_a_second_or_when_woken(tmp_path, monkeypatch):
    log = open_log(tmp_path, memory_bytes=200)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS, 200))
    log.sync()
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.EACCES, "no")))
    began_s = time.monotonic()
    assert log.read(Kind.TRACKS, "kafka", max_bytes=1000, max_records=10) is None
    assert time.monotonic() - began_s > 0.9
    threading.Timer(0.1, log.wake, ["kafka"]).start()
    began_s = time.monotonic()
    assert log.read(Kind.TRACKS, "kafka", max_bytes=1000, max_records=10) is None
    assert time.monotonic() - began_s < 0.9


def test_record_appended_before_the_clock_was_set_back_has_no_age(tmp_path):
    clock = ManualClock()
    clock.advance(50)
    log = open_log(tmp_path, clock=clock)
    log.append(Kind.TRACKS, make_records(1, 1, Kind.TRACKS))
    log.close()
    assert open_log(tmp_path, clock=ManualClock()).lag("kafka").oldest_age_s == 0.0


BAD_SECTOR = range(300_000, 300_512)


def fail_reads(monkeypatch, bad=BAD_SECTOR, num_times=1 << 30):
    """A disk that cannot read some bytes; it gives what lies before them."""
    pread, failed = os.pread, []

    def read(fd, size, at):
        if at in bad and len(failed) < num_times:
            failed.append(at)
            raise OSError(errno.EIO, "Input/output error")
        is_before = at < bad.start < at + size and len(failed) < num_times
        return pread(fd, bad.start - at if is_before else size, at)

    monkeypatch.setattr(os, "pread", read)
    return failed


def read_in_spite_of_errors(log, num_tries):
    log.wake("kafka")  # else it would wait a second before each try
    found = []
    for _ in range(num_tries):
        found += read_all(log, Kind.TRACKS, "kafka", max_records=100)
    return found


def test_sector_that_can_be_read_later_costs_nothing(tmp_path, monkeypatch):
    log = open_log(tmp_path, memory_bytes=200, log_bytes=1 << 24)
    log.append(Kind.TRACKS, make_records(1, 500, Kind.TRACKS, 1000))
    log.sync()
    failed = fail_reads(monkeypatch, num_times=3)
    assert read_in_spite_of_errors(log, 3) == []
    assert read_in_spite_of_errors(log, 1) == list(range(1, 501))
    assert len(failed) == 3
    assert log.counts().corrupt[Kind.TRACKS] == 0


def test_bad_sector_costs_the_records_around_it_alone(tmp_path, monkeypatch):
    log = open_log(tmp_path, KAFKA, MQTT, memory_bytes=200, log_bytes=1 << 24)
    log.append(Kind.TRACKS, make_records(1, 500, Kind.TRACKS, 1000))
    log.sync()
    failed = fail_reads(monkeypatch)
    found = read_in_spite_of_errors(log, 4)
    lost = sorted({*range(1, 501)} - {*found})
    assert found == sorted(set(found))
    assert 300 in lost
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert len(lost) == log.counts().corrupt[Kind.TRACKS] <= (1 << 16) // 1000 + 2
    assert len(failed) < 20


def test_file_out_of_reach_is_given_up_in_the_end(tmp_path, monkeypatch):
    log = open_log(tmp_path, memory_bytes=200)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS, 1000))
    log.sync()
    fail_reads(monkeypatch, range(1 << 30))
    assert read_in_spite_of_errors(log, 4) == [10]
    assert log.counts().corrupt[Kind.TRACKS] == 10  # the last was in memory too


def test_bad_sector_keeps_no_process_from_starting(tmp_path, monkeypatch, caplog):
    log = open_log(tmp_path, log_bytes=1 << 24)
    log.append(Kind.TRACKS, make_records(1, 500, Kind.TRACKS, 1000))
    log.close()
    with monkeypatch.context() as failing:
        fail_reads(failing)
        again = open_log(tmp_path, log_bytes=1 << 24)
    assert "Input/output error; records around it are given up" in caplog.text
    found = read_all(again, Kind.TRACKS, "kafka", max_records=100)
    assert (found[0], found[-1]) == (1, 500)
    assert 1 <= again.counts().corrupt[Kind.TRACKS] <= (1 << 16) // 1000 + 2


def test_damage_while_running_is_counted_once_for_all_consumers(tmp_path):
    log = open_log(tmp_path, KAFKA, MQTT, memory_bytes=200)
    log.append(Kind.TRACKS, make_records(1, 10, Kind.TRACKS, 200))
    log.sync()
    (path,) = tmp_path.glob("log/tracks/*")
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    for name in ("kafka", "mqtt"):
        assert read_all(log, Kind.TRACKS, name) == [1, 2, *range(4, 11)]
    assert log.counts().corrupt == {Kind.ALERTS: 0, Kind.TRACKS: 1, Kind.MASKLETS: 0}


def test_threads_get_everything_while_it_is_written_spilled_and_deleted(tmp_path):
    log = open_log(
        tmp_path, KAFKA, MQTT, JSONL, log_bytes=1 << 24, memory_bytes=10_000, segment_bytes=5000
    )
    total = 3000
    feeds = [Feed(log, name, total) for name in ("kafka", "mqtt", "jsonl")]
    for first in range(1, total, 30):
        for kind in Kind:
            log.append(kind, make_records(first, first + 29, kind, 200))
        log.sync()
    for feed in feeds:
        feed.thread.join(60)
        assert not feed.thread.is_alive()
        for kind, found in feed.found.items():
            num_shed = log.counts().shed[feed.name, kind]
            assert found == sorted(set(found))
            assert len(found) + num_shed == total
            assert num_shed == 0 or feed.name == "jsonl"
    log.close()


class Feed:
    """A thread that reads until it has everything that was not shed."""

    def __init__(self, log, name, total):
        self.log, self.name, self.total = log, name, total
        self.found = {kind: [] for kind in Kind}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not all(self.has_all(kind) for kind in Kind):
            self.log.wait(self.name, 1)
            for kind in Kind:
                batch = self.log.read(kind, self.name, max_bytes=3000, max_records=50)
                if batch is not None:
                    self.found[kind] += numbers_of(batch)
                    self.log.confirm(kind, self.name, batch.last_seq)

    def has_all(self, kind):
        num_shed = self.log.counts().shed[self.name, kind]
        return len(self.found[kind]) + num_shed >= self.total


def test_several_threads_append_each_in_its_order(tmp_path):
    log, seqs = open_log(tmp_path, memory_bytes=10_000), {}

    def append(first):
        records = make_records(first, first + 299)
        seqs.update({log.append(Kind.ALERTS, [record]): record.timestamp_ms for record in records})

    threads = [threading.Thread(target=append, args=(first,)) for first in (1, 1001, 2001)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        log.sync()
    log.sync()
    found = read_all(log, Kind.ALERTS, "kafka")
    assert found == [seqs[seq] for seq in range(1, 901)]
    for first in (1, 1001, 2001):
        mine = [number for number in found if first <= number < first + 300]
        assert mine == list(range(first, first + 300))


class HangingDisk:
    """Holds up each fsync of a thread that syncs a log until it is told to go on."""

    def __init__(self, log, monkeypatch):
        self.is_syncing, self.may_end = threading.Event(), threading.Event()
        self.fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.hang)
        self.thread = threading.Thread(target=log.sync, daemon=True)
        self.thread.start()
        assert self.is_syncing.wait(30)

    def hang(self, fd):
        self.is_syncing.set()
        assert self.may_end.wait(30)
        self.fsync(fd)

    def go_on(self):
        self.may_end.set()
        self.thread.join(30)


def test_append_does_not_wait_for_a_slow_disk(tmp_path, monkeypatch):
    log = open_log(tmp_path, KAFKA, JSONL)
    log.append(Kind.ALERTS, [make_record(1)])
    disk = HangingDisk(log, monkeypatch)
    assert log.append(Kind.ALERTS, [make_record(2)]) == 2
    assert read_all(log, Kind.ALERTS, "jsonl") == [1, 2]
    assert log.lag("kafka").num_records == 2
    disk.go_on()
    assert read_all(log, Kind.ALERTS, "kafka") == [1]


def test_disk_that_hangs_lets_alerts_pass_and_is_said_until_it_answers(
    tmp_path, monkeypatch, caplog
):
    clock = ManualClock()
    log = open_log(tmp_path, clock=clock)
    log.append(Kind.ALERTS, make_records(1, 3))
    disk = HangingDisk(log, monkeypatch)
    clock.advance(HANG_S - 0.1)
    log.notice_hang()
    assert not log.wait("kafka", 0)
    assert log.error is None
    clock.advance(0.2)
    log.notice_hang()
    log.notice_hang()
    assert log.wait("kafka", 0)
    assert numbers_of(log.read(Kind.ALERTS, "kafka", max_bytes=1000, max_records=2)) == [1, 2]
    assert log.error == "the log cannot be written: the disk has not answered for 5 s"
    assert caplog.text.count("the disk has not answered") == 1
    assert log.safe_seq(Kind.ALERTS) == 0
    disk.go_on()
    assert log.error is None
    assert log.safe_seq(Kind.ALERTS) == 3
    log.append(Kind.ALERTS, make_records(4, 4))
    assert read_all(log, Kind.ALERTS, "kafka") == [1, 2, 3]


@pytest.mark.parametrize("num_on_disk", [0, 10])
def test_memory_is_bounded_while_the_disk_hangs_and_each_loss_counts_once(
    tmp_path, monkeypatch, num_on_disk
):
    clock = ManualClock()
    log = open_log(tmp_path, memory_bytes=2000, clock=clock)
    log.append(Kind.TRACKS, make_records(1, 10 + num_on_disk, Kind.TRACKS, 200))
    log.sync()
    last = num_on_disk + 40
    log.append(Kind.TRACKS, make_records(11 + num_on_disk, last - 20, Kind.TRACKS, 200))
    with monkeypatch.context() as hanging:
        disk = HangingDisk(log, hanging)
        clock.advance(HANG_S)
        log.notice_hang()
        for number in range(last - 19, last + 1):
            log.append(Kind.TRACKS, make_records(number, number, Kind.TRACKS, 200))
            assert log._kinds[Kind.TRACKS]._tail.bytes_after(0) == 2000
        assert not log.has_room()
        disk.go_on()
    assert log.error is None
    assert log.counts().shed["kafka", Kind.TRACKS] == 30
    log.sync()
    assert log.lag("kafka").num_records == num_on_disk + 10
    # What was written in the end was counted as lost by then, so it is there no more.
    assert read_all(log, Kind.TRACKS, "kafka") == [
        *range(1, num_on_disk + 1),
        *range(last - 9, last + 1),
    ]
    log.close()
    again = read_all(open_log(tmp_path, MQTT), Kind.TRACKS, "mqtt")
    assert again == list(range(1, num_on_disk + 1))
