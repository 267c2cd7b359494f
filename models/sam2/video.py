"""Objects through a video from points, boxes and masks (SAM 2, section 4).

For SAM 2.1, and with SAM 3's tracker and neck for SAM 3 (section 3) alike.

Shape legend:
    K objects, P points, H W the video's size in px, g tokens along a side of the model's picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.checks import check_integer
from models.common.prompting import (
    FloatArray,
    check_array,
    check_boxes,
    check_labels,
)
from models.sam2.memory_selection import MemorySelection
from models.sam2.outputs import TrackerFeatures, TrackOutput
from models.sam2.promptable import MAX_PROMPT_LOGIT, PromptableTracker
from models.sam2.tracker import ABSENT_LOGIT, with_corners
from models.sam2.video_frames import FrameFeatures, FrameSequence
from models.sam2.video_memory import PointPrompt, ShownMask, VideoMemory, own

# Objects followed at once: bounds the memory of a step.
BATCH = 16
OVERLAP_LOGIT = -10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """How a video session works.

    The defaults are the official ones but for one: a frame that was tracked and is then corrected
    becomes a conditioning frame, as the weights were trained. With the official predictor's default
    a correction is seen at once and lost as soon as propagation passes it.

    The official hole filling (up to 8 px) is left out: it needs a CUDA kernel of its own, and the
    official code goes without it where there is none.

    Attributes:
        cached_frames: Frames whose features are kept. In a stream these are the frames that can
            still be prompted.
        max_conditioning_frames: Prompted frames of an object that a stream remembers, the newest.
        memory_dtype: Type that spatial memories are kept in; the model's own for ``None``.
        non_overlapping: Whether each pixel is shown for one object alone, the surest.
    """

    cached_frames: int = 4
    max_conditioning_frames: int = 16
    memory_dtype: torch.dtype | None = torch.bfloat16
    non_overlapping: bool = False

    def __post_init__(self) -> None:
        for name in ("cached_frames", "max_conditioning_frames"):
            check_integer(name, getattr(self, name), least=1)
        kind = self.memory_dtype
        if kind is not None and not (isinstance(kind, torch.dtype) and kind.is_floating_point):  # pyright: ignore[reportUnnecessaryIsInstance] - of whatever a caller gave
            raise ValueError(f"memory_dtype is {kind!r}; accepted: a floating torch.dtype, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """All objects on one frame.

    Attributes:
        frame_index: The frame.
        object_ids: Ids of the K objects, in the order in which they were first prompted.
        mask_logits: Shape (K, H, W), fp32; above 0 is mask. -1024 everywhere for an object that is
            not seen.
        object_scores: Probability that each object is to be seen, shape (K,), 0 to 1; 0 for one
            that was not looked for on this frame.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    mask_logits: FloatArray
    object_scores: FloatArray

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks, shape (K, H, W), bool."""
        return self.mask_logits > 0


class VideoSession:
    """Tracks prompted objects through one clip or stream.

    With ``frames`` the whole clip is at hand: prompt objects on any frames, then
    :meth:`propagate` forwards or backwards, correct, and propagate again. All results are
    remembered. Without ``frames`` this is a stream: :meth:`push` each frame, and prompt objects on
    the newest ones; what is remembered is bounded for ever.

    A refused call leaves everything as it was. Not thread-safe.
    """

    def __init__(
        self,
        model: PromptableTracker,
        frames: FrameSequence | Sequence[NDArray[np.uint8]] | None = None,
        *,
        options: VideoOptions | None = None,
    ) -> None:
        """Open a video.

        Args:
            model: SAM 2.1 or SAM 3's tracker, with what encodes pictures for it.
            frames: RGB, (H, W, 3), uint8, all of one size; read when needed. ``None`` for a stream.
            options: How to work.
        """
        self.options = VideoOptions() if options is None else options
        self._model = model
        self._frames = FrameFeatures(model, frames, capacity=self.options.cached_frames)
        self._objects: dict[int, VideoMemory] = {}

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in the order in which they were first prompted."""
        return tuple(self._objects)

    @property
    def num_frames(self) -> int:
        """Frames of the clip, or frames pushed so far."""
        return self._frames.num_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors that the session keeps."""
        return self._frames.num_bytes + sum(m.num_bytes for m in self._objects.values())

    @torch.inference_mode()
    def add_points_or_box(
        self,
        frame_index: int,
        object_id: int,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        *,
        clear_old_points: bool = True,
    ) -> VideoResult:
        """Prompt an object, which may be new, or correct it on a frame.

        On a frame that has a mask of the object already, that mask is looked at, too.

        Args:
            frame_index: Frame that is prompted.
            object_id: Any integer.
            points: Shape (P, 2), x and y in px; outside the picture is allowed.
            labels: Shape (P,): 1 on the object, 0 off it. All 1 when left out.
            box: Shape (4,), x0, y0, x1, y1 in px.
            clear_old_points: Whether earlier points on this frame are dropped, or joined.

        Returns:
            All objects on that frame.

        Raises:
            ValueError: If an argument has a wrong shape, nothing is asked, a box is to join earlier
                points, or there is no such frame.
        """
        frame_index, object_id = (
            self._frames.check(frame_index),
            check_integer("object_id", object_id),
        )
        if box is not None and not clear_old_points:
            raise ValueError(
                "box is given with clear_old_points=False; accepted: a box comes before all points"
            )
        asked = self._points(points, labels, box)
        memory = self._objects.get(object_id) or self._new_memory()
        if not clear_old_points and frame_index in memory.prompts:
            old = memory.prompts[frame_index]
            asked = PointPrompt(
                points=torch.cat([old.points, asked.points]),
                labels=torch.cat([old.labels, asked.labels]),
            )
        is_first = memory.is_first_prompt(frame_index)
        features = self._frames.of(frame_index)
        output = self._model.tracker.prompt(
            features,
            asked.labels.new_zeros(1),
            points=asked.points[None],
            labels=asked.labels[None],
            mask_logits=self._earlier_mask(memory, frame_index),
            memories=None if is_first else [self._correcting(memory, frame_index)],
        )
        memory.prompts[frame_index] = asked
        return self._prompted(frame_index, object_id, memory, output)

    @torch.inference_mode()
    def add_mask(self, frame_index: int, object_id: int, mask: ArrayLike) -> VideoResult:
        """Give an object's mask on a frame; it is taken as true.

        Args:
            frame_index: Frame that is prompted.
            object_id: Any integer, new or known.
            mask: Shape (h, w), any size; non-zero is the object, and nothing at all means that the
                object is not to be seen.

        Raises:
            ValueError: If the mask is not of two dimensions, or there is no such frame.
        """
        frame_index, object_id = (
            self._frames.check(frame_index),
            check_integer("object_id", object_id),
        )
        array = check_array("mask", mask, (None, None))
        if not array.size:
            raise ValueError(f"mask has shape {array.shape!r}; accepted: at least one pixel")
        memory = self._objects.get(object_id) or self._new_memory()
        given = torch.from_numpy(array != 0).to(self._model.device)[None, None]
        output = self._model.tracker.condition_on_mask(
            self._frames.of(frame_index), self._of_first(1), given
        )
        memory.prompts.pop(frame_index, None)
        return self._prompted(frame_index, object_id, memory, output)

    def clear_prompts(self, frame_index: int, object_id: int) -> VideoResult:
        """Take back an object's prompts on a frame; returns all objects on that frame.

        Raises:
            ValueError: If there is no such object or frame.
        """
        frame_index = self._frames.check(frame_index)
        self._object(object_id).clear_prompts(frame_index)
        return self._result(frame_index)

    def remove_object(self, object_id: int) -> None:
        """Forget an object. Raises ``ValueError`` if there is no such object."""
        self._object(object_id)
        del self._objects[object_id]

    def reset(self) -> None:
        """Forget all objects; the frames stay."""
        self._objects.clear()

    def propagate(
        self,
        start_frame: int | None = None,
        max_frames: int | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[VideoResult]:
        """Track all objects through a clip, frame by frame as results are asked for.

        Args:
            start_frame: Where to start; the first prompted frame when left out.
            max_frames: Frames to go on after it; to the end when left out.
            reverse: Whether to go backwards. From frame 0 there is nowhere to go, so nothing comes.

        Raises:
            ValueError: If this is a stream, there is no such frame, no object, or an object without
                any prompt.
        """
        if self._frames.is_stream:
            raise ValueError("propagate is for clips; a stream is tracked by push")
        self._check_prompted()
        if start_frame is None:
            prompted = [t for m in self._objects.values() for t in m.prompted_frames]
            start_frame = min(prompted)
        start_frame = self._frames.check(start_frame)
        if max_frames is not None:
            check_integer("max_frames", max_frames, least=0)
        last = self._frames.num_frames - 1
        count = last if max_frames is None else max_frames
        if not reverse:
            order = range(start_frame, min(start_frame + count, last) + 1)
        else:
            order = range(start_frame, max(start_frame - count, 0) - 1, -1) if start_frame else ()
        return (self._step(t, reverse=reverse) for t in order)

    @torch.inference_mode()
    def push(self, pixels: NDArray[np.uint8]) -> VideoResult:
        """Add a stream's next frame and track all objects into it.

        Args:
            pixels: RGB, shape (H, W, 3), uint8, of the size of the first frame.

        Raises:
            ValueError: If the frame has another shape, type or size, this is a clip, or an object
                has no prompt left.
        """
        if self._objects:
            self._check_prompted()
        features = self._frames.encode_next(pixels)
        self._commit()
        frame_index = self._frames.push(features)
        self._follow(frame_index, features, reverse=False)
        limit = self._model.tracker.config.max_cond_frames or self.options.max_conditioning_frames
        for memory in self._objects.values():
            memory.forget_before(self._frames.oldest, max_conditioning=limit)
        return self._result(frame_index)

    @torch.inference_mode()
    def _step(self, frame_index: int, *, reverse: bool) -> VideoResult:
        self._check_prompted()
        self._commit()
        self._follow(frame_index, self._frames.of(frame_index), reverse=reverse)
        return self._result(frame_index)

    def _follow(self, frame_index: int, features: TrackerFeatures, *, reverse: bool) -> None:
        """Track all objects that are not prompted on the frame, many at once."""
        followed: list[VideoMemory] = []
        for memory in self._objects.values():
            if frame_index not in memory.conditioning_frames:
                followed.append(memory)
                continue
            memory.reach(frame_index, reverse=reverse)
        for start in range(0, len(followed), BATCH):
            chosen = followed[start : start + BATCH]
            memories = [self._memories(m, frame_index, reverse=reverse) for m in chosen]
            output = self._model.tracker.follow(features, self._of_first(len(chosen)), memories)
            spatial = self._encode(features, [output], is_sure=False)
            for row, memory in enumerate(chosen):
                memory.write(
                    frame_index,
                    ShownMask(
                        mask_logits=own(output.mask_logits[row]),
                        object_score_logits=own(output.object_score_logits[row]),
                    ),
                    own(spatial[row], self.options.memory_dtype),
                    own(output.pointer[row]),
                    reverse=reverse,
                )

    def _commit(self) -> None:
        """Make the memories of all prompts since the last step, many at once."""
        frames = sorted({t for memory in self._objects.values() for t in memory.pending})
        for frame_index in frames:
            waiting = [m for m in self._objects.values() if frame_index in m.pending]
            features = self._frames.of(frame_index)
            for start in range(0, len(waiting), BATCH):
                chosen = waiting[start : start + BATCH]
                outputs = [memory.pending[frame_index] for memory in chosen]
                spatial = self._encode(features, outputs, is_sure=True)
                for row, memory in enumerate(chosen):
                    memory.commit(frame_index, own(spatial[row], self.options.memory_dtype))

    def _encode(
        self, features: TrackerFeatures, outputs: Sequence[TrackOutput], *, is_sure: bool
    ) -> Tensor:
        scores = torch.cat([output.object_score_logits for output in outputs])
        return self._model.tracker.encode_memory(
            features,
            self._of_first(len(scores)),
            torch.cat([output.mask_logits for output in outputs]),
            scores,
            binarize=torch.full((len(scores),), is_sure, device=self._model.device),
        )

    def _memories(self, memory: VideoMemory, frame_index: int, *, reverse: bool) -> MemorySelection:
        num_frames = None if self._frames.is_stream else self._frames.num_frames
        return memory.select(frame_index, reverse=reverse, num_frames=num_frames)

    def _correcting(self, memory: VideoMemory, frame_index: int) -> MemorySelection:
        reverse = memory.was_reached_backwards(frame_index)
        return self._memories(memory, frame_index, reverse=reverse)

    def _earlier_mask(self, memory: VideoMemory, frame_index: int) -> Tensor | None:
        shown = memory.shown(frame_index)
        if shown is None:
            return None
        return shown.mask_logits[None].clamp(-MAX_PROMPT_LOGIT, MAX_PROMPT_LOGIT)

    def _prompted(
        self, frame_index: int, object_id: int, memory: VideoMemory, output: TrackOutput
    ) -> VideoResult:
        memory.pending[frame_index] = output
        self._objects[object_id] = memory
        return self._result(frame_index)

    def _points(
        self, points: ArrayLike | None, labels: ArrayLike | None, box: ArrayLike | None
    ) -> PointPrompt:
        if points is None and labels is not None:
            raise ValueError("labels is given without points; accepted: both")
        coords = np.zeros((0, 2), np.float32)
        if points is not None:
            coords = check_array("points", points, (None, 2))
        kinds = np.ones(len(coords), np.int64)
        if labels is not None:
            kinds = check_labels("labels", labels, (len(coords),))
        if not len(coords) and box is None:
            raise ValueError("no prompt; accepted: at least one point, a box, or both")
        corners = None
        if box is not None:
            corners = torch.from_numpy(check_boxes("box", check_array("box", box, (4,))))[None]
        height, width = self._frames.picture_hw
        placed, named = with_corners(
            torch.from_numpy(coords)[None], torch.from_numpy(kinds)[None], corners
        )
        shares = placed[0] / torch.tensor([width, height])
        return PointPrompt(
            points=shares.to(self._model.device), labels=named[0].to(self._model.device)
        )

    def _result(self, frame_index: int) -> VideoResult:
        side, ids = self._model.mask_side, self.object_ids
        small = torch.full((len(ids), 1, side, side), ABSENT_LOGIT, device=self._model.device)
        scores = small.new_zeros(len(ids))
        for row, memory in enumerate(self._objects.values()):
            shown = memory.shown(frame_index)
            if shown is not None:
                small[row] = shown.mask_logits
                scores[row] = shown.object_score_logits[0].sigmoid()
        large = small.new_zeros(0, *self._frames.picture_hw)
        if ids:
            large = F.interpolate(small, self._frames.picture_hw, mode="bilinear")[:, 0]
        if self.options.non_overlapping and len(ids) > 1:
            large = without_overlap(large)
        return VideoResult(
            frame_index=frame_index,
            object_ids=ids,
            mask_logits=large.numpy(force=True),
            object_scores=scores.numpy(force=True),
        )

    def _check_prompted(self) -> None:
        if not self._objects:
            raise ValueError("there is no object; accepted: prompt one first")
        for object_id, memory in self._objects.items():
            if not memory.is_prompted:
                raise ValueError(
                    f"object_id {object_id!r} has no prompt left; accepted: prompt it, or remove it"
                )

    def _object(self, object_id: int) -> VideoMemory:
        if check_integer("object_id", object_id) not in self._objects:
            raise ValueError(f"object_id {object_id!r} is unknown; known: {self.object_ids!r}")
        return self._objects[object_id]

    def _new_memory(self) -> VideoMemory:
        return VideoMemory(self._model.tracker.config)

    def _of_first(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.int64, device=self._model.device)


def without_overlap(mask_logits: Tensor) -> Tensor:
    """Leave each pixel of masks (K, H, W) to the surest object; the others get at most -10."""
    surest = mask_logits.argmax(dim=0)
    rows = torch.arange(len(mask_logits), device=mask_logits.device)[:, None, None]
    return torch.where(surest == rows, mask_logits, mask_logits.clamp(max=OVERLAP_LOGIT))
