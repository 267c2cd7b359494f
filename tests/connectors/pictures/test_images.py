import struct
from datetime import UTC, datetime

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


def test_pattern_and_resume(tmp_path):
    write_pictures(tmp_path, range(6))
    with images_source(tmp_path / "*.png", position={"index": 1, "frame_seq": 1}) as source:
        frames = list(iter(source.read, None))
    assert [(number_of(frame.pixels), frame.frame_seq) for frame in frames] == [(2, 1), (4, 2)]


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
