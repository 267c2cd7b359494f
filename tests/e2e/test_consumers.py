"""What others read from Kafka with default settings: kafka-python, kafkajs, CloudEvents, ajv."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from connectors.base import Refused
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.sink import KafkaSink
from connectors.record import Topic
from pipeline.engine.dead_letters import refused_letter
from pipeline.records.codec import encode_record
from tests.contracts.surfaces import CONFIGS, RECORDS, make_example
from tests.servers import kafka_broker

SCRIPTS = Path(__file__).parent / "javascript"
CONSUMERS = CONFIGS / "consumers"
PACKAGES = ["kafkajs@2", "cloudevents@10", "ajv@8", "ajv-formats@3", "@asyncapi/parser@3"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "maskstream-tests" / "npm"
STREAMS = ["Tür 3/außen", "gate b", "50%25 off?#", "鹿/1", "plain"]
_READ_S = 120.0


def _record(name: str, stream: str):
    changes = {"event_id": f"of {stream}", "severity": "alert"} if name == "events" else {}
    model = make_example(name, stream_id=stream, **changes)
    return encode_record(model, deployment="Süd 1", worker="edge-1")


def _letter(stream: str):
    now = datetime(2026, 11, 29, tzinfo=UTC)
    fault = Refused(record=_record("events", stream), reason="zu groß")
    return refused_letter(fault, sink="kafka", now=now)


LETTERS_SENT = [_letter(stream) for stream in STREAMS]
RECORDS_SENT = [_record(name, stream) for stream in STREAMS for name in RECORDS]


@pytest.fixture(scope="module")
def packages(not_run):
    """Folder with the packages from npm, kept between runs."""
    npm = shutil.which("npm")
    reason = None if npm and shutil.which("node") else "node or npm is not there"
    if reason is None and not all(
        (CACHE / "node_modules" / _bare(one)).is_dir() for one in PACKAGES
    ):
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"npm cannot install: {done.stderr.strip().splitlines()[-1:]}"
    if reason is not None:
        not_run.add(f"consumers in JavaScript: {reason}")
        pytest.skip(reason)
    return CACHE / "node_modules"


def _bare(package: str) -> str:
    return package[0] + package[1:].partition("@")[0]


@pytest.fixture
def run_node(packages, tmp_path):
    """Return the command of a script, beside the packages that it imports."""
    (tmp_path / "node_modules").symlink_to(packages)

    def command(script: Path, *words) -> list[str]:
        shutil.copy(script, tmp_path)
        return ["node", str(tmp_path / script.name), *map(str, words)]

    return command


@pytest.fixture(scope="module")
def broker():
    """A broker that holds the records, written by the Kafka sink with its default settings."""
    with kafka_broker() as (address, _):
        with KafkaSink(config=KafkaSinkConfig(bootstrap=address)) as sink:
            assert not sink.write([*RECORDS_SENT, *LETTERS_SENT])
        yield address


@contextmanager
def lines_of(command: list[str]) -> Iterator[Iterator[dict]]:
    """The lines that a program prints, which is killed at the end, or when it takes too long."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_READ_S, process.kill)
    watchdog.start()
    try:
        yield (json.loads(line) for line in process.stdout)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def seen_by(lines: Iterator[dict]) -> dict[str, list]:
    """Bodies by stream, in their order, once all records and letters are there."""
    found = {}
    for _, line in zip([*RECORDS_SENT, *LETTERS_SENT], lines, strict=False):
        topic = f"{line['record']['stream_id']} {line['type']}"
        found.setdefault(topic, []).append((line["id"], line["record"]))
    return found


def _line_of(record):
    headers, body = dict(record.headers), record.value
    if record.topic is Topic.DLQ:
        body = json.dumps({"stream_id": record.key, "reason": "zu groß"})
    return {
        "id": headers["ce_id"].decode(),
        "type": record.topic.value,
        "record": json.loads(body),
    }


SENT = seen_by(map(_line_of, [*RECORDS_SENT, *LETTERS_SENT]))
TOPICS = [topic.value for topic in RECORDS.values()]


@pytest.mark.parametrize("record", RECORDS_SENT, ids=lambda record: f"{record.key} {record.topic}")
def test_the_cloudevents_sdk_for_python_reads_every_record(record):
    message = KafkaMessage(dict(record.headers), key=record.key, value=record.value)
    event = from_binary(message, JSONFormat())
    body = json.loads(record.value)
    assert event.get_data() == body
    assert event.get_type() == record.topic.value
    assert event.get_dataschema() == f"urn:{record.topic.value.replace('.', ':')}"
    assert event.get_extension("partitionkey") == record.key
    assert event.get_extension("rule") == body.get("rule")
    for name in ("concept", "phase", "severity"):
        assert event.get_extension(name) == body.get(name)


@pytest.mark.slow
def test_the_example_in_python_reads_every_record(broker):
    command = [sys.executable, str(CONSUMERS / "consume.py"), broker, *TOPICS, Topic.DLQ]
    with lines_of(command) as lines:
        assert seen_by(lines) == SENT


@pytest.mark.slow
def test_the_example_in_javascript_reads_every_record(broker, run_node):
    with lines_of(run_node(CONSUMERS / "consume.mjs", broker, *TOPICS, Topic.DLQ)) as lines:
        assert seen_by(lines) == SENT


@pytest.mark.slow
def test_cloudevents_for_javascript_and_ajv_in_strict_mode_take_every_record(broker, run_node):
    words = (broker, len(RECORDS_SENT), CONFIGS / "schemas", *TOPICS)
    with lines_of(run_node(SCRIPTS / "verify.mjs", *words)) as lines:
        events = {event["id"]: event for event in lines}
    assert len(events) == len(RECORDS_SENT)
    for record in RECORDS_SENT:
        headers = {name: value.decode() for name, value in record.headers}
        event = events[headers["ce_id"]]
        assert event["data"] == json.loads(record.value)
        assert (event["source"], event["partitionkey"]) == (headers["ce_source"], record.key)
        assert event.get("rule") == headers.get("ce_rule")


@pytest.mark.slow
def test_the_asyncapi_parser_takes_the_document(run_node):
    command = run_node(SCRIPTS / "asyncapi.mjs", CONFIGS / "asyncapi.yaml")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(TOPICS) < set(done.stdout.split())
