import inspect

import pytest
from av import error as av_error
from kafka import errors as kafka_errors

from connectors import errors
from connectors.errors import BadFrameError, ConnectorError, UnreachableError, redact_url
from connectors.kafka.client import translate_sink_error, translate_source_error
from connectors.video.errors import translate_file_error, translate_live_error

PASSWORDS = [
    "rtsp://admin:s3cr3t@camera/1",
    "cannot open 'rtsp://admin:s3cr3t@camera:554/1': refused",
    "rtsp://camera/1?user=a&password=s3cr3t&x=1",
    "cannot open 'rtsp://admin:12#s3cr3t@camera/1'",
    "rtsp://admin:12/s3cr3t@x?s3cr3t@camera/1",
    "rtsp://admin:it's3cr3t@camera/1",
    "rtsp://camera/1?usr=a&pass=s3cr3t&pw=s3cr3t",
    "kafka://u:s3cr3t@host:9092 and http://h/?api_key=s3cr3t",
]


@pytest.mark.parametrize("text", PASSWORDS)
def test_redact_url_hides_secrets_and_nothing_else(text):
    redacted = redact_url(text)
    assert "s3cr3t" not in redacted
    assert "camera" in redacted or "host:9092" in redacted


def test_message_names_stream_position_reason_and_what_is_accepted():
    error = UnreachableError("gate", "refused", position={"frame": 7}, accepted="a live camera")
    assert str(error) == "stream 'gate' at frame 7: refused; accepted: a live camera"
    assert error.recoverable
    assert error.stream_id == "gate"


@pytest.mark.parametrize("text", PASSWORDS)
def test_errors_hold_no_secret_anywhere(text):
    error = UnreachableError(text, text, position={"url": text})
    assert "s3cr3t" not in f"{error} {error!r} {error.args} {vars(error)}"


def test_bad_frame_carries_its_input_but_does_not_print_it():
    error = BadFrameError("gate", "garbage", payload=b"\x00secret")
    assert error.payload == b"\x00secret"
    assert "secret" not in str(error)


def test_tree_in_the_docstring_is_the_tree_in_the_code():
    classes = {name for name, _ in inspect.getmembers(errors, _is_error)}
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert classes == drawn - {"OSError"}


def _is_error(member):
    return inspect.isclass(member) and issubclass(member, ConnectorError)


def _all_of(module, base):
    found = [one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, base)]
    assert len(found) > 20
    return found


@pytest.mark.parametrize(
    "foreign", _all_of(av_error, av_error.FFmpegError), ids=lambda c: c.__name__
)
def test_every_pyav_error_becomes_one_of_ours(foreign):
    error = foreign(1, "it broke", "rtsp://admin:s3cr3t@camera/1")
    for ours in (
        translate_live_error(error, "gate", position={}),
        translate_file_error(error, "gate", position={}, is_known_container=True),
    ):
        assert isinstance(ours, errors.SourceError)
        assert "s3cr3t" not in str(ours)


@pytest.mark.parametrize(
    "foreign", _all_of(kafka_errors, kafka_errors.KafkaError), ids=lambda c: c.__name__
)
def test_every_kafka_error_becomes_one_of_ours(foreign):
    error = foreign("it broke")
    source = translate_source_error(error, "gate", position={}, bootstrap="h:1")
    assert isinstance(source, errors.SourceError)
    assert isinstance(translate_sink_error(error, "kafka://h:1"), errors.SinkError)
    assert "it broke" in str(source)
