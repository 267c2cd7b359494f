import threading
import time
from datetime import UTC, datetime

import pytest

from connectors.errors import (
    NotFoundError,
    StreamEndedError,
    UnauthorizedError,
    UnreachableError,
)
from connectors.frame import CaptureClock
from connectors.video.config import RtspSourceConfig
from connectors.video.rtsp import RtspSource
from tests.media import number_of, write_video
from tests.servers import free_port, plain_rtsp_server

USER, PASSWORD, WRONG = "adm:in", "p@ss:w/d%", "wr0ng"


def camera(url, **options):
    settings = {"open_timeout_s": 10, "read_timeout_s": 10, "backoff": {"initial_s": 0.05}}
    config = RtspSourceConfig(url=url, **{**settings, **options})
    return RtspSource(stream_id="gate", config=config)


def assert_no_gaps(frames, period=50):
    numbers = [number_of(frame.pixels) for frame in frames]
    assert numbers == [(numbers[0] + step) % period for step in range(len(frames))]
    assert [frame.frame_seq for frame in frames] == list(range(len(frames)))


def test_frames_over_tcp_come_in_order_without_gaps(rtsp_server):
    with camera(rtsp_server) as source:
        frames = [source.read() for _ in range(30)]
    assert_no_gaps(frames)
    captured = [frame.captured_at for frame in frames]
    assert captured == sorted(set(captured))
    times = [frame.pts_us for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_password_with_special_signs_opens_the_camera(gstreamer, h264_file, transport):
    with (
        gstreamer(h264_file, user=USER, password=PASSWORD) as (url, _),
        camera(url, transport=transport, user=USER, password=PASSWORD) as source,
    ):
        assert_no_gaps([source.read() for _ in range(15)])


def test_wrong_password_is_unauthorized_and_not_repeated(gstreamer, h264_file):
    with gstreamer(h264_file, user=USER, password=PASSWORD) as (url, _):
        with pytest.raises(UnauthorizedError, match="accepted: its user and password") as caught:
            camera(url, user=USER, password=WRONG).open()
        with pytest.raises(UnauthorizedError):
            camera(url).open()
    assert not caught.value.recoverable
    assert WRONG not in str(caught.value)
    assert caught.value.__suppress_context__


def test_capture_time_is_the_cameras_own_once_it_reports(gstreamer, h264_file):
    with gstreamer(h264_file) as (url, _), camera(url) as source:
        frames = [source.read()]
        while frames[-1].capture_clock is CaptureClock.ARRIVAL and len(frames) < 300:
            frames.append(source.read())
    assert frames[-1].capture_clock is CaptureClock.RTCP_NTP
    assert (datetime.now(tz=UTC) - frames[-1].captured_at).total_seconds() < 5


def test_unreachable_camera_says_so_at_once():
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="'gate' at url rtsp://127") as caught:
        camera(f"rtsp://127.0.0.1:{free_port()}/camera").open()
    assert caught.value.recoverable
    assert time.monotonic() - began < 10


def test_unknown_path_is_not_found(tmp_path):
    with plain_rtsp_server(tmp_path) as (url, _), pytest.raises(NotFoundError, match="404"):
        camera(f"{url}/no.mp4").open()


def test_killed_camera_that_comes_back_begins_a_new_epoch(tmp_path):
    write_video(tmp_path / "camera.mp4", num_frames=50)
    port = free_port()
    with plain_rtsp_server(tmp_path, port) as (url, process):
        source = camera(f"{url}/camera.mp4?play_count=0")
        source.open()
        before = [source.read() for _ in range(5)]
        process.kill()
        process.wait()
    with plain_rtsp_server(tmp_path, port), source:
        after = [source.read() for _ in range(5)]
    assert {frame.stream_epoch for frame in before} == {0}
    assert after[-1].stream_epoch > 0
    assert [frame.frame_seq for frame in before + after] == list(range(10))
    assert before[-1].captured_at < after[0].captured_at


def test_read_reconnects_by_itself_while_the_camera_restarts(tmp_path):
    write_video(tmp_path / "camera.mp4", num_frames=50)
    port, frames = free_port(), []
    with plain_rtsp_server(tmp_path, port) as (url, process):
        source = camera(f"{url}/camera.mp4?play_count=0")
        source.open()
        source.read()
        process.kill()
        process.wait()
        reader = threading.Thread(target=lambda: frames.extend(iter(source.read, None)))
        reader.start()
    with plain_rtsp_server(tmp_path, port):
        while reader.is_alive() and not any(frame.stream_epoch == 1 for frame in frames):
            reader.join(timeout=0.05)
        source.close()
        reader.join(timeout=10)
    assert frames[-1].stream_epoch == 1
    assert source.num_reconnects == 1


def test_dead_camera_fails_after_the_allowed_tries(tmp_path):
    write_video(tmp_path / "camera.mp4", num_frames=50)
    with plain_rtsp_server(tmp_path) as (url, process):
        source = camera(f"{url}/camera.mp4?play_count=0", max_retries=2)
        source.open()
        source.read()
        process.kill()
        process.wait()
        with pytest.raises(UnreachableError):
            list(iter(source.read, None))


def test_dead_camera_ends_the_stream_when_reconnecting_is_off(tmp_path):
    write_video(tmp_path / "camera.mp4", num_frames=50)
    with plain_rtsp_server(tmp_path) as (url, process):
        source = camera(f"{url}/camera.mp4?play_count=0", reconnect=False)
        source.open()
        source.read()
        process.kill()
        process.wait()
        with pytest.raises(StreamEndedError, match="hung up") as caught:
            list(iter(source.read, None))
    assert caught.value.recoverable


def test_close_from_another_thread_ends_the_wait_between_tries(tmp_path):
    write_video(tmp_path / "camera.mp4", num_frames=50)
    with plain_rtsp_server(tmp_path) as (url, process):
        source = camera(f"{url}/camera.mp4?play_count=0", backoff={"initial_s": 60})
        source.open()
        process.kill()
        process.wait()
        reader = threading.Thread(target=lambda: list(iter(source.read, None)))
        reader.start()
        source.close()
        reader.join(timeout=10)
    assert not reader.is_alive()


def test_gstreamer_camera_over_udp_has_no_gaps(gstreamer, h264_file):
    with gstreamer(h264_file) as (url, _), camera(url, transport="udp") as source:
        assert_no_gaps([source.read() for _ in range(30)])
