from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from connectors.annotate.config import PictureSinkConfig, VideoSinkConfig
from connectors.console import ConsoleSinkConfig
from connectors.files.jsonl import JsonlSinkConfig
from connectors.kafka.config import FramesSinkConfig, KafkaSinkConfig, KafkaSourceConfig
from connectors.pictures.config import ImagesSourceConfig
from connectors.registry import (
    SINKS,
    SOURCES,
    sink_from_url,
    source_from_url,
)
from connectors.unions import SinkConfig, SourceConfig
from connectors.video.config import FileSourceConfig, RtspSourceConfig, WebcamSourceConfig
from connectors.world.config import WorldSourceConfig

SOURCE_URLS = {
    "world://demo": WorldSourceConfig(preset="demo"),
    "world://7": WorldSourceConfig(seed=7),
    "world://wide/7": WorldSourceConfig(style="wide", seed=7),
    "webcam:2": WebcamSourceConfig(device="/dev/video2"),
    "clip.mp4": FileSourceConfig(path=Path("clip.mp4")),
    "file:///data/clip.mkv": FileSourceConfig(path=Path("/data/clip.mkv")),
    "night/*.jpg": ImagesSourceConfig(path=Path("night/*.jpg")),
    "photo.png": ImagesSourceConfig(path=Path("photo.png")),
    "rtsp://camera/1": RtspSourceConfig(url="rtsp://camera/1"),
    "kafka://a:1,b:2/frames?group_id=g": KafkaSourceConfig(
        bootstrap="a:1,b:2", topic="frames", group_id="g"
    ),
}
SINK_URLS = {
    "console": ConsoleSinkConfig(),
    "jsonl:out/": JsonlSinkConfig(folder=Path("out")),
    "out/seen.mp4": VideoSinkConfig(path=Path("out/seen.mp4")),
    "best.png": PictureSinkConfig(path=Path("best.png")),
    "kafka://localhost:9092": KafkaSinkConfig(bootstrap="localhost:9092"),
    "frames://localhost:9092": FramesSinkConfig(bootstrap="localhost:9092"),
}


@pytest.mark.parametrize(("url", "config"), SOURCE_URLS.items())
def test_source_url_stands_for_its_config(url, config):
    assert source_from_url(url) == config


@pytest.mark.parametrize(("url", "config"), SINK_URLS.items())
def test_sink_url_stands_for_its_config(url, config):
    assert sink_from_url(url) == config


def test_folder_is_videos_or_pictures_by_what_is_in_it(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert isinstance(source_from_url(str(tmp_path)), ImagesSourceConfig)
    (tmp_path / "b.mp4").touch()
    assert isinstance(source_from_url(str(tmp_path)), FileSourceConfig)


def test_camera_credentials_leave_the_url_and_are_decoded():
    config = source_from_url("rtsp://adm%40in:p%40ss%3Aw%2Fd@camera:8554/1")
    assert (config.url, config.user) == ("rtsp://camera:8554/1", "adm@in")
    assert config.password == SecretStr("p@ss:w/d")


@pytest.mark.parametrize(
    "bad",
    [
        "ftp://u:s3cr3t@host/x",
        "rtsp://u:s3cr3t@",
        "rtsp://u:s3cr3t@host:99999/1",
        "rtsp://u:12#s3cr3t@host/1",
        "rtsp://u:s3cr3t#x@host/1",
        "rtsp://u:12/s3cr3t@host/1",
        "kafka://u:12#s3cr3t@host:9092/topic",
        "kafka://u:s3cr3t@host/topic",
        "kafka://u%3As3cr3t%40host:9092/topic",
        "world://moon",
        "world://wide",
        "world://moon/7",
        "",
    ],
)
def test_bad_source_url_names_what_is_accepted_and_no_secret(bad):
    with pytest.raises(ValueError, match=r"accepted|Port out of range") as caught:
        source_from_url(bad)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("bad", ["smtp://x", "out.avi", "", "kafka://host:9092/topic"])
def test_bad_sink_url_names_what_is_accepted(bad):
    with pytest.raises(ValueError, match="accepted"):
        sink_from_url(bad)


def test_misspelt_field_is_named():
    with pytest.raises(ValidationError, match=r"rtsp\.read_timeut_s"):
        TypeAdapter(SourceConfig).validate_python(
            {"type": "rtsp", "url": "rtsp://camera/1", "read_timeut_s": 3}
        )


def test_world_of_fewer_objects_than_the_fewest_is_refused():
    with pytest.raises(ValidationError, match="min_objects 4 is above max_objects 3"):
        WorldSourceConfig(min_objects=4, max_objects=3)


def test_unknown_type_lists_the_known_ones():
    with pytest.raises(ValidationError, match="'jsonl'"):
        TypeAdapter(SinkConfig).validate_python({"type": "mongodb"})


def test_no_secret_in_the_text_of_a_config():
    kafka = sink_from_url("kafka://user:s3cr3t@host:9092")
    assert "s3cr3t" not in f"{kafka} {kafka!r} {source_from_url('rtsp://u:s3cr3t@h/1')!r}"
    assert kafka.sasl_plain_password.get_secret_value() == "s3cr3t"


@pytest.mark.parametrize(("union", "table"), [(SourceConfig, SOURCES), (SinkConfig, SINKS)])
def test_every_row_is_a_member_of_the_union(union, table):
    schema = TypeAdapter(union).json_schema()
    assert {row.config.model_fields["type"].default for row in table} == set(
        schema["discriminator"]["mapping"]
    )


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        ("rtsp://camera/1", (True, False, False)),
        ("webcam:0", (True, False, False)),
        ("clip.mp4", (False, True, False)),
        ("photo.png", (False, True, False)),
        ("world://demo", (False, True, False)),
        ("kafka://host:9092", (False, True, True)),
    ],
)
def test_source_says_whether_it_is_live_may_wait_and_names_its_streams(url, facts):
    config = source_from_url(url)
    assert (config.is_live, config.may_wait, config.names_streams) == facts


def test_a_recording_played_at_its_own_speed_does_not_wait():
    config = FileSourceConfig(path=Path("clip.mp4"), realtime=True)
    assert (config.is_live, config.may_wait) == (False, False)


def test_kafka_options_with_a_field_of_their_own_are_refused():
    with pytest.raises(ValidationError, match="'ssl_password' among the options") as caught:
        KafkaSinkConfig(bootstrap="host:9092", options={"ssl_password": "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("kind", [FramesSinkConfig, KafkaSourceConfig])
@pytest.mark.parametrize("topic", ["a/b", "a b", "..", "", "x" * 250])
def test_topic_that_kafka_does_not_take_is_named(kind, topic):
    with pytest.raises(ValidationError, match=r"topic\n.*bad topic name"):
        kind(bootstrap="host:9092", topic=topic)


@pytest.mark.parametrize("url", ["rtsp://gate/1", "webcam:0"])
def test_camera_goes_on_in_an_epoch_that_none_has_had(url):
    config, position = source_from_url(url), {"frame_seq": 7, "epoch": 1000}
    assert config.resume(position, now_s=1001) == position  # which the Unix time is
    assert config.resume(position, now_s=1000) == {"frame_seq": 7, "epoch": 2000}


def test_source_without_epochs_goes_on_where_it_was():
    position = {"frames/0": 7}
    assert source_from_url("kafka://host:9092/frames").resume(position, now_s=0) == position
    assert source_from_url("rtsp://gate/1").resume(position, now_s=0) == position
