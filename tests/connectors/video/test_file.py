import struct
import threading

import numpy as np
import pytest

from connectors.errors import CorruptMediaError, NotFoundError, UnsupportedMediaError
from connectors.frame import CaptureClock
from connectors.video.config import FileSourceConfig
from connectors.video.file import FileSource
from tests.media import number_of, write_video


def file_source(path, *, position=None, **options):
    config = FileSourceConfig(path=path, **options)
    return FileSource(stream_id="clip", config=config, position=position)


def read_all(source):
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov", "ts"])
def test_every_frame_of_any_container_comes_once_and_in_order(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}")
    with file_source(path) as source:
        frames = read_all(source)
    assert [number_of(frame.pixels) for frame in frames] == list(range(25))
    assert [frame.frame_seq for frame in frames] == list(range(25))
    assert np.allclose(np.diff([frame.pts_us for frame in frames]), 40_000, atol=2000)


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times_ms = [0, 40, 50, 500, 1700]
    path = write_video(tmp_path / "a.mp4", num_frames=5, times_ms=times_ms)
    with file_source(path) as source:
        frames = read_all(source)
    assert [frame.pts_us // 1000 for frame in frames] == times_ms
    assert (frames[4].captured_at - frames[0].captured_at).total_seconds() == pytest.approx(1.7)
    assert frames[0].capture_clock is CaptureClock.FILE_PTS


def test_resume_goes_on_with_the_next_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    with file_source(path) as source:
        for _ in range(11):
            source.read()
        position = source.position()
        rest = [frame.frame_seq for frame in read_all(source)]
    with file_source(path, position=position) as resumed:
        frames = read_all(resumed)
    assert [number_of(frame.pixels) for frame in frames] == list(range(11, 25))
    assert [frame.frame_seq for frame in frames] == rest


def test_loop_begins_a_new_epoch_and_time_goes_on(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=5)
    with file_source(path, loop=True) as source:
        frames = [source.read() for _ in range(12)]
    assert [frame.stream_epoch for frame in frames] == [0] * 5 + [1] * 5 + [2] * 2
    assert [frame.frame_seq for frame in frames] == list(range(12))
    captured = [frame.captured_at for frame in frames]
    assert captured == sorted(set(captured))


def test_folder_is_played_by_name_and_survives_a_broken_clip(tmp_path):
    write_video(tmp_path / "a.mp4", num_frames=3)
    (tmp_path / "b.mp4").write_text("not a video")
    write_video(tmp_path / "c.mp4", num_frames=2)
    (tmp_path / "notes.txt").write_text("ignored")
    with file_source(tmp_path) as source:
        first = [source.read() for _ in range(3)]
        with pytest.raises(UnsupportedMediaError, match=r"b\.mp4") as caught:
            source.read()
        last = read_all(source)
    assert caught.value.recoverable
    assert [frame.stream_epoch for frame in first + last] == [0, 0, 0, 2, 2]
    assert [frame.frame_seq for frame in first + last] == [0, 1, 2, 3, 4]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"clip.*no\.mp4.*accepted: a path that exists"):
        file_source(tmp_path / "no.mp4").open()


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no video in the folder"):
        file_source(tmp_path).open()


def test_text_named_mp4_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("this is a text\n" * 100)
    with pytest.raises(UnsupportedMediaError, match="accepted: a video") as caught:
        file_source(path).open()
    assert not caught.value.recoverable


def test_sound_without_pictures_is_no_video(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(
        b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0"
        b"data\0\x08\0\0" + bytes(2048)
    )
    with pytest.raises(UnsupportedMediaError, match="no video stream"):
        file_source(path).open()


def test_truncated_mp4_yields_its_frames_and_then_says_where_it_broke(tmp_path):
    path = write_video(tmp_path / "a.mp4", options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    frames = []
    with file_source(path) as source, pytest.raises(CorruptMediaError, match="not whole") as caught:
        frames.extend(iter(source.read, None))
    numbers = [number_of(frame.pixels) for frame in frames]
    assert len(numbers) > 5
    assert numbers == list(range(len(numbers)))
    assert caught.value.position["frame"] == len(numbers)


def test_mp4_that_lost_its_index_is_corrupt(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(CorruptMediaError, match="accepted: a whole file"):
        file_source(path).open()


def test_rotated_recording_is_turned_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=6)
    data = bytearray(path.read_bytes())
    matrix = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = matrix  # a camera held a quarter turn to the left
    path.write_bytes(data)
    with file_source(path) as source:
        frames = read_all(source)
    assert frames[5].pixels.shape == (128, 96, 3)
    assert number_of(np.rot90(frames[5].pixels, k=1)) == 5


def test_close_from_another_thread_ends_a_realtime_wait(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=2, times_ms=[0, 60_000])
    source = file_source(path, realtime=True)
    source.open()
    source.read()
    reader = threading.Thread(target=source.read)
    reader.start()
    source.close()
    reader.join(timeout=5)
    assert not reader.is_alive()
