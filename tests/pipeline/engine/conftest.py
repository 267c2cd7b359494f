"""Every test of the engine checks that no other thread writes what is the engine's alone."""

import pytest

from tests.pipeline.single_writer import watch_writers


@pytest.fixture(autouse=True)
def _single_writer(monkeypatch):
    with watch_writers(monkeypatch):
        yield
