"""A snapshot of a stream as bytes: a head, and a safetensors file whose metadata hold the rest.

Layout: magic, version (2 bytes), SHA-256 of the body, body. Nothing of a file that is cut, damaged
or of another version is believed.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.errors import SnapshotError
from pipeline.streams.snapshot import StreamSnapshot, decode_snapshot, encode_snapshot

VERSION = 2
_HEAD = struct.Struct(">8sH32s")
HEAD_BYTES = _HEAD.size
_MAGIC = b"MSTRMSNP"
_LENGTH_BYTES = 8  # of the header of a safetensors file, which stands first in it
_METADATA = "__metadata__"
_ABOUT = "snapshot"
_STREAM = "stream"


class SnapshotFileError(ValueError):
    """Bytes that are no snapshot that this version can use; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAbout:
    """What a snapshot says of itself.

    Attributes:
        stream_id: Its stream.
        model: Name of the model that the memory belongs to.
        taken_at: UTC time.
        is_full: It holds the tracker's whole memory, so that what follows is equal to the bit.
        alerts_seq: The event log up to this number is part of it.
        next_no: No track has had this number or a higher one before the next snapshot.
        next_masklet_id: The tracker has given no number from here on.
        source: Where its source goes on.
        tracker: Numbers of the tracker, see ``ConceptTracker.save_stream``; empty without session.
        cut: Number of the transaction that it goes with; 0: of none.
    """

    stream_id: str
    model: str
    taken_at: datetime
    is_full: bool
    alerts_seq: int
    next_no: int
    next_masklet_id: int
    source: dict[str, int | float | str]
    tracker: str
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """A snapshot as it lies in a file.

    Attributes:
        about: Whose it is, and of when.
        stream: The stream.
        arrays: Tensors of the tracker, or pictures and pointers from which its memory is rebuilt.
    """

    about: SnapshotAbout
    stream: StreamSnapshot
    arrays: Mapping[str, NDArray[np.generic]] = field(
        default_factory=dict[str, NDArray[np.generic]]
    )


_ABOUT_ADAPTER = TypeAdapter(SnapshotAbout)


def encode_snapshot_file(snapshot: StoredSnapshot) -> bytes:
    """Return a snapshot as the bytes of a file."""
    text = _ABOUT_ADAPTER.dump_json(snapshot.about).decode()
    arrays = {name: np.ascontiguousarray(array) for name, array in snapshot.arrays.items()}
    body = save(arrays, {_ABOUT: text, _STREAM: encode_snapshot(snapshot.stream)})
    return _HEAD.pack(_MAGIC, VERSION, hashlib.sha256(body).digest()) + body


def check_head(data: bytes) -> bytes:
    """Return the digest of what follows the first ``HEAD_BYTES`` of a snapshot.

    Raises:
        SnapshotFileError: If it is of another version or something else.
    """
    if len(data) < HEAD_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise SnapshotFileError("is no snapshot")
    _, version, digest = cast("tuple[bytes, int, bytes]", _HEAD.unpack_from(data))
    if version != VERSION:
        raise SnapshotFileError(f"is of version {version} (accepted: {VERSION})")
    return digest


def decode_snapshot_file(data: bytes) -> StoredSnapshot:
    """Return the snapshot in the bytes of a file.

    Raises:
        SnapshotFileError: If it is cut, damaged, of another version or something else.
    """
    digest, body = check_head(data), data[HEAD_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise SnapshotFileError("is cut or damaged: its checksum is wrong")
    try:
        arrays = load(body)
        length = int.from_bytes(body[:_LENGTH_BYTES], "little")
        header = json.loads(body[_LENGTH_BYTES : _LENGTH_BYTES + length])
        metadata = header[_METADATA]
        about = _ABOUT_ADAPTER.validate_json(metadata[_ABOUT])
        stream = decode_snapshot(metadata[_STREAM])
    except SnapshotError as error:
        raise SnapshotFileError(str(error)) from error
    except (SafetensorError, ValidationError, ValueError, KeyError, TypeError) as error:
        raise SnapshotFileError("does not hold what a snapshot of this version holds") from error
    return StoredSnapshot(about=about, stream=stream, arrays=arrays)
