"""Flags of one camera into a configuration."""

import pytest

from pipeline.cli.flags import OneCamera, Overrides, config_from_flags


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
