"""Flags of one camera into a configuration."""

import pytest

from pipeline.cli.flags import OneCamera, Overrides, config_from_flags
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "given", "stream_id"),
    [
        ("x.mp4", {}, "camera"),
        ("kafka://localhost:9092/frames", {}, "*"),
        ("kafka://localhost:9092/frames", {"stream_id": "camera"}, "camera"),
    ],
)
def test_the_default_stream_id_suits_the_source(source, given, stream_id):
    flags = OneCamera(source=source, concepts=("deer",), **given)
    assert config_from_flags(flags, Overrides()).streams[0].id == stream_id


def test_concepts_are_needed_unless_all_sinks_take_frames():
    frames = "frames://host:9092"
    config = config_from_flags(OneCamera(source="a.mp4", concepts=(), sinks=(frames,)), Overrides())
    assert (config.streams[0].concepts, config.needs_model) == ((), False)
    for sinks in ((), (frames, "console")):
        flags = OneCamera(source="a.mp4", concepts=(), sinks=sinks)
        with pytest.raises(ConfigError, match="--concept"):
            config_from_flags(flags, Overrides())


def test_sinks_of_one_type_are_numbered_where_flags_name_none():
    sinks = ("a.mp4", "console", "b.mp4", "c.mp4")
    config = config_from_flags(
        OneCamera(source="x.mp4", concepts=("deer",), sinks=sinks), Overrides()
    )
    assert [sink.name for sink in config.sinks] == ["video", "console", "video-2", "video-3"]
