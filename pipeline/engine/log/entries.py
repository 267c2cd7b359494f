"""Entries of a segment: how a record is written down, and how good ones are found again.

An entry is a head (magic, length of the payload, sequence number, time of appending, CRC-32 of
the payload and of the head) and the payload, a record. A segment begins with a head of its own.
Sequence numbers grow by one from entry to entry, so that a missing number is a lost record. As
heads have a checksum of their own, the length of an entry whose payload is damaged can be trusted.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from connectors.record import Record, Topic

VERSION = 1
_SEGMENT_MAGIC = b"MSTRMLOG"
_SEGMENT = struct.Struct(">8sH")
_ENTRY_MAGIC = b"\xf1REC"
_ENTRY = struct.Struct(">4sIQQI")
_CRC = struct.Struct(">I")
SEGMENT_HEAD_BYTES = _SEGMENT.size + _CRC.size
_ENTRY_HEAD_BYTES = _ENTRY.size + _CRC.size
_RECORD = struct.Struct(">BHIIq")  # lengths of topic, headers (count), key and value; time stamp
_HEADER = struct.Struct(">II")  # lengths of name and value
_MAX_HEADERS = (1 << 16) - 1
_MAX_PAYLOAD_BYTES = (1 << 32) - 1
_NO_RECORD = b"\0"  # its topic is empty, so that no version takes it for a record


class UnloggableError(ValueError):
    """A record that cannot be written down.

    Attributes:
        record: That record.
    """

    def __init__(self, record: Record, reason: str) -> None:
        self.record = record
        super().__init__(
            f"a record of {record.topic} for {record.key!r} cannot be logged: {reason}"
        )


@dataclass(slots=True)
class Entry:
    """A good entry.

    Attributes:
        seq: Sequence number of the record.
        appended_ms: When it was appended, milliseconds since the epoch.
        start: First byte of the entry in the bytes that were scanned.
        end: First byte behind it.
    """

    seq: int
    appended_ms: int
    start: int
    end: int


def encode_segment_head() -> bytes:
    """Return what a segment begins with."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, VERSION)
    return head + _CRC.pack(crc32(head))


def decode_segment_head(data: bytes) -> int | None:
    """Return the version of a segment, ``None`` if its head is damaged."""
    head = data[: _SEGMENT.size]
    if _CRC.pack(crc32(head)) != data[_SEGMENT.size : SEGMENT_HEAD_BYTES]:
        return None
    magic, version = _SEGMENT.unpack(head)
    return version if magic == _SEGMENT_MAGIC else None


def size_of(record: Record) -> int:
    """Return how many bytes a record's entry has.

    Raises:
        UnloggableError: If it cannot be an entry.
    """
    try:
        num_bytes = sum(map(len, _parts_of(record)))
    except (TypeError, ValueError, AttributeError, struct.error) as error:
        raise UnloggableError(record, str(error)) from error
    if num_bytes > _MAX_PAYLOAD_BYTES:
        raise UnloggableError(record, f"{num_bytes} bytes (accepted: {_MAX_PAYLOAD_BYTES} bytes)")
    return _ENTRY_HEAD_BYTES + num_bytes


def encode_entry(seq: int, appended_ms: int, record: Record) -> bytes:
    """Return a record as an entry of a segment."""
    return _entry_of(seq, appended_ms, b"".join(_parts_of(record)))


def encode_gap(seq: int, appended_ms: int) -> bytes:
    """Return an entry without record, in place of one that cannot be written."""
    return _entry_of(seq, appended_ms, _NO_RECORD)


def appended_ms_of(entry: bytes) -> int:
    """Return when an entry's record was appended, milliseconds since the epoch."""
    return _ENTRY.unpack_from(entry)[3]


def _entry_of(seq: int, appended_ms: int, payload: bytes) -> bytes:
    # A system clock that was never set may stand before the epoch, less an age.
    head = _ENTRY.pack(_ENTRY_MAGIC, len(payload), seq, max(0, appended_ms), crc32(payload))
    return b"".join((head, _CRC.pack(crc32(head)), payload))


def _parts_of(record: Record) -> list[bytes]:
    """Return a payload in pieces.

    Raises:
        TypeError, ValueError, AttributeError, struct.error: If a field is not what it should be.
    """
    topic, key = Topic(record.topic).encode(), _encode(record.key)
    if not -1 << 63 <= record.timestamp_ms < 1 << 63:
        raise ValueError(f"timestamp_ms is {record.timestamp_ms} (accepted: 64 bits)")
    if len(record.headers) > _MAX_HEADERS:
        raise ValueError(f"{len(record.headers)} headers (accepted: {_MAX_HEADERS})")
    sizes = (len(topic), len(record.headers), len(key), _size_of_bytes("value", record.value))
    parts = [_RECORD.pack(*sizes, record.timestamp_ms), topic, key]
    for name, value in record.headers:
        encoded = _encode(name)
        size = _size_of_bytes(f"header {name!r}", value)
        parts += (_HEADER.pack(len(encoded), size), encoded, value)
    parts.append(record.value)
    return parts


def _size_of_bytes(name: str, value: object) -> int:
    # No views and no bytearrays: they may change until they are written.
    if not isinstance(value, bytes):
        raise TypeError(f"{name} is a {type(value).__name__} (accepted: bytes)")
    return len(value)


def decode_record(data: bytes, entry: Entry) -> Record | None:
    """Return an entry's record, ``None`` if it is not of this version's making."""
    at = entry.start + _ENTRY_HEAD_BYTES
    try:
        topic_size, num_headers, key_size, value_size, stamp = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        topic = Topic(data[at : at + topic_size].decode())
        at += topic_size
        key = _decode(data[at : at + key_size])
        at += key_size
        headers: list[tuple[str, bytes]] = []
        for _ in range(num_headers):
            name_size, size = _HEADER.unpack_from(data, at)
            at += _HEADER.size + name_size + size
            headers.append((_decode(data[at - size - name_size : at - size]), data[at - size : at]))
    except (ValueError, struct.error):
        return None
    if at + value_size != entry.end:
        return None
    value = data[at : entry.end]
    return Record(topic=topic, key=key, value=value, headers=tuple(headers), timestamp_ms=stamp)


def _encode(text: str) -> bytes:
    # Keys and headers from elsewhere may have held bytes that are no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def scan(data: bytes, start: int, last_seq: int, *, is_whole: bool) -> Iterator[Entry]:
    """Yield the good entries in order.

    Args:
        data: Bytes of a segment.
        start: Where to begin.
        last_seq: Sequence number before the first that is expected; smaller ones are passed over.
        is_whole: The segment ends where ``data`` does, so that damage is looked over. Otherwise
            the first entry that is not good ends the scan: it may only be cut.
    """
    at = start
    while at < len(data):
        entry = _parse(data, at, last_seq)
        if entry is None and is_whole:
            entry = _find_next(data, at, last_seq)
        if entry is None:
            return
        yield entry
        at, last_seq = entry.end, entry.seq


def find_last_written(data: bytes, start: int, last_seq: int) -> int:
    """Return the number of the last entry that was written to its end, good or not.

    Args:
        data: Bytes of a segment.
        start: End of the last good entry.
        last_seq: Number of that.
    """
    found, at = last_seq, start
    while (at := data.find(_ENTRY_MAGIC, at)) >= 0:
        head = _parse_head(data, at, found)
        is_written = head is not None and head.end <= len(data)
        at, found = (head.end, head.seq) if head and is_written else (at + 1, found)
    # Zeros are what some file systems leave of a torn write after a power cut.
    is_head_damaged = len(data) - start >= _ENTRY_HEAD_BYTES and any(data[start:])
    if found == last_seq and is_head_damaged and _parse_head(data, start, last_seq) is None:
        return last_seq + 1
    return found


def _parse_head(data: bytes, at: int, last_seq: int) -> Entry | None:
    """Return what a head says, wherever the entry ends; ``None`` if it is damaged."""
    if at + _ENTRY_HEAD_BYTES > len(data):
        return None
    magic, length, seq, appended_ms, _ = _ENTRY.unpack_from(data, at)
    if magic != _ENTRY_MAGIC or seq <= last_seq:
        return None
    if _CRC.unpack_from(data, at + _ENTRY.size)[0] != crc32(data[at : at + _ENTRY.size]):
        return None
    return Entry(seq, appended_ms, at, at + _ENTRY_HEAD_BYTES + length)


def _parse(data: bytes, at: int, last_seq: int) -> Entry | None:
    entry = _parse_head(data, at, last_seq)
    if entry is None or entry.end > len(data):
        return None
    payload = memoryview(data)[at + _ENTRY_HEAD_BYTES : entry.end]
    return entry if crc32(payload) == _ENTRY.unpack_from(data, at)[-1] else None


def _find_next(data: bytes, at: int, last_seq: int) -> Entry | None:
    """Return the first good entry behind a damaged one: by its length, else by the magic."""
    # A payload may hold the magic, even whole entries; such numbers are out of place, mostly.
    highest = last_seq + 1 + (len(data) - at) // _ENTRY_HEAD_BYTES
    head = _parse_head(data, at, last_seq)
    at = at if head is None else head.end
    while (at := data.find(_ENTRY_MAGIC, at)) >= 0:
        entry = _parse(data, at, last_seq)
        if entry is not None and entry.seq <= highest:
            return entry
        at += 1
    return None
