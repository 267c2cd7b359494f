import os
import shutil
import struct
import threading

import av
import numpy as np
import pytest

from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    SourceError,
    UnsupportedMediaError,
)
from connectors.frame import CaptureClock, MediaOrigin
from connectors.video.config import FileSourceConfig
from connectors.video.file import FileSource
from tests.media import number_of, remux, write_video


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


def read_to_the_end(source):
    """Return all frames of a folder, and what is wrong with its files."""
    frames, errors = [], []
    while True:
        try:
            frame = source.read()
        except SourceError as error:
            if not error.continues:
                raise
            errors.append(error)
            continue
        if frame is None:
            return frames, errors
        frames.append(frame)


def stamps(frames):
    return [
        (frame.stream_epoch, frame.frame_seq, frame.pts_us, number_of(frame.pixels))
        for frame in frames
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips, a bad one between them and one at the end."""
    path = tmp_path_factory.mktemp("card")
    write_video(path / "a.mp4", num_frames=4)
    (path / "b.mp4").write_text("not a video")
    write_video(path / "c.mp4", num_frames=3)
    (path / "d.mp4").write_text("nor this")
    return path


@pytest.mark.parametrize("done", range(8))
def test_position_of_every_frame_is_where_the_next_one_is_read(folder, done):
    with file_source(folder) as source:
        frames, _ = read_to_the_end(source)
    position = frames[done - 1].position if done else None
    with file_source(folder, position=position) as resumed:
        rest, _ = read_to_the_end(resumed)
    assert stamps(rest) == stamps(frames[done:])


def test_every_frame_names_its_file_and_its_place_in_it_after_a_resume_too(folder):
    with file_source(folder) as source:
        frames, _ = read_to_the_end(source)
    with file_source(folder, position=frames[1].position) as resumed:
        rest, _ = read_to_the_end(resumed)
    places = [("a.mp4", 2), ("a.mp4", 3), ("c.mp4", 0), ("c.mp4", 1), ("c.mp4", 2)]
    expected = [MediaOrigin(media=str(folder / name), frame_index=at) for name, at in places]
    assert [frame.origin for frame in rest] == [frame.origin for frame in frames[2:]] == expected


def test_position_behind_the_last_file_reads_nothing_again_but_what_came_later(tmp_path):
    write_video(tmp_path / "b.mp4", num_frames=2)
    with file_source(tmp_path) as source:
        read_all(source)
        position = source.position()
    write_video(tmp_path / "a.mp4", num_frames=2)
    with file_source(tmp_path, position=position) as resumed:
        assert resumed.read() is None
    write_video(tmp_path / "c.mp4", num_frames=3)
    with file_source(tmp_path, position=position) as resumed:
        assert len(read_all(resumed)) == 3


def test_position_in_a_file_that_is_gone_goes_on_with_the_one_behind_it(tmp_path):
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", num_frames=2)
    with file_source(tmp_path) as source:
        position = [source.read() for _ in range(3)][-1].position
    (tmp_path / "b.mp4").unlink()
    with file_source(tmp_path, position=position) as resumed:
        assert [number_of(frame.pixels) for frame in read_all(resumed)] == [0, 1]


@pytest.mark.parametrize("place", ["before", "between", "behind"])
def test_any_number_of_bad_files_ends_no_folder(tmp_path, place):
    names = {"before": "0", "between": "b", "behind": "d"}
    for number in range(12):
        (tmp_path / f"{names[place]}{number:02d}.mp4").write_text("bad")
    write_video(tmp_path / "a.mp4", num_frames=2)
    write_video(tmp_path / "c.mp4", num_frames=3)
    with file_source(tmp_path) as source:
        frames, errors = read_to_the_end(source)
    assert [frame.frame_seq for frame in frames] == [0, 1, 2, 3, 4]
    bad = sorted(path for path in tmp_path.iterdir() if path.stat().st_size < 10)
    assert [error.position["file"] for error in errors] == [str(path) for path in bad]


def test_a_fifo_in_a_folder_is_named_and_passed_over(tmp_path):
    write_video(tmp_path / "a.mp4", num_frames=2)
    os.mkfifo(tmp_path / "n.mp4")
    write_video(tmp_path / "z.mp4", num_frames=3)
    with file_source(tmp_path) as source:
        frames, errors = read_to_the_end(source)
    assert len(frames) == 5
    [error] = errors
    assert error.position["file"] == str(tmp_path / "n.mp4")
    assert "no regular file" in str(error)


def test_file_deleted_while_the_folder_plays_costs_only_itself(tmp_path):
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", num_frames=2)
    with file_source(tmp_path) as source:
        source.read()
        (tmp_path / "b.mp4").unlink()
        frames, errors = read_to_the_end(source)
    assert len(frames) == 3
    assert [type(error) for error in errors] == [NotFoundError]


FOREIGN = [
    OverflowError("odd"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
    ZeroDivisionError("odd"),
    KeyError("odd"),
    OSError(5, "odd"),
    av.error.InvalidDataError(1, "odd"),
]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_whatever_opening_raises_is_one_of_ours_and_the_next_file_is_read(
    tmp_path, monkeypatch, error
):
    def open_or_fail(url, *args, **options):
        if url.endswith("a.mp4"):
            raise error
        return really_open(url, *args, **options)

    really_open = av.open
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", num_frames=2)
    monkeypatch.setattr(av, "open", open_or_fail)
    with file_source(tmp_path) as source:
        frames, (told,) = read_to_the_end(source)
    assert [number_of(frame.pixels) for frame in frames] == [0, 1]
    assert told.position["file"] == str(tmp_path / "a.mp4")
    assert told.reason
    assert told.__cause__ is error


def test_file_that_breaks_off_gives_its_frames_and_the_next_file_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-400])
    write_video(tmp_path / "b.mp4", num_frames=2)
    with file_source(tmp_path) as source:
        frames, (error,) = read_to_the_end(source)
    first = [frame for frame in frames if frame.stream_epoch == 0]
    assert len(first) == error.position["frame"] > 5
    assert len(frames) == len(first) + 2


def test_files_that_begin_with_a_dot_are_no_media(tmp_path):
    for name in "ab":
        path = write_video(tmp_path / f"{name}.mp4", num_frames=2)
        (tmp_path / f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
        shutil.copy(path, tmp_path / f".{path.name}")
    with file_source(tmp_path) as source:
        assert len(read_all(source)) == 4


def test_loop_over_bad_files_alone_ends_with_an_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text("bad")
    errors = []
    with file_source(tmp_path, loop=True) as source:
        while not errors or errors[-1].continues:
            with pytest.raises(UnsupportedMediaError) as caught:
                source.read()
            errors.append(caught.value)
    assert "not one file" in str(errors[-1])
    assert len(errors) <= 5


def test_equal_stamps_give_every_frame_spread_by_the_nominal_rate(tmp_path):
    path = remux(write_video(tmp_path / "a.mp4", num_frames=10), tmp_path / "b.mkv", [0] * 10)
    with file_source(path) as source:
        frames = read_all(source)
    assert [number_of(frame.pixels) for frame in frames] == list(range(10))
    assert {frame.nominal_step_us for frame in frames} == {40_000}
    assert [frame.pts_us for frame in frames] == list(range(0, 400_000, 40_000))
    assert {frame.stream_epoch for frame in frames} == {0}


def test_absurd_stamp_begins_a_new_epoch_and_the_next_file_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=10)
    stamps_ms = [number * 40 + (10**16 if number >= 5 else 0) for number in range(10)]
    remux(path, tmp_path / "b.mkv", stamps_ms)
    shutil.copy(path, tmp_path / "c.mp4")
    with file_source(tmp_path) as source:
        frames = read_all(source)
    epochs = [frame.stream_epoch for frame in frames]
    assert epochs == [0] * 10 + [1] * 5 + [2] * 5 + [3] * 10
    assert [frame.pts_us for frame in frames[10:20]] == list(range(0, 400_000, 40_000))


def test_recording_joined_of_two_gives_the_frames_of_both(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=4)
    joined = tmp_path / "b.ts"
    parts = [
        remux(path, tmp_path / f"{start}.ts", [start + number * 40 for number in range(4)])
        for start in (60_000, 5_000)
    ]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with file_source(joined) as source:
        frames = read_all(source)
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2, 3] * 2
    assert [frame.stream_epoch for frame in frames] == [0] * 4 + [1] * 4
    assert frames[0].pts_us == 0


def test_packets_hidden_by_an_edit_list_are_not_missing(tmp_path):
    stamps_ms = [(number - 5) * 40 for number in range(10)]
    path = write_video(tmp_path / "a.mp4", num_frames=10)
    trimmed = remux(path, tmp_path / "b.mp4", stamps_ms, avoid_negative_ts="disabled")
    with av.open(trimmed) as container:
        assert container.streams.video[0].frames == 10
    with file_source(trimmed) as source:
        assert [number_of(frame.pixels) for frame in read_all(source)] == [5, 6, 7, 8, 9]


def test_cover_picture_before_the_film_is_passed_over(tmp_path):
    film, path = write_video(tmp_path / "a.mp4", num_frames=6), tmp_path / "b.mkv"
    with av.open(film) as before, av.open(path, "w") as after:
        cover = after.add_stream("mjpeg", 1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = after.add_stream_from_template(before.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        after.mux([*cover.encode(picture), *cover.encode(None)])
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)
    with file_source(path) as source:
        assert len(read_all(source)) == 6


def test_name_like_an_address_and_a_title_in_latin_1_do_no_harm(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=2, title="caf\xe9 du nord")
    odd = tmp_path / "2026-01-02T03:04:05.mp4"
    data = path.read_bytes()
    odd.write_bytes(data.replace("caf\xe9 du nord".encode(), b"caf\xe9 du nord  "))
    assert odd.read_bytes() != data
    with file_source(odd) as source:
        assert len(read_all(source)) == 2


def test_absurd_modification_time_is_borne(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=2)
    os.utime(path, (2**40, 2**40))
    with file_source(path) as source:
        assert len(read_all(source)) == 2


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
    assert caught.value.continues
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
    assert not caught.value.continues


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
