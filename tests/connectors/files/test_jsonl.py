import base64
import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from connectors.errors import DeliveryFailedError, NotWritableError
from connectors.files import jsonl
from connectors.files.jsonl import JsonlSink, JsonlSinkConfig
from connectors.record import Record, Topic
from tests.connectors.small_disk import small_disk

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from connectors.files.jsonl import JsonlSinkConfig
from connectors.files.jsonl import JsonlSink
from connectors.record import Record, Topic

with JsonlSink(config=JsonlSinkConfig(folder=Path(sys.argv[1]))) as sink:
    for number in range(10**9):
        value = b'{"number": %d, "text": "%s"}' % (number, b"x" * 500)
        sink.write([Record(topic=Topic.EVENTS, key="gate", value=value, timestamp_ms=0)])
        if number == 100:
            print("ready", flush=True)
"""


def jsonl_sink(folder, *, now=time.time, **options):
    return JsonlSink(config=JsonlSinkConfig(folder=folder, **options), now=now)


def record(number, topic=Topic.EVENTS, **fields):
    value = json.dumps({"number": number}).encode()
    return Record(**{"topic": topic, "key": "gate", "value": value, "timestamp_ms": 0, **fields})


def numbers(path):
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_each_kind_of_record_has_its_file(tmp_path):
    with jsonl_sink(tmp_path / "new" / "out") as sink:
        sink.write([record(1), record(2, Topic.TRACKS), record(3)])
        assert numbers(tmp_path / "new/out/events.jsonl") == [1, 3]
        assert numbers(tmp_path / "new/out/tracks.jsonl") == [2]


def test_second_run_goes_on(tmp_path):
    for number in (1, 2):
        with jsonl_sink(tmp_path) as sink:
            sink.write([record(number)])
    assert numbers(tmp_path / "events.jsonl") == [1, 2]


def test_a_run_that_begins_anew_keeps_all_files_of_the_former_ones_elsewhere(tmp_path):
    for number, topic in ((1, Topic.TRACKS), (2, Topic.EVENTS), (3, Topic.EVENTS)):
        sink = jsonl_sink(tmp_path, append=False, now=lambda: 0.0)
        with sink:
            sink.write([record(number, topic)])
            sink.write([record(number, topic)])
    assert [path.name for path in JsonlSinkConfig(folder=tmp_path).list_files()] == ["events.jsonl"]
    assert numbers(tmp_path / "events.jsonl") == [3, 3]
    assert numbers(tmp_path / "before-19700101T000000Z/tracks.jsonl") == [1, 1]
    assert numbers(tmp_path / "before-19700101T000000Z_002/events.jsonl") == [2, 2]


def test_killed_writer_loses_no_whole_line(tmp_path):
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
    # The system may take a part of the line that was being written when the kill came.
    whole = (tmp_path / "events.jsonl").read_bytes().count(b"\n")
    with jsonl_sink(tmp_path, append=True) as sink:
        sink.write([record(whole)])
    assert whole > 100
    assert numbers(tmp_path / "events.jsonl") == list(range(whole + 1))


def test_indented_json_becomes_one_line_and_other_bytes_are_refused(tmp_path):
    poison = [record(2, value=value) for value in (b"\xff\xd8", b"", b"[NaN]", b"[" * 100_000)]
    with jsonl_sink(tmp_path) as sink:
        refused = sink.write([record(1, value=b'{\n  "number": 5\n}'), *poison, record(6)])
    assert numbers(tmp_path / "events.jsonl") == [5, 6]
    assert [one.record for one in refused] == poison
    assert "'gate' is not JSON" in refused[0].reason
    assert not (tmp_path / "dlq.jsonl").exists()


def test_dead_letters_keep_key_headers_and_any_bytes(tmp_path):
    headers = (("reason", "größer".encode()), ("raw", b"\xff"), ("reason", b"again"))
    letter = record(0, Topic.DLQ, key="gate", value=b'{"fine": 1}', headers=headers)
    with jsonl_sink(tmp_path) as sink:
        assert not sink.write([letter])
    assert json.loads((tmp_path / "dlq.jsonl").read_text()) == {
        "topic": "maskstream.dlq.v1",
        "key": "gate",
        "timestamp_ms": 0,
        "headers": [
            {"name": "reason", "value": "größer"},
            {"name": "raw", "value_base64": "/w=="},
            {"name": "reason", "value": "again"},
        ],
        "value_base64": base64.b64encode(b'{"fine": 1}').decode(),
    }


def test_a_failing_file_takes_back_the_lines_of_the_others(tmp_path):
    (tmp_path / "tracks.jsonl").mkdir()
    with jsonl_sink(tmp_path) as sink:
        for _ in range(2):
            with pytest.raises(DeliveryFailedError, match=r"tracks\.jsonl") as caught:
                sink.write([record(1), record(2, Topic.TRACKS)])
        assert caught.value.recoverable
        (tmp_path / "tracks.jsonl").rmdir()
        sink.write([record(1), record(2, Topic.TRACKS)])
    assert numbers(tmp_path / "events.jsonl") == [1]
    assert numbers(tmp_path / "tracks.jsonl") == [2]


def test_folder_that_is_a_file_is_not_writable(tmp_path):
    (tmp_path / "out").write_text("taken")
    with pytest.raises(NotWritableError, match="accepted: a writable folder"):
        jsonl_sink(tmp_path / "out").open()


def test_a_full_disk_leaves_whole_lines_and_works_again_when_there_is_room(tmp_path):
    def batch(number):
        value = json.dumps({"number": number, "text": "x" * 1000}).encode()
        return [record(number), record(number, Topic.TRACKS, value=value)]

    with small_disk(tmp_path / "disk", num_kb=64) as folder, jsonl_sink(folder) as sink:
        num_written = 0
        with suppress(DeliveryFailedError):
            while num_written < 100:
                sink.write(batch(num_written))
                num_written += 1
        with pytest.raises(DeliveryFailedError, match=r"tracks\.jsonl") as caught:
            sink.write(batch(num_written))
        assert caught.value.recoverable
        for kind in ("events", "tracks"):
            assert numbers(folder / f"{kind}.jsonl") == list(range(num_written))
        (folder / "tracks.jsonl").unlink()  # somebody makes room
        sink.write(batch(num_written))
        assert numbers(folder / "events.jsonl") == list(range(num_written + 1))
        assert numbers(folder / "tracks.jsonl") == [num_written]


def test_a_second_sink_on_a_folder_is_refused_until_the_first_is_closed(tmp_path):
    with jsonl_sink(tmp_path), pytest.raises(NotWritableError, match=f"process {os.getpid()} "):
        jsonl_sink(tmp_path).open()
    with jsonl_sink(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".jsonl.lock"]


def test_a_sink_that_cannot_be_opened_owns_nothing(tmp_path, monkeypatch):
    (tmp_path / "events.jsonl").touch()
    with monkeypatch.context() as patched:
        patched.setattr(jsonl, "stamped_path", lambda *_: tmp_path)
        with pytest.raises(NotWritableError, match="File exists"):
            jsonl_sink(tmp_path, append=False).open()
    with jsonl_sink(tmp_path, append=False):
        assert not (tmp_path / "events.jsonl").exists()


def test_files_rotate_and_are_listed_in_order(tmp_path):
    with jsonl_sink(tmp_path, rotate_bytes=14) as sink:
        for number in range(3):
            sink.write([record(number)])
    files = JsonlSinkConfig(folder=tmp_path).list_files()
    assert [numbers(path) for path in files] == [[0], [1], [2]]


def test_what_is_written_at_once_goes_into_one_file(tmp_path):
    with jsonl_sink(tmp_path, rotate_bytes=1) as sink:
        sink.write([record(0), record(1)])
        sink.write([record(2)])
    files = JsonlSinkConfig(folder=tmp_path).list_files()
    assert [numbers(path) for path in files] == [[0, 1], [2]]


def test_lines_reach_the_disk_every_half_second_and_when_flushed(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with jsonl_sink(tmp_path) as sink:
        sink.write([record(0)])  # the first write waits, and its folder is new
        assert len(synced) == 2
        sink.write([record(1)])
        assert len(synced) == 2
        sink.flush()
        sink.flush()
        assert len(synced) == 3
        monkeypatch.setattr(jsonl, "_SYNC_S", 0.0)
        sink.write([record(2)])
        assert len(synced) == 4


def test_lines_that_do_not_reach_the_disk_are_taken_back(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with jsonl_sink(tmp_path) as sink:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(DeliveryFailedError, match="output"):
                sink.write([record(0)])
        sink.write([record(0)])
    assert numbers(tmp_path / "events.jsonl") == [0]


def test_a_flush_that_fails_has_lost_no_line_and_the_next_one_has_them_on_the_disk(
    tmp_path, monkeypatch
):
    def fail(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with jsonl_sink(tmp_path) as sink:
        sink.write([record(0)])
        sink.write([record(1)])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(DeliveryFailedError, match="quota"):
                sink.flush()
            assert numbers(tmp_path / "events.jsonl") == [0]
        sink.flush()
        assert numbers(tmp_path / "events.jsonl") == [0, 1]
