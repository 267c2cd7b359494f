import struct
from datetime import UTC, datetime, timedelta

import cv2
import pytest

from connectors.errors import BadFrameError, NotFoundError
from connectors.frame import CaptureClock
from connectors.pictures.config import ImagesSourceConfig
from connectors.pictures.encoding import encode_image
from connectors.pictures.exif import taken_at
from connectors.pictures.images import ImagesSource
from tests.media import number_of, numbered_picture


def write_pictures(folder, numbers, **size):
    for number in numbers:
        data = encode_image(numbered_picture(number, **size), "jpeg" if number % 2 else "png")
        (folder / f"{number:03d}.{'jpg' if number % 2 else 'png'}").write_bytes(data)


def images_source(path, position=None, **options):
    config = ImagesSourceConfig(path=path, **options)
    return ImagesSource(stream_id="trap", config=config, position=position)


def exif_of(tags, order="<"):
    """An EXIF block of ASCII tags, as a camera writes it."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries, texts, start = b"", b"", 8 + 2 + 12 + 4 + 2 + 12 * len(tags) + 4
    for tag, text in sorted(tags.items()):
        value = text.encode() + b"\0"
        entries += struct.pack(f"{order}HHI", tag, 2, len(value))
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", start + len(texts))
            texts += value
    pointer = struct.pack(f"{order}HHHII", 1, 0x8769, 4, 1, 26) + bytes(4)
    block = mark + struct.pack(f"{order}I", 8) + pointer
    return block + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + texts


def with_exif(jpeg, tags, order="<"):
    body = b"Exif\0\0" + exif_of(tags, order)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_pictures_come_by_name_at_the_nominal_rate(tmp_path):
    write_pictures(tmp_path, [3, 1, 2])
    with images_source(tmp_path, fps=2) as source:
        frames = list(iter(source.read, None))
    assert [number_of(frame.pixels) for frame in frames] == [1, 2, 3]
    assert [frame.pts_us for frame in frames] == [0, 500_000, 1_000_000]
    assert {frame.origin.frame_index for frame in frames} == {0}
    assert [frame.origin.media for frame in frames] == sorted(map(str, tmp_path.iterdir()))


def test_pattern_is_played_by_name(tmp_path):
    write_pictures(tmp_path, range(6))
    with images_source(tmp_path / "*.png") as source:
        assert [number_of(frame.pixels) for frame in iter(source.read, None)] == [0, 2, 4]


def read_to_the_end(source):
    """Return all frames of a folder, and what is wrong with its pictures."""
    frames, errors = [], []
    while True:
        try:
            frame = source.read()
        except BadFrameError as error:
            errors.append(error)
            continue
        if frame is None:
            return frames, errors
        frames.append(frame)


@pytest.mark.parametrize("done", range(7))
def test_position_of_every_frame_is_where_the_next_one_is_read(tmp_path, done):
    write_pictures(tmp_path, [0, 1, 4])
    write_pictures(tmp_path, [5, 6, 7], width=64, height=48)
    (tmp_path / "003.jpg").write_bytes(b"bad")
    with images_source(tmp_path) as source:
        frames, _ = read_to_the_end(source)
    with images_source(tmp_path, frames[done - 1].position if done else None) as source:
        rest, _ = read_to_the_end(source)
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 4, 5, 6, 7]
    told = [(frame.stream_epoch, frame.frame_seq, frame.pts_us, frame.position) for frame in frames]
    again = [(frame.stream_epoch, frame.frame_seq, frame.pts_us, frame.position) for frame in rest]
    assert again == told[done:]


def test_resume_reads_what_came_later_and_nothing_again(tmp_path):
    write_pictures(tmp_path, [2, 4, 6])
    with images_source(tmp_path) as source:
        position = [source.read() for _ in range(2)][-1].position
    write_pictures(tmp_path, [1, 5])
    with images_source(tmp_path, position) as source:
        assert [number_of(frame.pixels) for frame in iter(source.read, None)] == [5, 6]


def test_position_behind_a_broken_picture_passes_it(tmp_path):
    write_pictures(tmp_path, [1, 3])
    (tmp_path / "002.jpg").write_bytes(b"bad")
    with images_source(tmp_path) as source:
        _, (error,) = read_to_the_end(source)
    with images_source(tmp_path, error.resume_position) as source:
        assert [number_of(frame.pixels) for frame in iter(source.read, None)] == [3]


@pytest.mark.parametrize("error", [OverflowError("odd"), KeyError("odd"), MemoryError("odd")])
def test_whatever_a_decoder_raises_is_a_bad_frame(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    write_pictures(tmp_path, [1])
    monkeypatch.setattr(cv2, "imdecode", fail)
    with images_source(tmp_path) as source, pytest.raises(BadFrameError, match=r"001\.jpg.*odd"):
        source.read()


@pytest.mark.parametrize("names", ["000", "050", "999"], ids=["first", "middle", "last"])
def test_any_number_of_bad_pictures_ends_no_folder(tmp_path, names):
    write_pictures(tmp_path, [10, 70])
    for number in range(12):
        (tmp_path / f"{names}{number:02d}.jpg").write_bytes(b"bad")
    with images_source(tmp_path) as source:
        frames, errors = read_to_the_end(source)
    assert [number_of(frame.pixels) for frame in frames] == [10, 70]
    assert [frame.frame_seq for frame in frames] == [0, 1]
    assert len({error.position["file"] for error in errors}) == 12
    assert all(error.continues for error in errors)


def test_picture_deleted_meanwhile_is_named_and_passed_over(tmp_path):
    write_pictures(tmp_path, [1, 3])
    with images_source(tmp_path) as source:
        source.read()
        (tmp_path / "003.jpg").unlink()
        with pytest.raises(BadFrameError, match=r"003\.jpg"):
            source.read()
        assert source.read() is None


def test_names_that_begin_with_a_dot_are_no_pictures(tmp_path):
    write_pictures(tmp_path, [1])
    (tmp_path / "._001.jpg").write_bytes(b"\0\5\x16\7" + bytes(100))
    with images_source(tmp_path) as source:
        assert read_to_the_end(source)[1] == []


def write_card(folder, *seconds):
    """Write pictures taken so many seconds after eight o'clock; ``None`` knows no time."""
    jpeg = encode_image(numbered_picture(1), "jpeg")
    start = datetime(2026, 5, 1, 8, tzinfo=UTC)
    for number, second in enumerate(seconds):
        data = jpeg
        if second is not None:
            taken = start + timedelta(seconds=second)
            data = with_exif(jpeg, {0x9003: f"{taken:%Y:%m:%d %H:%M:%S}"})
        (folder / f"IMG_{number:04d}.JPG").write_bytes(data)


TEN_YEARS = 10 * 365 * 86_400


@pytest.mark.parametrize(
    ("false", "offset"),
    [(0, TEN_YEARS), *[(place, sign * TEN_YEARS) for place in (1, 3, 5) for sign in (1, -1)]],
)
def test_one_false_exif_time_is_doubtful_wherever_it_stands(tmp_path, false, offset):
    seconds = [2 * number for number in range(6)]
    seconds[false] += offset
    write_card(tmp_path, *seconds)
    with images_source(tmp_path) as source:
        frames = list(iter(source.read, None))
    assert [frame.is_time_doubtful for frame in frames] == [place == false for place in range(6)]


def test_bursts_and_long_pauses_are_believed_as_they_are(tmp_path):
    seconds = [0, 0, 0, 1, 43_200, 43_201, 259_200, 259_201]
    write_card(tmp_path, *seconds)
    with images_source(tmp_path) as source:
        frames = list(iter(source.read, None))
    start = frames[0].captured_at
    assert [(frame.captured_at - start).total_seconds() for frame in frames] == seconds
    assert not any(frame.is_time_doubtful for frame in frames)
    assert {frame.nominal_step_us for frame in frames} == {None}


def test_time_of_a_picture_without_exif_among_others_is_doubtful(tmp_path):
    write_card(tmp_path, 0, 2, None, 6)
    with images_source(tmp_path) as source:
        frames = list(iter(source.read, None))
    assert [frame.is_time_doubtful for frame in frames] == [False, False, True, False]
    assert frames[2].capture_clock is CaptureClock.FILE_PTS


def test_times_of_a_folder_without_exif_follow_the_nominal_rate(tmp_path):
    write_card(tmp_path, None, None, None)
    with images_source(tmp_path, fps=2) as source:
        frames = list(iter(source.read, None))
    steps = [(frame.captured_at - frames[0].captured_at).total_seconds() for frame in frames]
    assert steps == [0, 0.5, 1]
    assert not any(frame.is_time_doubtful for frame in frames)


def test_broken_picture_is_named_and_passed_over(tmp_path):
    write_pictures(tmp_path, [1, 3])
    (tmp_path / "002.jpg").write_bytes(b"\xff\xd8\xff garbage")
    with images_source(tmp_path) as source:
        assert number_of(source.read().pixels) == 1
        with pytest.raises(BadFrameError, match=r"002\.jpg") as caught:
            source.read()
        assert number_of(source.read().pixels) == 3
    assert caught.value.recoverable


def test_new_size_begins_a_new_epoch(tmp_path):
    write_pictures(tmp_path, [1])
    write_pictures(tmp_path, [2], width=64, height=48)
    with images_source(tmp_path) as source:
        assert [source.read().stream_epoch for _ in range(2)] == [0, 1]


def test_no_picture_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="accepted: files named"):
        images_source(tmp_path).open()


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_time_with_zone_is_the_capture_time(tmp_path, order):
    tags = {0x9003: "2024:05:06 07:08:09", 0x9011: "+02:00", 0x9291: "25"}
    jpeg = with_exif(encode_image(numbered_picture(1), "jpeg"), tags, order)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with images_source(tmp_path) as source:
        frame = source.read()
    assert frame.captured_at == datetime(2024, 5, 6, 5, 8, 9, 250_000, tzinfo=UTC)
    assert frame.capture_clock is CaptureClock.EXIF


def test_exif_time_without_zone_is_uncertain():
    jpeg = with_exif(encode_image(numbered_picture(1), "jpeg"), {0x9003: "2024:05:06 07:08:09"})
    assert taken_at(jpeg) == (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), False)


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_cut_exif_never_fails(cut):
    jpeg = with_exif(encode_image(numbered_picture(1), "jpeg"), {0x9003: "2024:05:06 07:08:09"})
    assert taken_at(jpeg[:cut]) in {None, taken_at(jpeg)}
