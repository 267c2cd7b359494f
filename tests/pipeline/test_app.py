"""What is wired to what."""

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
