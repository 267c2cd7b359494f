"""All metrics in one place. Names and labels are a public surface; a test holds them still.

Labels are streams, states, causes, rules and sinks, never tracks. What a stream that is gone has
counted is added to the configured id that it came from, so the number of series is bounded.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from typing_extensions import override

from pipeline.observe.health import SinkState
from pipeline.records.schema import FrameCounts, StreamState

ReadCounts = Callable[[], Sequence[tuple[str, FrameCounts]]]
"""Returns where the frames of every stream went, all at one moment."""

_PREFIX = "maskstream_"
# From the 1 ms of a rule to the 30 s of a camera whose clock is late.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


def package_version() -> str:
    """Return the installed version, ``unknown`` when run from loose files."""
    try:
        return version("maskstream")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """The metrics of one engine, in a registry of their own. Any thread may write to them.

    Args:
        read_counts: Asked once per scrape, so that in each received = processed + gated + dropped
            + waiting.
    """

    def __init__(self, read_counts: ReadCounts) -> None:
        self.registry = CollectorRegistry()
        # Held by scrapes and by retire_stream, so that no scrape sees a count twice or not at all.
        self._retiring = threading.Lock()
        self._of_streams: list[Counter | Gauge | Histogram] = []
        self.registry.register(FrameCollector(read_counts))
        self._engine_metrics()
        self._stream_metrics()
        self._sink_metrics()
        build = self._gauge("build_info", "Always 1; the label is the running version.", "version")
        build.labels(version=package_version()).set(1)

    def exposition(self) -> bytes:
        """Return all values in the Prometheus text format."""
        with self._retiring:
            families = tuple(self.registry.collect())
        # Formatted without the lock: of 21 ms at 64 streams, reading takes 9.
        return generate_latest(_Families(families))

    def add_stream(self, stream_id: str) -> None:
        """Begin a stream's counters at 0, so that the first change of each can be seen as one."""
        for metric in (
            self.reconnects,
            self.reanchors,
            self.model_errors,
            self.model_resets,
            self.session_errors,
            self.snapshots,
            self.snapshot_errors,
        ):
            metric.labels(stream_id)

    def set_stream_state(self, stream_id: str, state: StreamState) -> None:
        """Show what a stream is doing: 1 for the state, 0 for all others."""
        for other in StreamState:
            self.stream_state.labels(stream_id, other.value).set(other is state)

    def set_sink_state(self, sink: str, state: SinkState) -> None:
        """Show what a sink is doing: 1 for the state, 0 for all others."""
        for other in SinkState:
            self.sink_state.labels(sink, other.value).set(other is state)

    def retire_stream(self, stream_id: str, into: str) -> None:
        """Drop all series of a stream that is gone.

        Args:
            stream_id: The stream.
            into: The configured id that takes its counters over; histograms are not taken over,
                because rates are taken from them and never totals.
        """
        with self._retiring:
            for metric in self._of_streams:
                if isinstance(metric, Counter):
                    _add_counts(metric, stream_id, into)
                metric.remove_by_labels({"stream": stream_id})

    def _engine_metrics(self) -> None:
        self.batch_frames = self._histogram(
            "batch_frames",
            "Frames that the model saw in one step; at most one per stream.",
            buckets=_BATCH,
        )
        self.stage = self._histogram(
            "stage_seconds",
            "Time of one call in each stage: the model's step, one frame's tracks and rules, "
            "handing one result over, and a sink's write, flush and close.",
            "stage",
        )
        self.latency = self._histogram(
            "capture_to_result_seconds",
            "Time from a frame's capture to its result, by the clock that stamped the frame; live "
            "streams only.",
            "stream",
        )

    def _stream_metrics(self) -> None:
        self.stream_state = self._gauge(
            "stream_state", "1 for the state that a stream is in, 0 for others.", "stream", "state"
        )
        self.reconnects = self._counter(
            "reconnects", "Times that a source which had been lost was there again.", "stream"
        )
        self.reanchors = self._counter(
            "clock_reanchors",
            "Times that stream time was tied to a source's clock anew, because that clock and the "
            "frames' arrival went on disagreeing.",
            "stream",
        )
        self.model_errors = self._counter(
            "model_errors", "Frames that the model failed on, each alone.", "stream"
        )
        self.model_resets = self._counter(
            "model_resets",
            "Times that the model's memory of a stream was lost after an error; track ids end.",
            "stream",
        )
        self.rule_errors = self._counter(
            "rule_errors", "Times that a rule raised; its other events and rules go on.",
            "stream", "rule",
        )  # fmt: skip
        self.session_errors = self._counter(
            "session_errors",
            "Times that the end of a session raised; its tracks have ended without a record.",
            "stream",
        )
        self.snapshots = self._counter(
            "snapshots", "Times that the state of a stream was written to disk.", "stream"
        )
        self.snapshot_errors = self._counter(
            "snapshot_errors", "Times that it could not be taken or written.", "stream"
        )
        self.tracks = self._gauge(
            "tracks", "Tracks of the newest result by state.", "stream", "state"
        )
        self.track_changes = self._counter(
            "track_changes", "Steps in the lives of tracks by kind.", "stream", "kind"
        )
        self.events = self._counter(
            "events", "Events published, by rule and phase (new, update, end).",
            "stream", "rule", "phase",
        )  # fmt: skip

    def _sink_metrics(self) -> None:
        self.sink_state = self._gauge(
            "sink_state",
            "1 for the state that a sink is in (up, behind, down), 0 for others.",
            "sink",
            "state",
        )
        self.delivered = self._counter(
            "records_delivered", "Records that a sink has confirmed, by topic.", "sink", "topic"
        )
        self.refused = self._counter(
            "records_refused",
            "Records that a sink does not take because they are at fault; each has a dead letter.",
            "sink",
        )
        self.sink_errors = self._counter(
            "sink_errors", "Writing or closing that failed, each retry included.", "sink"
        )
        self.shed = self._counter(
            "shed",
            "Records, pictures or frames that a sink did not get for want of room, or failed on.",
            "sink", "kind",
        )  # fmt: skip
        self.corrupt = self._counter(
            "log_corrupt", "Records of the log that were damaged on disk.", "kind"
        )
        self.sink_waiting = self._gauge(
            "sink_waiting", "Records, pictures or frames that a sink has not confirmed.", "sink"
        )
        self.sink_oldest = self._gauge(
            "sink_oldest_record_seconds",
            "Age of the oldest record, picture or frame that waits for a sink.",
            "sink",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        metric = Counter(f"{_PREFIX}{name}", text, labels, registry=self.registry)
        if "stream" in labels:
            self._of_streams.append(metric)
        return metric

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        metric = Gauge(f"{_PREFIX}{name}", text, labels, registry=self.registry)
        if "stream" in labels:
            self._of_streams.append(metric)
        return metric

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        metric = Histogram(
            f"{_PREFIX}{name}", text, labels, registry=self.registry, buckets=buckets
        )
        if "stream" in labels:
            self._of_streams.append(metric)
        return metric


class _Families(Collector):
    """Metrics as they were read, less the creation times that double the number of series."""

    def __init__(self, families: Sequence[Metric]) -> None:
        for family in families:
            family.samples = [item for item in family.samples if not _is_creation_time(item)]
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families


class FrameCollector(Collector):
    """Shows where frames went, from one reading per scrape.

    Args:
        read_counts: Gives the counts of all streams at one moment.
    """

    def __init__(self, read_counts: ReadCounts) -> None:
        self._read_counts = read_counts

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values; the registry asks when this is registered."""
        return _frame_families(())

    @override
    def collect(self) -> Iterable[Metric]:
        return _frame_families(self._read_counts())


def _frame_families(counts: Sequence[tuple[str, FrameCounts]]) -> list[Metric]:
    received = CounterMetricFamily(
        f"{_PREFIX}frames_received",
        "Frames that sources gave; always the sum of processed, gated, dropped and waiting ones.",
        labels=["stream"],
    )
    processed = CounterMetricFamily(
        f"{_PREFIX}frames_processed",
        "Frames that the model saw and whose results were handed on.",
        labels=["stream"],
    )
    gated = CounterMetricFamily(
        f"{_PREFIX}frames_gated",
        "Frames left out on purpose, because max_fps asks for fewer.",
        labels=["stream"],
    )
    dropped = CounterMetricFamily(
        f"{_PREFIX}frames_dropped",
        "Frames, pictures and packets that did not become a result, by cause.",
        labels=["stream", "cause"],
    )
    waiting = GaugeMetricFamily(
        f"{_PREFIX}frames_waiting",
        "Frames received and not yet accounted for: in the buffer, or in the model now.",
        labels=["stream"],
    )
    for stream_id, count in counts:
        received.add_metric([stream_id], count.received)
        processed.add_metric([stream_id], count.processed)
        gated.add_metric([stream_id], count.gated)
        waiting.add_metric([stream_id], count.waiting)
        for cause, num_frames in count.dropped.items():
            dropped.add_metric([stream_id, cause], num_frames)
    return [received, processed, gated, dropped, waiting]


def _add_counts(metric: Counter, stream_id: str, into: str) -> None:
    for family in metric.collect():
        for sample in family.samples:
            if sample.labels["stream"] == stream_id and not _is_creation_time(sample):
                metric.labels(**{**sample.labels, "stream": into}).inc(sample.value)


def _is_creation_time(sample: Sample) -> bool:
    return sample.name.endswith("_created")
