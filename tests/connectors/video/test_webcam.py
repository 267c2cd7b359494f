import pytest

from connectors.errors import NotFoundError, SourceError
from connectors.video.config import WebcamSourceConfig
from connectors.video.webcam import WebcamSource


def webcam(device):
    return WebcamSource(stream_id="desk", config=WebcamSourceConfig(device=str(device)))


def test_missing_device_names_what_there_is(tmp_path):
    with pytest.raises(NotFoundError, match=r"stream .desk.: no device .*; accepted: "):
        webcam(tmp_path / "video9").open()


def test_file_that_is_no_camera_is_a_typed_error(tmp_path):
    (tmp_path / "video0").write_text("no camera")
    with pytest.raises(SourceError, match="video0"):
        webcam(tmp_path / "video0").open()


def test_closed_camera_reads_nothing(tmp_path):
    source = webcam(tmp_path / "video0")
    source.close()
    assert source.read() is None
    assert source.position() == {"frame_seq": 0, "epoch": -1}
