import signal
import socket
import threading
import time
from datetime import UTC, datetime

import pytest

from connectors.errors import (
    NotFoundError,
    StreamEndedError,
    StreamStalledError,
    UnauthorizedError,
    UnreachableError,
)
from connectors.frame import CaptureClock
from connectors.video.config import RtspSourceConfig
from connectors.video.rtsp import RtspSource
from tests.media import number_of
from tests.servers import free_port, plain_rtsp_server

USER, PASSWORD, WRONG, CHANGED = "adm:in", "p@ss:w/d%", "wr0ng", "ch@nged"


def camera(url, *, position=None, **options):
    settings = {"open_timeout_s": 10, "read_timeout_s": 10}
    config = RtspSourceConfig(url=url, **{**settings, **options})
    return RtspSource(stream_id="gate", config=config, position=position)


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


def test_wrong_password_is_unauthorized_and_kept_out_of_the_message(gstreamer, h264_file):
    with gstreamer(h264_file, user=USER, password=PASSWORD) as (url, _):
        with pytest.raises(UnauthorizedError, match="accepted: its user and password") as caught:
            camera(url, user=USER, password=WRONG).open()
        with pytest.raises(UnauthorizedError):
            camera(url).open()
    assert caught.value.recoverable
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


def test_killed_camera_is_an_error_and_the_next_connection_a_new_epoch(gstreamer, h264_file):
    port, began_s = free_port(), int(time.time())
    with gstreamer(h264_file, port=port) as (url, process), camera(url) as source:
        before = [source.read() for _ in range(5)]
        process.kill()
        process.wait()
        with pytest.raises(StreamEndedError, match="hung up") as caught:
            before.extend(iter(source.read, None))
        position = source.position()
        assert position == before[-1].position
        with pytest.raises(UnreachableError):
            camera(url, position=position).open()
    assert caught.value.recoverable
    with gstreamer(h264_file, port=port), camera(url, position=position) as source:
        after = [source.read() for _ in range(5)]
    (epoch,) = {frame.stream_epoch for frame in before}
    (next_epoch,) = {frame.stream_epoch for frame in after}
    assert began_s <= epoch < next_epoch <= time.time() + 1
    numbers = [frame.frame_seq for frame in before + after]
    assert numbers == list(range(len(before) + 5))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_silent_camera_is_noticed_at_the_read_timeout(gstreamer, h264_file, transport):
    with gstreamer(h264_file) as (url, process):
        with camera(url, transport=transport, read_timeout_s=1.5) as source:
            for _ in range(5):
                source.read()
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(StreamStalledError, match="silent") as caught:
                list(iter(source.read, None))
        assert 1.0 < time.monotonic() - began < 2.5
    assert caught.value.recoverable


@pytest.fixture
def mute_url():
    """Address of a camera that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/camera"


def test_mute_camera_is_noticed_at_the_open_timeout(mute_url):
    began = time.monotonic()
    with pytest.raises(StreamStalledError):
        camera(mute_url, open_timeout_s=0.5).open()
    assert 0.4 < time.monotonic() - began < 1.5


def test_close_from_another_thread_ends_an_opening_at_once(mute_url):
    source, ended = camera(mute_url, open_timeout_s=60), threading.Event()

    def play():
        source.open()
        assert source.read() is None
        ended.set()

    opener = threading.Thread(target=play, daemon=True)
    opener.start()
    opener.join(timeout=0.2)
    assert opener.is_alive()
    source.close()
    assert ended.wait(1.0)


def test_close_from_another_thread_ends_a_read_at_once(gstreamer, h264_file):
    with gstreamer(h264_file) as (url, process):
        source, ended = camera(url, read_timeout_s=60), threading.Event()
        source.open()
        process.send_signal(signal.SIGSTOP)

        def play():
            list(iter(source.read, None))
            ended.set()

        threading.Thread(target=play, daemon=True).start()
        assert not ended.wait(0.3)
        source.close()
        assert ended.wait(1.0)


def test_changed_password_is_refused_until_its_file_is_changed_too(gstreamer, h264_file, tmp_path):
    port, secret = free_port(), tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    options = {"user": USER, "password_file": secret}
    with (
        gstreamer(h264_file, port=port, user=USER, password=PASSWORD) as (url, _),
        camera(url, **options) as source,
    ):
        source.read()
        position = {**source.position(), "epoch": 1 << 40}
    with gstreamer(h264_file, port=port, user=USER, password=CHANGED):
        with pytest.raises(UnauthorizedError) as caught:
            camera(url, position=position, **options).open()
        assert caught.value.recoverable
        secret.write_text(CHANGED)
        with camera(url, position=position, **options) as source:
            frame = source.read()
    assert (frame.stream_epoch, frame.frame_seq) == ((1 << 40) + 1, 1)


def test_missing_password_file_is_named_and_may_come(tmp_path):
    source = camera("rtsp://127.0.0.1/1", user=USER, password_file=tmp_path / "secret")
    with pytest.raises(UnauthorizedError, match=r"password file .*secret") as caught:
        source.open()
    assert caught.value.recoverable


def test_empty_password_is_sent(gstreamer, h264_file):
    with gstreamer(h264_file, user="admin", password="") as (url, _):
        with camera(url.replace("//", "//admin:@")) as source:
            assert source.read().frame_seq == 0
        with pytest.raises(UnauthorizedError):
            camera(url).open()


def test_camera_clock_is_told_as_it_is_after_times_of_arrival(gstreamer, h264_file):
    with gstreamer(h264_file, behind_s=30) as (url, _), camera(url) as source:
        frames = [source.read()]
        while frames[-1].capture_clock is CaptureClock.ARRIVAL and len(frames) < 300:
            frames.append(source.read())
        now = datetime.now(tz=UTC)
    assert frames[-1].capture_clock is CaptureClock.RTCP_NTP
    assert (now - frames[-1].captured_at).total_seconds() == pytest.approx(30, abs=1)
    assert frames[-1].captured_at < frames[0].captured_at
    assert frames[0].capture_uncertainty_s > frames[-1].capture_uncertainty_s
    media_times = [frame.pts_us for frame in frames]
    assert media_times == sorted(set(media_times))
    assert len({frame.stream_epoch for frame in frames}) == 1


def test_gstreamer_camera_over_udp_has_no_gaps(gstreamer, h264_file):
    with gstreamer(h264_file) as (url, _), camera(url, transport="udp") as source:
        assert_no_gaps([source.read() for _ in range(30)])


@pytest.mark.parametrize("fields", [{}, {"user": USER, "password": PASSWORD}, {"password": WRONG}])
def test_password_file_needs_a_user_and_no_password_beside_it(fields, tmp_path):
    with pytest.raises(ValueError, match="accepted: user with one of the two"):
        camera("rtsp://h/1", password_file=tmp_path / "secret", **fields)
