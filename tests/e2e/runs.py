"""Runs of the real command, and what they left on a broker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from jsonschema import Draft202012Validator
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

ROOT = Path(__file__).parents[2]
KINDS = ("masklets", "tracks", "events", "status")
SCHEMAS = {
    kind: Draft202012Validator(json.loads((ROOT / f"configs/schemas/{kind}.json").read_text()))
    for kind in KINDS
}
RUN_S = 200.0  # far more than a run takes, and less than a test may take


@contextmanager
def maskstream(*words: object, folder: Path, **environ: str) -> Iterator[subprocess.Popen]:
    """Start the command with its streams in files; it is gone when the block is left."""
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run_to_end(*words: object, folder: Path, **environ: str) -> int:
    with maskstream(*words, folder=folder, **environ) as process:
        return process.wait(timeout=RUN_S)


def topic_of(prefix: str, kind: str) -> str:
    return f"{prefix}maskstream.{kind}.v1"


def read_topic(bootstrap: str, topic: str, **options: str) -> list:
    """Return every record that a topic holds now, in order within each partition."""
    options |= {"bootstrap_servers": bootstrap, "auto_offset_reset": "earliest"}
    consumer = KafkaConsumer(**options)
    numbers = consumer.partitions_for_topic(topic) or ()
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    records, is_more = [], True
    # Beyond the ends, too: Tansu was seen to count the last batch as one record.
    while is_more or any(consumer.position(one) < ends[one] for one in partitions):
        batches = consumer.poll(timeout_ms=500)
        records += [record for batch in batches.values() for record in batch]
        is_more = bool(batches)
    consumer.close()
    return records


def read_all(bootstrap: str, prefix: str, **options: str) -> dict[str, list]:
    return {kind: read_topic(bootstrap, topic_of(prefix, kind), **options) for kind in KINDS}


def bodies(records: list) -> list[dict]:
    return [json.loads(record.value) for record in records]


def assert_published_as_promised(kind: str, record) -> None:
    """A record fits its schema, and its CloudEvents headers say what it is."""
    body = json.loads(record.value)
    SCHEMAS[kind].validate(body)
    assert record.key.decode() == body["stream_id"]
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["content-type"] == "application/json"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_type"] == f"maskstream.{kind}.v1"
    assert headers["ce_source"] == f"/maskstream/test/{quote(body['stream_id'], safe='')}"
    assert headers["ce_time"] == body["time" if kind == "status" else "capture_time"]
    assert headers["ce_subject"]


def assert_ids_are_unique(records: list) -> None:
    ids = [dict(record.headers)["ce_id"] for record in records]
    assert len(set(ids)) == len(ids) > 0
