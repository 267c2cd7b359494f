"""Captures to what lies in files, and back to what a model goes on from."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.pictures.encoding import MAX_PIXELS, decode_image, encode_image
from models.common.masks import CropMask
from models.protocols import Reminder, SavedStateError, StreamMemory, View
from pipeline.engine.state.capture import Capture
from pipeline.engine.state.snapshot_file import SnapshotAbout, StoredSnapshot
from pipeline.records.replay import RememberedTrack
from pipeline.streams.snapshot import StreamSnapshot

_KEY_FRAME = "key-frame"
_MAX_SIDE = 1008  # no model reads a picture of more: SAM 3 sees 1008
# What 60 streams may write each 2 s within 10 MB/s, their objects besides. A sharp photograph of
# 16:9 has 236 kB at the first quality; of nothing but noise, as a square, 156 kB at the last.
_MAX_PICTURE_BYTES = 250_000
_QUALITIES = (85, 50, 15)


def encode_capture(capture: Capture) -> StoredSnapshot:
    """Return what is to be written of a stream: all, or its last frame in place of the memory."""
    saved, frame = capture.tracker, capture.frame
    arrays: dict[str, NDArray[np.generic]] = {}
    if saved is not None:
        arrays |= saved.arrays(is_full=capture.is_full)
        if frame is not None and not capture.is_full:
            arrays[_KEY_FRAME] = _encode_picture(frame.pixels)
    return StoredSnapshot(
        about=SnapshotAbout(
            stream_id=capture.stream_id,
            model=capture.model,
            taken_at=capture.taken_at,
            is_full=capture.is_full,
            alerts_seq=capture.mark.alerts_seq or 0,
            next_no=capture.next_no,
            next_masklet_id=0 if saved is None else saved.next_masklet_id,
            source=dict(capture.source),
            tracker="" if saved is None else saved.numbers(),
            cut=capture.cut,
        ),
        stream=capture.stream,
        arrays=arrays,
    )


def to_memory(
    stored: StoredSnapshot,
    stream: StreamSnapshot,
    *,
    remembered: Iterable[RememberedTrack] = (),
    forgotten: Sequence[int] = (),
    has_gap: bool,
) -> StreamMemory:
    """Return what a model goes on from.

    Args:
        stored: As it was written.
        stream: The stream in it.
        remembered: Tracks that began later.
        forgotten: Masklets whose tracks have ended later.
        has_gap: Frames were missed since.

    Raises:
        SavedStateError: If its picture is damaged.
    """
    arrays = dict(stored.arrays)
    picture = arrays.pop(_KEY_FRAME, None)
    return StreamMemory(
        numbers=stored.about.tracker,
        arrays=arrays,
        views=() if picture is None else (_view(picture, stream),),
        reminders=tuple(_reminder(one) for one in remembered),
        forgotten=tuple(forgotten),
        has_gap=has_gap,
    )


def _view(picture: NDArray[np.generic], stream: StreamSnapshot) -> View:
    try:
        pixels = decode_image(picture.tobytes(), max_pixels=MAX_PIXELS)
    except ValueError as error:
        raise SavedStateError(f"snapshot: its picture is damaged: {error}") from error
    return View(pixels=pixels, masks=_visible_masks(stream))


def _visible_masks(stream: StreamSnapshot) -> Mapping[int, CropMask]:
    if stream.session is None:
        return {}
    return {
        number: life.track.last_mask
        for number, life in stream.session.book.lives.items()
        if life.track.is_visible and not life.is_expired
    }


def _reminder(one: RememberedTrack) -> Reminder:
    track = one.track
    x, y, width, height = track.bbox
    return Reminder(
        masklet_id=one.masklet_id,
        concept_id=track.concept_id,
        score=track.score,
        centre_xy=(x + width / 2, y + height / 2),
        last_seen_s=track.last_seen.observed_us / 1_000_000,
    )


def _encode_picture(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = _MAX_SIDE / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = b""
    for quality in _QUALITIES:
        data = encode_image(pixels, "jpeg", quality=quality)
        if len(data) <= _MAX_PICTURE_BYTES:
            break
    return np.frombuffer(data, np.uint8)
