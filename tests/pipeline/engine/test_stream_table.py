"""Streams and sources that are taken out end, or are known by name until they do."""

import threading
from contextlib import contextmanager

import pytest

from connectors.kafka.config import KafkaSourceConfig
from connectors.memory import MemorySource, Pause
from pipeline.clock import SystemClock
from pipeline.engine.buffer import Arrived
from pipeline.engine.commits import Ticket
from pipeline.engine.inbox import Inbox
from pipeline.engine.ledger import Ledger
from pipeline.engine.retry import HostLimit
from pipeline.engine.source_runner import RunnerParts
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.engine.stream_table import StreamTable
from pipeline.errors import UnknownStreamError
from pipeline.observe.live import LiveView
from tests.pipeline.engine.runs import CAMERA, make_config
from tests.pipeline.fakes import make_frame


class Stuck(MemorySource):
    """Never lets go by itself."""

    release = threading.Event()

    def read(self):
        self.release.wait(60)

    def interrupt(self):
        pass


def build(stream, position):
    kind = Stuck if stream.id.startswith("stuck") else MemorySource
    return kind([Pause(600)], stream_id=stream.id, position=position)


def parts_of(ledger, store=None):
    return RunnerParts(
        build=build,
        host_of=lambda _: None,
        inbox=Inbox(),
        ledger=ledger,
        hosts=HostLimit(4),
        clock=SystemClock(),
        store=store,
    )


@contextmanager
def table_of(*stream_ids, live=None):
    """A table of streams whose sources are read, and its ledger."""
    config, ledger = make_config(*stream_ids), Ledger()
    parts = parts_of(ledger)
    table, Stuck.release = StreamTable(config, parts, live=live), threading.Event()
    sources = [table.add(stream)[0] for stream in config.streams]
    for source in sources:
        ledger.open(source.runner.config.id)
        source.runner.start()
    try:
        yield table, ledger
    finally:
        Stuck.release.set()
        table.stop()
        for source in sources:
            source.runner.finish()
            assert source.runner.join(10)


def fill(running):
    arrived = Arrived(frame=make_frame(0), arrived_us=0, now_us=0, ticket=Ticket())
    assert running.buffer.offer(arrived)


def test_source_of_a_removed_stream_ends_and_its_frames_are_counted():
    with table_of("a", "b") as (table, ledger):
        fill(table["a"])
        source = table.source(0)
        assert table.remove("a").stream_id == "a"
        assert source.is_removed
        assert source.runner.join(10)
        assert ledger.counts("a").dropped == {"removed": 1}
        assert not table.source(1).is_removed
        assert not table.source(1).runner.join(0.0)


def test_stop_ends_all_sources_and_counts_their_frames():
    with table_of("a", "b") as (table, ledger):
        for running in table:
            fill(running)
        table.stop()
        assert all(source.runner.join(10) for source in table.sources)
        for running in table:
            assert ledger.counts(running.stream_id).dropped == {"stopped": 1}
            assert running.buffer.is_drained


def test_sources_taken_out_are_named_until_they_have_ended():
    with table_of("stuck-1", "a", "stuck-2", "b") as (table, _):
        table.stop()
        for source in table.sources:
            if not source.runner.config.id.startswith("stuck"):
                assert source.runner.join(10)
            table.drop_source(source)
        assert table.sources == ()
        assert table.join(0.0) == ["stuck-1", "stuck-2"]
        # Those that have ended are not kept: streams may come and go for months.
        assert len(table._leaving) == 3
        Stuck.release.set()
        assert table.join(10) == []


def test_a_stream_that_was_dropped_is_known_no_more():
    with table_of("a", "b") as (table, _):
        source, running = table.source(0), table["a"]
        assert table.streams_of(source) == [running]
        table.drop(running)
        assert "a" not in table
        assert len(table) == 1
        assert table.streams_of(source) == []
        assert source.runner.router.find("a") is None
        with pytest.raises(UnknownStreamError, match=r"'a'.*b"):
            table.configured("a")


def test_open_streams_are_shown_as_they_are_configured_now():
    live = LiveView()
    with table_of("a", "b", live=live) as (table, _):
        assert live.streams.keys() == {"a", "b"}
        changed = table["a"].config.model_copy(update={"rules": ()})
        table.change(changed)
        assert live.streams["a"].config == changed
        table.drop(table["b"])
        assert live.streams.keys() == {"a"}


class SharedFolder(SnapshotFolder):
    is_shared = True


KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames")


@pytest.mark.parametrize(
    ("stream_id", "source", "kind", "is_open"),
    [
        ("cam", CAMERA, None, True),
        ("cam", CAMERA, SharedFolder, True),
        ("cam", KAFKA, None, True),
        ("cam", KAFKA, SnapshotFolder, True),
        ("cam", KAFKA, SharedFolder, False),
        ("*", KAFKA, None, False),
    ],
)
def test_a_stream_waits_for_its_first_frame_where_another_worker_may_have_kept_it(
    stream_id, source, kind, is_open, tmp_path
):
    config = make_config(stream_id, source=source)
    parts = parts_of(Ledger(), kind and kind(tmp_path))
    _, running = StreamTable(config, parts).add(config.streams[0])
    assert (running is not None) is is_open
