"""When a photograph was taken, read from its EXIF block. Nothing else is looked at."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

_EXIF_POINTER, _TAKEN_AT, _UTC_OFFSET, _SUBSECONDS = 0x8769, 0x9003, 0x9011, 0x9291
_ASCII, _LONG = 2, 4
_MAX_ENTRIES = 512


def taken_at(data: bytes) -> tuple[datetime, bool] | None:
    """Return (time of capture, whether its zone is known) of a JPEG; ``None`` if it tells none.

    A time without a zone, the rule for camera traps, is given as if it were UTC.
    """
    block = _exif_block(data)
    if block is None:
        return None
    with suppress(struct.error, ValueError, UnicodeDecodeError):
        tags = _tags_of(block)
        text = tags.get(_TAKEN_AT, "")
        time = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - zone follows
        subseconds = tags.get(_SUBSECONDS, "")
        if subseconds.isdigit():
            time = time.replace(microsecond=int(subseconds[:6].ljust(6, "0")))
        offset = tags.get(_UTC_OFFSET, "")
        if offset:
            zone = datetime.strptime(offset, "%z").tzinfo
            return time.replace(tzinfo=zone).astimezone(UTC), True
        return time.replace(tzinfo=UTC), False
    return None


def _exif_block(data: bytes) -> bytes | None:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        length = int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            return data[place + 10 : place + 2 + length]
        place += 2 + length
    return None


def _tags_of(block: bytes) -> dict[int, str]:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return {}
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    tags: dict[int, str] = {}
    for tag, kind, count, place in _entries(block, order, first):
        if tag == _EXIF_POINTER and kind == _LONG:
            (child,) = struct.unpack_from(f"{order}I", block, place)
            for name, sub_kind, length, at in _entries(block, order, child):
                if sub_kind == _ASCII:
                    tags[name] = _text(block, order, at, length)
        elif kind == _ASCII:
            tags.setdefault(tag, _text(block, order, place, count))
    return tags


def _entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for index in range(min(count, _MAX_ENTRIES)):
        place = start + 2 + 12 * index
        tag, kind, length = struct.unpack_from(f"{order}HHI", block, place)
        yield tag, kind, length, place + 8


def _text(block: bytes, order: str, place: int, length: int) -> str:
    if length > 4:
        (place,) = struct.unpack_from(f"{order}I", block, place)
    return block[place : place + min(length, 64)].split(b"\0")[0].decode("ascii").strip()
