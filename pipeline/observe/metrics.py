"""All metrics in one place. Names and labels are a public surface; a test holds them still.

Labels are streams, causes, rules and sinks: never tracks, so their number stays bounded.
"""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipeline.records.schema import StreamState
from pipeline.tracking.states import TrackState

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


def package_version() -> str:
    """Return the installed version, ``unknown`` when run from loose files."""
    try:
        return version("maskstream")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """The metrics of one engine, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._frame_metrics()
        self._track_metrics()
        self._sink_metrics()
        build = self._gauge("build_info", "Version of the running program.", "version")
        build.labels(version=package_version()).set(1)

    def exposition(self) -> bytes:
        """Return all values in the Prometheus text format."""
        return generate_latest(self.registry)

    def forget_stream(self, stream_id: str) -> None:
        """Drop the gauges of a stream that is no more; its counters stay."""
        with suppress(KeyError):
            self.buffer_frames.remove(stream_id)
        for state in TrackState:
            with suppress(KeyError):
                self.tracks.remove(stream_id, state)
        for stream_state in StreamState:
            with suppress(KeyError):
                self.stream_state.remove(stream_id, stream_state)

    def _frame_metrics(self) -> None:
        self.received = self._counter("frames_received", "Frames from sources.", "stream")
        self.processed = self._counter("frames_processed", "Frames seen by the model.", "stream")
        self.gated = self._counter("frames_gated", "Frames left out on purpose.", "stream")
        self.dropped = self._counter("frames_dropped", "Frames lost.", "stream", "cause")
        self.buffer_frames = self._gauge("buffer_frames", "Waiting for the model.", "stream")
        self.batch_frames = self._histogram("batch_frames", "Frames in one step.", buckets=_BATCH)
        self.stage = self._histogram("stage_seconds", "Time in one stage.", "stage")
        self.latency = self._histogram(
            "capture_to_result_seconds", "From capture to result; live streams only.", "stream"
        )
        self.reconnects = self._counter("reconnects", "Sources opened again.", "stream")
        self.stream_state = self._gauge("stream_state", "1 for the present one.", "stream", "state")
        self.model_errors = self._counter("model_errors", "Frames the model failed on.", "stream")

    def _track_metrics(self) -> None:
        self.tracks = self._gauge("tracks", "Living tracks.", "stream", "state")
        self.track_changes = self._counter("track_changes", "Steps in lives.", "stream", "kind")
        self.events = self._counter("events", "Rule events.", "stream", "rule", "phase")

    def _sink_metrics(self) -> None:
        self.records = self._counter("records_written", "Records given.", "sink", "topic")
        self.sink_errors = self._counter("sink_errors", "Failed writes, retries too.", "sink")
        self.shed = self._counter("results_shed", "Results that a slow sink missed.", "sink")
        self.queue = self._gauge("publish_queue", "Results that wait for a sink.", "sink")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"maskstream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"maskstream_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(
            f"maskstream_{name}", text, labels, registry=self.registry, buckets=buckets
        )
