"""What is wired to what."""

import pytest

from connectors.errors import NotWritableError
from connectors.files.jsonl import JsonlSink
from pipeline.app import build_app
from pipeline.config.run import RunConfig


def test_the_model_keeps_objects_as_long_as_their_tracks_live(tmp_path):
    config = RunConfig.model_validate(
        {
            "streams": [{"id": "a", "source": {"type": "world"}, "concepts": ["deer"]}],
            "sinks": [{"type": "jsonl", "folder": tmp_path}],
            "tracking": {"expire_s": 12.0},
        }
    )
    tracker = build_app(config).engine._parts.worker._tracker
    assert tracker._options.life.expiry_s == 12.0


def test_a_sink_that_another_uses_is_refused_before_the_model_is_loaded(tmp_path):
    config = RunConfig(
        streams=[{"id": "a", "source": {"type": "world"}, "concepts": ["deer"]}],
        sinks=[{"type": "jsonl", "folder": tmp_path / "out"}],
        model={"checkpoint": tmp_path / "none.pt"},
    )
    with JsonlSink(config=config.sinks[0]), pytest.raises(NotWritableError, match="another sink"):
        build_app(config)
    for _ in range(2):  # what the first leaves open would be refused to the second
        with pytest.raises(Exception, match=r"none\.pt") as caught:
            build_app(config)
        assert not isinstance(caught.value, NotWritableError)
