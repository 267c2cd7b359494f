"""The most telling frames of a run, as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from connectors.annotate.config import PictureSinkConfig
from connectors.annotate.draw import Style, draw
from connectors.annotate.video import path_for
from connectors.base import Overlay, PictureSink
from connectors.errors import NotWritableError
from connectors.frame import Frame
from connectors.pictures.stills import write_picture


class BestPictureSink(PictureSink):
    """Keeps the best ``num_pictures`` frames of each stream and writes them when flushed.

    A frame is better the more objects it shows clearly: visible confirmed objects count one each,
    occluded and tentative ones a quarter, all weighted by how well their size can be seen.

    Guarantee: files are whole when ``flush`` or ``close`` returns; a kill before leaves the last
        flushed ones. Memory: at most ``num_pictures`` frames per stream.
    Ordering: several pictures are numbered by media time, from 1.
    Parallelism: one writer.
    """

    def __init__(self, *, config: PictureSinkConfig) -> None:
        self._config = config
        self._style = Style(min_width=config.min_width, mask_opacity=config.mask_opacity)
        self._albums: dict[str, _Album] = {}

    @override
    def open(self) -> None:
        try:
            self._config.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(str(self._config.path), str(error.strerror)) from error

    @override
    def write(self, frame: Frame, overlays: Sequence[Overlay], captions: Sequence[str]) -> None:
        album = self._albums.setdefault(
            frame.stream_id,
            _Album(capacity=self._config.num_pictures, min_gap_s=self._config.min_gap_s),
        )
        score = telling_score(overlays, frame.pixels.shape[0] * frame.pixels.shape[1])
        if album.should_take(score, frame):
            drawn = draw(frame.pixels, overlays, captions, self._style)
            album.take(_Candidate(score, frame.stream_epoch, frame.pts_us, drawn))

    @override
    def flush(self) -> None:
        for index, (stream_id, album) in enumerate(self._albums.items()):
            path = path_for(self._config.path, stream_id, is_first=index == 0)
            chosen = sorted(album.candidates, key=lambda one: (one.epoch, one.pts_us))
            for number, candidate in enumerate(chosen, start=1):
                single = self._config.num_pictures == 1
                name = path if single else path.with_name(f"{path.stem}-{number}{path.suffix}")
                write_picture(name, candidate.picture)

    @override
    def close(self) -> None:
        self.flush()
        self._albums.clear()


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
    candidates: list[_Candidate] = field(default_factory=list[_Candidate])

    def should_take(self, score: float, frame: Frame) -> bool:
        near = self._near(frame.stream_epoch, frame.pts_us)
        if near:
            return score > max(one.score for one in near)
        if len(self.candidates) < self.capacity:
            return True
        return score > min(one.score for one in self.candidates)

    def take(self, candidate: _Candidate) -> None:
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
