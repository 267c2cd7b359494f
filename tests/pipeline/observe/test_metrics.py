"""Metrics: consistent, bounded, described and readable by Prometheus."""

import ast
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pipeline
from pipeline.observe.health import SinkState
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import FrameCounts, StreamState
from pipeline.tracking.states import TrackState

COUNTS = FrameCounts(
    received=10, processed=4, gated=2, dropped={"overflow": 2, "bad": 1}, waiting=1
)


def no_counts():
    return ()


@pytest.fixture
def metrics():
    return Metrics(no_counts)


class Scrape:
    """The values of one scrape."""

    def __init__(self, metrics):
        families = text_string_to_metric_families(metrics.exposition().decode())
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name, *labels):
        """Return the one value of this name and these labels, in any order."""
        full = f"maskstream_{name}"
        [value] = [
            sample.value
            for sample in self.samples
            if sample.name == full and sorted(sample.labels.values()) == sorted(labels)
        ]
        return value


def use_all(metrics, stream_id):
    metrics.add_stream(stream_id)
    metrics.set_stream_state(stream_id, StreamState.RUNNING)
    metrics.latency.labels(stream_id).observe(0.1)
    metrics.reconnects.labels(stream_id).inc(2)
    metrics.events.labels(stream_id, "gate", "new").inc()
    metrics.track_changes.labels(stream_id, "started").inc()
    for state in TrackState:
        metrics.tracks.labels(stream_id, state.value).set(1)


def test_frame_counts_are_read_once_in_a_scrape():
    readings = []

    def read_counts():
        num = len(readings)
        readings.append(num)
        return (("cam", COUNTS.model_copy(update={"received": num, "waiting": num - 9})),)

    metrics = Metrics(read_counts)
    assert readings == []  # nothing is read before there is a scrape
    for num in range(3):
        value = Scrape(metrics)
        assert value("frames_received_total", "cam") == num
        assert value("frames_waiting", "cam") == num - 9
    assert readings == [0, 1, 2]


def test_frame_counts_are_shown_by_stream_and_cause():
    value = Scrape(Metrics(lambda: (("a", COUNTS), ("b", FrameCounts()))))
    assert value("frames_received_total", "a") == 10
    assert value("frames_processed_total", "a") == 4
    assert value("frames_gated_total", "a") == 2
    assert value("frames_dropped_total", "a", "overflow") == 2
    assert value("frames_dropped_total", "a", "bad") == 1
    assert value("frames_waiting", "a") == 1
    assert value("frames_received_total", "b") == 0


def test_counters_of_a_stream_begin_at_zero(metrics):
    metrics.add_stream("cam")
    value = Scrape(metrics)
    for name in ("reconnects", "clock_reanchors", "model_errors", "model_resets"):
        assert value(f"{name}_total", "cam") == 0


def test_one_stream_state_is_1_and_the_others_0(metrics):
    metrics.set_stream_state("cam", StreamState.OFFLINE)
    metrics.set_stream_state("cam", StreamState.RUNNING)
    value = Scrape(metrics)
    shown = {state: value("stream_state", "cam", state.value) for state in StreamState}
    assert shown == {state: state is StreamState.RUNNING for state in StreamState}


def test_one_sink_state_is_1_and_the_others_0(metrics):
    metrics.set_sink_state("kafka", SinkState.UP)
    metrics.set_sink_state("kafka", SinkState.DOWN)
    value = Scrape(metrics)
    shown = {state: value("sink_state", "kafka", state.value) for state in SinkState}
    assert shown == {state: state is SinkState.DOWN for state in SinkState}


def test_retired_stream_leaves_its_counts_to_the_configured_id(metrics):
    use_all(metrics, "*")
    use_all(metrics, "key")
    metrics.retire_stream("key", into="*")
    value = Scrape(metrics)
    assert not [sample for sample in value.samples if "key" in sample.labels.values()]
    assert value("reconnects_total", "*") == 4
    assert value("events_total", "*", "gate", "new") == 2
    assert value("track_changes_total", "*", "started") == 2
    assert value("tracks", "*", "lost") == 1  # gauges are not added


def test_500_keys_in_turn_take_no_more_room_than_one(metrics):
    sizes = set()
    for number in range(100, 600):
        use_all(metrics, f"key-{number}")
        if number in {101, 599}:  # the configured id is there from the second on
            sizes.add(metrics.exposition().count(b"\n"))
        metrics.retire_stream(f"key-{number}", into="*")
    assert len(sizes) == 1
    assert Scrape(metrics)("reconnects_total", "*") == 1000


def test_retiring_an_unknown_stream_changes_nothing(metrics):
    use_all(metrics, "cam")
    before = metrics.exposition()
    metrics.retire_stream("other", into="*")
    assert metrics.exposition() == before


def test_every_metric_says_what_it_counts(metrics):
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    assert len(families) > 20
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert len(family.documentation.split()) >= 5, family.name


def test_names_from_outside_cannot_break_the_format(metrics):
    name = 'a"b\\c\nd} 1\n# TYPE x counter'
    metrics.add_stream(name)
    assert Scrape(metrics)("reconnects_total", name) == 0


def test_every_metric_is_set_somewhere(metrics):
    """None is there that nobody sets: the source names each, or the method that sets it."""
    root = Path(pipeline.__file__).parent
    setters = {
        "stream_state": {"set_stream_state"},
        "sink_state": {"set_sink_state"},
    }
    used = {
        node.attr
        for path in root.rglob("*.py")
        if "observe" not in path.relative_to(root).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("metrics")
    }
    made = {name for name, value in vars(metrics).items() if hasattr(value, "_labelnames")}
    assert len(made) >= 16
    unused = {name for name in made if not ({name} | setters.get(name, set())) & used}
    assert unused == set()


def test_creation_times_are_left_out(metrics):
    use_all(metrics, "cam")
    assert b"_created" not in metrics.exposition()


def test_version_is_shown(metrics):
    assert b'maskstream_build_info{version="' in metrics.exposition()
