import base64
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from connectors.errors import DeliveryFailedError, NotWritableError
from connectors.files.jsonl import JsonlSink, JsonlSinkConfig
from connectors.record import Record, Topic

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


def jsonl_sink(folder, **options):
    return JsonlSink(config=JsonlSinkConfig(folder=folder, **options))


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


@pytest.mark.parametrize(("append", "expected"), [(True, [1, 2]), (False, [2])])
def test_second_run_goes_on_or_begins_anew(tmp_path, append, expected):
    for number in (1, 2):
        with jsonl_sink(tmp_path, append=append) as sink:
            sink.write([record(number)])
    assert numbers(tmp_path / "events.jsonl") == expected


def test_torn_last_line_is_removed(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"number": 1}\n{"numb')
    with jsonl_sink(tmp_path) as sink:
        sink.write([record(2)])
    assert numbers(tmp_path / "events.jsonl") == [1, 2]


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


def test_indented_json_becomes_one_line_and_other_bytes_a_dead_letter(tmp_path, caplog):
    poison = [record(2, value=value) for value in (b"\xff\xd8", b"", b"[NaN]", b"[" * 100_000)]
    with jsonl_sink(tmp_path) as sink:
        sink.write([record(1, value=b'{\n  "number": 5\n}'), *poison, record(6)])
        assert sink.num_refused == len(poison)
    assert numbers(tmp_path / "events.jsonl") == [5, 6]
    letters = [json.loads(line) for line in (tmp_path / "dlq.jsonl").read_text().splitlines()]
    assert [base64.b64decode(one["value_base64"]) for one in letters] == [
        one.value for one in poison
    ]
    assert letters[0]["topic"] == "maskstream.events.v1"
    assert "'gate' is not JSON" in caplog.text


def test_dead_letters_keep_key_headers_and_any_bytes(tmp_path):
    headers = (("reason", "größer".encode()), ("raw", b"\xff"), ("reason", b"again"))
    letter = record(0, Topic.DLQ, key="gate", value=b'{"fine": 1}', headers=headers)
    with jsonl_sink(tmp_path) as sink:
        sink.write([letter])
        assert sink.num_refused == 0
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


def test_a_file_begun_anew_is_not_begun_again_after_an_error(tmp_path):
    with jsonl_sink(tmp_path, append=False) as sink:
        sink.write([record(1)])
        (tmp_path / "tracks.jsonl").mkdir()
        with pytest.raises(DeliveryFailedError):
            sink.write([record(2), record(2, Topic.TRACKS)])
        sink.write([record(3)])
    assert numbers(tmp_path / "events.jsonl") == [1, 3]


def test_folder_that_is_a_file_is_not_writable(tmp_path):
    (tmp_path / "out").write_text("taken")
    with pytest.raises(NotWritableError, match="accepted: a writable folder"):
        jsonl_sink(tmp_path / "out").open()


def test_full_disk_is_a_typed_error_and_leaves_no_torn_line(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with jsonl_sink(tmp_path) as sink:
        sink.write([record(1)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            for _ in range(2):  # first only a part fits, then nothing does
                with pytest.raises(DeliveryFailedError, match=r"events\.jsonl' at byte 14"):
                    sink.write([record(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        sink.write([record(3)])
    assert numbers(tmp_path / "events.jsonl") == [1, 3]
