"""``make bench-delivery``: how soon and how many records reach a consumer of a real broker.

Three figures, with a model that takes no time and a broker and a consumer in processes of their
own:

- time from capture to a consumer that has the masklets record, 8 streams of 640 x 360 at 5 fps
  with 5 objects each;
- masklets records of 2 kB a second from the outbox to their confirmation;
- time that the log on disk costs an event on its way to a sink.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from rich.console import Console

from connectors.base import RecordSink, Refused, Source
from connectors.errors import Position
from connectors.frame import CaptureClock, Frame
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.sink import KafkaSink
from connectors.record import Record, Topic
from pipeline.app import build_app
from pipeline.clock import SystemClock
from pipeline.config.run import RunConfig
from pipeline.config.sections.delivery import DeliveryConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.delivery import Delivery
from pipeline.engine.outbox import Outbox
from pipeline.engine.sink_watch import Observers
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.benchmarks.engine import FixedTracker, PacedSource, build_config, make_frames
from tests.benchmarks.timing import machine
from tests.servers import kafka_broker

_NUM_STREAMS, _FPS = 8, 5.0
_WARM_UP_S, _START_S, _SILENCE_S = 3.0, 30.0, 3.0
_TOPIC = Topic.MASKLETS.value
# As smooth outlines are: few letters, and no two alike, or compression would cost nothing.
_LETTERS = np.frombuffer(b"LM1N2O30", np.uint8)
_NOISE = _LETTERS[np.random.default_rng(0).integers(0, len(_LETTERS), (100, 1900))]
_RECORDS = tuple(
    Record(
        topic=Topic.MASKLETS,
        key="cam",
        value=json.dumps({"counts": counts.tobytes().decode()}).encode(),
        headers=(),
        timestamp_ms=0,
    )
    for counts in _NOISE
)


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the cameras")
    parser.add_argument("--consume", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        consume(options.consume)
        return
    latencies_ms = capture_to_consumer_ms(options.seconds)
    costs_ms = write_ahead_ms()
    figures = {
        "latency_p50_ms": _quantile(latencies_ms, 0.5),
        "latency_p99_ms": _quantile(latencies_ms, 0.99),
        "records_per_s": round(records_per_s()),
        "write_ahead_p50_ms": _quantile(costs_ms, 0.5),
        "write_ahead_p99_ms": _quantile(costs_ms, 0.99),
    }
    console = Console(highlight=False)
    if options.json:
        console.print_json(json.dumps({**machine(), **figures}), indent=None)
        return
    goals = (50, 150, 3000, 60, 60)
    for (name, figure), goal in zip(figures.items(), goals, strict=True):
        console.print(f"{name}: {figure} (goal {goal})")


class LiveSource(PacedSource):
    """Gives its frames at a rate, captured now."""

    def read(self) -> Frame | None:
        """Wait until the next frame is due."""
        frame = super().read()
        if frame is None:
            return None
        now = datetime.now(UTC)
        return replace(frame, captured_at=now, capture_clock=CaptureClock.ARRIVAL)


def capture_to_consumer_ms(seconds: float) -> list[float]:
    """Return how old masklets records are when a consumer has them."""
    num_frames = round(_FPS * seconds)

    def build(stream: StreamConfig, position: Position | None) -> Source:
        time.sleep(1 / _FPS / _NUM_STREAMS)  # cameras do not film at the same moment
        return LiveSource(make_frames(stream.id, (640, 360), num_frames), _FPS)

    with kafka_broker() as (address, _), TemporaryDirectory() as folder:
        with KafkaSink(config=KafkaSinkConfig(bootstrap=address)) as sink:
            sink.write([_RECORDS[0]])  # makes the topic
        sinks = [{"type": "kafka", "bootstrap": address}]
        fields = build_config(_NUM_STREAMS, Path(folder)).model_dump(exclude_unset=True)
        state = {"folder": folder}
        config = RunConfig.model_validate({**fields, "sinks": sinks, "state": state})
        app = build_app(config, tracker=FixedTracker(), build=build)
        command = [sys.executable, "-m", "tests.benchmarks.delivery", "--consume", address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
            assert consumer.stdout is not None
            consumer.stdout.readline()
            app.engine.run()
            ages_ms = [float(line) for line in consumer.stdout]
    return ages_ms[round(_NUM_STREAMS * _FPS * _WARM_UP_S) :]


def consume(address: str) -> None:
    """Print the age of each new masklets record in ms, until none comes for three seconds.

    An empty line says that it waits for them.
    """
    # The stand-in of a broker answers a fetch that found nothing after its wait, not when there is
    # something: with the client's 500 ms its share is a median of 125 ms, with these 7.
    consumer = KafkaConsumer(bootstrap_servers=address, fetch_max_wait_ms=20)
    numbers = consumer.partitions_for_topic(_TOPIC)
    consumer.assign([TopicPartition(_TOPIC, number) for number in numbers])
    consumer.seek_to_end()
    consumer.poll(timeout_ms=1000)
    print(flush=True)  # noqa: T201 - to the process that has begun this one
    last_s = time.monotonic() + _START_S
    while time.monotonic() - last_s < _SILENCE_S:
        for records in consumer.poll(timeout_ms=200).values():
            now, last_s = datetime.now(UTC), time.monotonic()
            for record in records:
                captured_at = datetime.fromisoformat(json.loads(record.value)["capture_time"])
                sys.stdout.write(f"{1000 * (now - captured_at).total_seconds():.3f}\n")


def records_per_s(num_records: int = 15_000) -> float:
    """Return how many masklets records of 2 kB go through the outbox in a second."""
    with kafka_broker() as (address, _), TemporaryDirectory() as folder:
        outbox = _outbox(KafkaSink(config=KafkaSinkConfig(bootstrap=address)), Path(folder))
        outbox.put(Delivery(dead_letter=_RECORDS[0]))  # makes topics and connections
        _wait_for(outbox)
        began_s = time.monotonic()
        for number in range(num_records):
            while not outbox.has_room:
                time.sleep(0.001)
            outbox.put(Delivery(dead_letter=_RECORDS[number % len(_RECORDS)]))
        _wait_for(outbox)
        rate = num_records / (time.monotonic() - began_s)
        outbox.close()
    return rate


@dataclass(slots=True)
class ArrivalSink(RecordSink):
    """Notes when each record comes, by its number."""

    needs_log = True
    arrived_s: dict[int, float] = field(default_factory=dict[int, float])

    def open(self) -> None:
        """Nothing to open."""

    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        """Note the time."""
        now_s = time.monotonic()
        self.arrived_s.update((record.timestamp_ms, now_s) for record in records)
        return ()

    def flush(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to let go of."""


def write_ahead_ms(num_events: int = 500) -> list[float]:
    """Return how long events take to a sink that gets them once they are on disk."""
    put_s: dict[int, float] = {}
    sink = ArrivalSink()
    with TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk, where /tmp may be memory
        outbox = _outbox(sink, Path(folder))
        for number in range(num_events):
            event = Record(
                topic=Topic.EVENTS, key="cam", value=b"." * 700, headers=(), timestamp_ms=number
            )
            put_s[number] = time.monotonic()
            outbox.put(Delivery(dead_letter=event))
            time.sleep(0.013)
        _wait_for(outbox)
        outbox.close()
    return [1000 * (sink.arrived_s[number] - began_s) for number, began_s in put_s.items()]


def _outbox(sink: RecordSink, folder: Path) -> Outbox:
    clock = SystemClock()
    outbox = Outbox(
        {"sink": sink},
        config=DeliveryConfig(),
        state_folder=folder,
        deployment="bench",
        worker="bench",
        observers=Observers(metrics=Metrics(tuple), health=Health(clock, stall_s=60), clock=clock),
    )
    outbox.start()
    return outbox


def _wait_for(outbox: Outbox) -> None:
    pace = threading.Event()
    while outbox.num_waiting or outbox.acknowledged < outbox.num_put:
        pace.wait(0.002)


def _quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 1)


if __name__ == "__main__":
    main()
