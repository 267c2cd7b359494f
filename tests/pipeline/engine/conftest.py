"""Outboxes for the tests of the engine."""

from contextlib import ExitStack

import pytest

from pipeline.clock import SystemClock
from pipeline.config.sections.delivery import DeliveryConfig
from pipeline.engine.outbox import Outbox
from pipeline.engine.sink_watch import Observers
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.pipeline.engine.transactions import exactly_once, running


@pytest.fixture
def make_outbox(tmp_path):
    """Builds outboxes over one state folder; those left open are closed."""
    made = []

    def make(*sinks, keeps_state=False, **config):
        metrics = Metrics(tuple)
        health = Health(SystemClock(), stall_s=60)
        outbox = Outbox(
            {f"sink-{number}": sink for number, sink in enumerate(sinks)},
            config=DeliveryConfig(**config),
            state_folder=tmp_path / "state",
            deployment="d",
            worker="w",
            observers=Observers(metrics=metrics, health=health, clock=SystemClock()),
            keeps_state=keeps_state,
        )
        made.append(outbox)
        return outbox, metrics, health

    yield make
    for outbox in made:
        outbox.close()


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """Returns what begins runs over one folder of state; those left open are broken off."""
    with ExitStack() as stack:

        def make(books, group, *stream_ids, name="state", most=100_000, **options):
            config = exactly_once(tmp_path / name, *stream_ids, most=most)
            return stack.enter_context(running(monkeypatch, config, books, group, **options))

        yield make
