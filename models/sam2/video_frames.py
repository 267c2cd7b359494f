"""Frames of a video and their features, of a clip that is at hand or of a stream that comes."""

from collections import OrderedDict
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.common.checks import check_integer
from models.common.prompting import check_pixels
from models.sam2.outputs import TrackerFeatures
from models.sam2.promptable import PromptableTracker


class FrameSequence(Protocol):
    """Frames by index; a list, or what decodes them when asked."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Return a frame, RGB, shape (H, W, 3), uint8."""
        ...


class FrameFeatures:
    """Features of the frames last asked for, and what is known of all frames.

    Args:
        model: What encodes a frame.
        clip: All frames, or ``None`` for a stream.
        capacity: Frames whose features are kept.
    """

    __slots__ = ("_capacity", "_clip", "_features", "_hw", "_model", "_num_pushed")

    def __init__(
        self, model: PromptableTracker, clip: FrameSequence | None, *, capacity: int
    ) -> None:
        if clip is not None and not (hasattr(clip, "__len__") and hasattr(clip, "__getitem__")):
            raise ValueError(
                f"frames is a {type(clip).__name__}; accepted: a sequence of frames, or None for "
                "a stream"
            )
        self._model = model
        self._clip = clip
        self._capacity = capacity
        self._features: OrderedDict[int, TrackerFeatures] = OrderedDict()
        self._hw: tuple[int, int] | None = None
        self._num_pushed = 0

    @property
    def is_stream(self) -> bool:
        """Whether frames are pushed one by one."""
        return self._clip is None

    @property
    def num_frames(self) -> int:
        """Frames of the clip, or frames pushed so far."""
        return self._num_pushed if self._clip is None else len(self._clip)

    @property
    def oldest(self) -> int:
        """First frame that can still be asked for."""
        return max(self._num_pushed - self._capacity, 0)

    @property
    def num_bytes(self) -> int:
        """Bytes of the features kept."""
        return sum(
            level.numel() * level.element_size()
            for features in self._features.values()
            for level in (features.fine0, features.fine1, features.top)
        )

    @property
    def picture_hw(self) -> tuple[int, int]:
        """Height and width of every frame in px."""
        if self._hw is None:
            if self._clip is None or not len(self._clip):
                raise ValueError("the video has no frame yet; push one first")
            self._hw = _size(check_pixels(self._clip[0]))
        return self._hw

    def check(self, frame_index: object) -> int:
        """Return the index of a frame that can be asked for.

        Raises:
            ValueError: If there is no such frame, or it has passed; says which there are.
        """
        index = check_integer("frame_index", frame_index)
        if not self.oldest <= index < self.num_frames:
            raise ValueError(
                f"frame_index {index!r} is not among the frames at hand; accepted: {self._range()}"
            )
        return index

    def of(self, frame_index: int) -> TrackerFeatures:
        """Return the features of a frame that was checked; of a clip's they are made if need be."""
        if frame_index not in self._features:
            if self._clip is None:
                raise ValueError(f"frame_index {frame_index!r} has passed; {self._range()}")
            self._keep(frame_index, self._encode(self._clip[frame_index]))
        self._features.move_to_end(frame_index)
        return self._features[frame_index]

    def encode_next(self, pixels: NDArray[np.uint8]) -> TrackerFeatures:
        """Encode the stream's next frame; :meth:`push` adds it.

        Raises:
            ValueError: If this is a clip, or the frame has another shape, type or size.
        """
        if self._clip is not None:
            raise ValueError("push is for streams; this video was opened with all its frames")
        return self._encode(pixels)

    def push(self, features: TrackerFeatures) -> int:
        """Add the stream's next frame; returns its index."""
        self._keep(self._num_pushed, features)
        self._num_pushed += 1
        return self._num_pushed - 1

    def _encode(self, pixels: NDArray[np.uint8]) -> TrackerFeatures:
        checked = np.ascontiguousarray(check_pixels(pixels))
        size = _size(checked)
        if self._hw is not None and size != self._hw:
            raise ValueError(f"pixels is a frame of {size!r}; accepted: the video's {self._hw!r}")
        features = self._model.encode(torch.from_numpy(checked).to(self._model.device)[None])
        self._hw = size
        return features

    def _keep(self, frame_index: int, features: TrackerFeatures) -> None:
        self._features[frame_index] = features
        while len(self._features) > self._capacity:
            self._features.popitem(last=False)

    def _range(self) -> str:
        if not self.num_frames:
            return "none yet"
        return f"{self.oldest} to {self.num_frames - 1}"


def _size(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
