"""Every test checks that only the thread that runs an engine writes what is the engine's."""

import pytest

from tests.pipeline.single_writer import watch_writers


@pytest.fixture(autouse=True)
def single_writer(monkeypatch):
    with watch_writers(monkeypatch):
        yield
