import subprocess
import sys

import pytest

from connectors.base import FrameSink, PictureSink, RecordSink
from connectors.plugin import PluginSinkConfig, PluginSourceConfig
from connectors.registry import build_sink, build_source, sink_from_url, source_from_url


@pytest.mark.parametrize(
    "url", ["rtsp://h/1", "a.mp4", "a.png", "webcam:0", "world://demo", "kafka://h:1/t"]
)
def test_every_source_is_built_without_being_opened(url):
    source = build_source(source_from_url(url), "gate")
    assert isinstance(source.position(), dict)
    source.close()
    source.close()


@pytest.mark.parametrize(
    ("url", "position"),
    [
        ("rtsp://h/1", {"frame_seq": 7, "epoch": 3}),
        ("webcam:0", {"frame_seq": 7, "epoch": 3}),
        ("a.mp4", {"file": "a.mp4", "frame": 7, "frame_seq": 9, "epoch": 1, "round_us": 40}),
        (
            "a.png",
            {"after": "a", "index": 1, "frame_seq": 1, "epoch": 0, "height": 4, "width": 6},
        ),
        ("world://demo", {"index": 5}),
        ("kafka://h:1/t", {"t/0": 12, "t/1": 3}),
    ],
)
def test_position_survives_a_source_that_could_not_be_opened(url, position):
    source = build_source(source_from_url(url), "gate", position=position)
    source.close()
    assert source.position() == position


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:1/1", "world://demo", "kafka://127.0.0.1:1/t"])
def test_source_closed_before_it_was_opened_ends(url):
    """A run may be stopped between building a source and opening it."""
    source = build_source(source_from_url(url), "gate")
    source.close()
    source.open()
    assert source.read() is None


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("kafka://h:1", RecordSink),
        ("frames://h:1", FrameSink),
        ("jsonl:out", RecordSink),
        ("console", RecordSink),
        ("a.mp4", PictureSink),
        ("a.png", PictureSink),
    ],
)
def test_every_sink_is_built_without_being_opened(url, kind):
    sink = build_sink(sink_from_url(url))
    assert isinstance(sink, kind)
    sink.close()


def test_missing_plugin_is_named():
    with pytest.raises(ValueError, match="'mqtt'"):
        build_source(PluginSourceConfig(entry_point="mqtt"), "gate")
    with pytest.raises(ValueError, match="'webhook'"):
        build_sink(PluginSinkConfig(entry_point="webhook"))


def test_plugin_is_built_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "added.py").write_text("def build(**given): return given")
    (tmp_path / "added-1.dist-info").mkdir()
    (tmp_path / "added-1.dist-info" / "METADATA").write_text("Name: added\nVersion: 1\n")
    points = "[maskstream.connectors]\nmqtt = added:build\n"
    (tmp_path / "added-1.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    given = {"entry_point": "mqtt", "options": {"topic": "t"}}
    source = build_source(PluginSourceConfig(**given), "gate", position={"index": 3})
    assert source == {"stream_id": "gate", "options": {"topic": "t"}, "position": {"index": 3}}
    assert build_sink(PluginSinkConfig(**given)) == {"options": {"topic": "t"}}


def test_world_source_plays_and_resumes():
    with build_source(source_from_url("world://demo"), "meadow") as source:
        source.read()
        position = source.position()
        second = source.read()
    with build_source(source_from_url("world://demo"), "meadow", position=position) as resumed:
        again = resumed.read()
    assert (again.stream_id, again.frame_seq) == ("meadow", second.frame_seq)
    assert (again.pixels == second.pixels).all()


def test_configuration_loads_no_library():
    code = (
        "import pipeline.config.run, sys; print({'av', 'kafka', 'cv2', 'torch'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed.strip() == b"set()"
