"""The most telling frames of a run, as pictures."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from connectors.annotate.config import PictureSinkConfig
from connectors.annotate.draw import Style, draw
from connectors.annotate.files import StreamFaults, StreamFiles
from connectors.base import Overlay, PictureSink
from connectors.errors import SinkError
from connectors.frame import Frame
from connectors.pictures.stills import write_picture

# A drawing of 720p as PNG costs 30 ms to write.
_SAVE_S = 5.0


class BestPictureSink(PictureSink):
    """Keeps the best ``num_pictures`` frames of each stream and writes them.

    A frame is better the more objects it shows clearly: visible confirmed objects count one each,
    occluded and tentative ones a quarter, all weighted by how well their size can be seen. Of at
    most ``max_open`` streams frames are kept: those of the one unused for longest are written, and
    it goes on in further files. Files that fail cost their stream's pictures for a while, logged
    and counted in ``num_refused``.

    Guarantee: best effort; files are whole when ``flush`` or ``close`` returns, and a better frame
        waits for them five seconds at most while its stream runs: a kill leaves what was best
        then. Memory: at most ``num_pictures`` drawings per kept stream.
    Ordering: several pictures are numbered by media time, from 1.
    Parallelism: one writer per path, in this process and all others.
    """

    def __init__(self, *, config: PictureSinkConfig, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._style = Style(min_width=config.min_width, mask_opacity=config.mask_opacity)
        self._files = StreamFiles(
            config.path,
            overwrite=config.overwrite,
            first_of=lambda path: self._numbered(path, 1),
            now=now,
        )
        self._faults = StreamFaults()
        self._albums: OrderedDict[str, _Album] = OrderedDict()

    @property
    @override
    def num_refused(self) -> int:
        return self._faults.num_refused

    @override
    def open(self) -> None:
        self._files.open()

    @override
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        if self._faults.refuses(frame.stream_id):
            return
        album = self._album_of(frame.stream_id)
        score = telling_score(overlays, frame.pixels.shape[0] * frame.pixels.shape[1])
        if album.should_take(score, frame):
            drawn = draw(frame.pixels, overlays, captions, self._style)
            album.take(_Candidate(score, frame.stream_epoch, frame.pts_us, drawn))
        if time.monotonic() - album.saved_s >= _SAVE_S:
            self._save(frame.stream_id, album)

    @override
    def flush(self) -> None:
        for stream_id, album in self._albums.items():
            if not self._faults.is_paused(stream_id):
                self._save(stream_id, album)

    @override
    def close_stream(self, stream_id: str) -> None:
        if album := self._albums.pop(stream_id, None):
            self._save(stream_id, album)
        self._faults.forget(stream_id)

    @override
    def close(self) -> None:
        albums, self._albums = self._albums, OrderedDict()
        for stream_id, album in albums.items():
            self._save(stream_id, album)
        self._files.close()

    def _album_of(self, stream_id: str) -> "_Album":
        if stream_id in self._albums:
            self._albums.move_to_end(stream_id)
            return self._albums[stream_id]
        if len(self._albums) >= self._config.max_open:
            self._save(*self._albums.popitem(last=False))
        album = _Album(capacity=self._config.num_pictures, min_gap_s=self._config.min_gap_s)
        self._albums[stream_id] = album
        return album

    def _save(self, stream_id: str, album: "_Album") -> None:
        if not album.is_changed:
            return
        path = album.path or self._files.next_path(stream_id)
        chosen = sorted(album.candidates, key=lambda one: (one.epoch, one.pts_us))
        try:
            for number, candidate in enumerate(chosen, start=1):
                write_picture(self._numbered(path, number), candidate.picture)
        except SinkError as error:
            self._faults.add(stream_id, error)
        else:
            album.path, album.saved_s, album.is_changed = path, time.monotonic(), False

    def _numbered(self, path: Path, number: int) -> Path:
        is_single = self._config.num_pictures == 1
        return path if is_single else path.with_name(f"{path.stem}-{number}{path.suffix}")


def telling_score(overlays: Sequence[Overlay], num_pixels: int) -> float:
    """Return how much a frame of that many pixels shows; 0 with nothing on it."""
    score = 0.0
    for overlay in overlays:
        share = np.count_nonzero(overlay.bits) / num_pixels
        weight = 0.25 if overlay.is_occluded or overlay.is_tentative else 1.0
        score += weight * min(share / 0.03, 1.0)
    return score


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    score: float
    epoch: int
    pts_us: int
    picture: NDArray[np.uint8]


@dataclass(slots=True, kw_only=True)
class _Album:
    capacity: int
    min_gap_s: float
    path: Path | None = None
    is_changed: bool = False
    saved_s: float = field(default_factory=time.monotonic)
    candidates: list[_Candidate] = field(default_factory=list[_Candidate])

    def should_take(self, score: float, frame: Frame) -> bool:
        near = self._near(frame.stream_epoch, frame.pts_us)
        if near:
            return score > max(one.score for one in near)
        if len(self.candidates) < self.capacity:
            return True
        return score > min(one.score for one in self.candidates)

    def take(self, candidate: _Candidate) -> None:
        self.is_changed = True
        near = self._near(candidate.epoch, candidate.pts_us)
        self.candidates = [one for one in self.candidates if one not in near]
        self.candidates.append(candidate)
        self.candidates.sort(key=lambda one: -one.score)
        del self.candidates[self.capacity :]

    def _near(self, epoch: int, pts_us: int) -> list[_Candidate]:
        return [
            one
            for one in self.candidates
            if one.epoch == epoch and abs(one.pts_us - pts_us) < self.min_gap_s * 1e6
        ]
