"""What one object left on the frames of a video that can be gone through in any order.

Its selection of memories is that of :class:`models.sam2.memory_bank.MemoryBank` without quality,
but for both directions of time and with conditioning frames anywhere.
"""

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sam2.config import TrackerConfig
from models.sam2.memory_selection import (
    ConditioningMemory,
    HeldMemories,
    MemorySelection,
    closest_frames,
    neighbours,
    read_memories,
)
from models.sam2.outputs import TrackOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMask:
    """What is seen of one object on one frame.

    Attributes:
        mask_logits: Shape (1, 4g, 4g).
        object_score_logits: Shape (1,).
    """

    mask_logits: Tensor
    object_score_logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPrompt:
    """Points of one object on one frame, box corners included.

    Attributes:
        points: Shape (P, 2), x and y as shares of the picture.
        labels: Shape (P,), int64, 0 to 3 as in :mod:`models.common.prompt_encoder`.
    """

    points: Tensor
    labels: Tensor


class VideoMemory:
    """Memories of one object by frame; see the module."""

    __slots__ = (
        "_conditioning",
        "_config",
        "_directions",
        "_maps",
        "_pointers",
        "_shown",
        "pending",
        "prompts",
    )

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._conditioning: dict[int, ConditioningMemory] = {}
        self._maps: dict[int, Tensor] = {}
        self._pointers: dict[int, Tensor] = {}
        self._shown: dict[int, ShownMask] = {}
        # Whether propagation last came to a frame backwards in time.
        self._directions: dict[int, bool] = {}
        # Answers to prompts whose memory is not made yet, for more prompts may follow.
        self.pending: dict[int, TrackOutput] = {}
        self.prompts: dict[int, PointPrompt] = {}

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        """Frames that were prompted and whose memory is made."""
        return tuple(self._conditioning)

    @property
    def prompted_frames(self) -> tuple[int, ...]:
        """Conditioning frames, and those that are about to become such."""
        return (*self._conditioning, *self.pending)

    @property
    def is_prompted(self) -> bool:
        """Whether any prompt is in force."""
        return bool(self.prompted_frames)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors kept."""
        return sum(t.numel() * t.element_size() for t in self._tensors())

    def is_first_prompt(self, frame_index: int) -> bool:
        """Whether a prompt on the frame starts afresh and does not correct propagation."""
        return frame_index not in self._directions or not self._conditioning

    def reach(self, frame_index: int, *, reverse: bool) -> None:
        """Note that propagation passed the frame."""
        self._directions[frame_index] = reverse

    def was_reached_backwards(self, frame_index: int) -> bool:
        """Whether tracking went backwards when it last came to the frame."""
        return self._directions.get(frame_index, False)

    def shown(self, frame_index: int) -> ShownMask | None:
        """Return the newest answer for the frame."""
        if frame_index in self.pending:
            return _shown(self.pending[frame_index])
        return self._shown.get(frame_index)

    def select(
        self, time: int, *, reverse: bool = False, num_frames: int | None = None
    ) -> MemorySelection:
        """Choose the memories for frame ``time``.

        Args:
            time: Any frame.
            reverse: Whether time runs backwards.
            num_frames: Length of the video, if it is known; a video shorter than the memory has
                ages counted in its length, as in the official code.
        """
        chosen = closest_frames(time, self._conditioning, self._config.max_cond_frames)
        others = {t: m for t, m in self._conditioning.items() if t not in chosen}
        span = self._config.max_object_pointers
        span = span if num_frames is None else min(span, num_frames)
        return read_memories(
            HeldMemories(
                conditioning={t: self._conditioning[t] for t in chosen},
                maps=ChainMap(self._maps, {t: m.spatial for t, m in others.items()}),
                pointers=ChainMap(self._pointers, {t: m.pointer for t, m in others.items()}),
            ),
            time,
            ranked=neighbours(time, self._config.max_object_pointers - 1, reverse=reverse),
            num_pointers=span - 1,
            config=self._config,
            reverse=reverse,
            longest_age=max(span - 1, 1),
        )

    def commit(self, frame_index: int, spatial: Tensor) -> None:
        """Make a conditioning frame of one that has a pending prompt.

        Args:
            frame_index: The frame.
            spatial: Its memory, shape (memory_dim, g, g).
        """
        output = self.pending.pop(frame_index)
        self._maps.pop(frame_index, None)
        self._pointers.pop(frame_index, None)
        self._conditioning[frame_index] = ConditioningMemory(
            spatial=spatial, pointer=output.pointer[0]
        )
        self._shown[frame_index] = _shown(output)

    def write(
        self, frame_index: int, shown: ShownMask, spatial: Tensor, pointer: Tensor, *, reverse: bool
    ) -> None:
        """Remember a tracked frame: spatial (memory_dim, g, g), pointer (C,)."""
        self._maps[frame_index] = spatial
        self._pointers[frame_index] = pointer
        self._shown[frame_index] = shown
        self.reach(frame_index, reverse=reverse)

    def clear_prompts(self, frame_index: int) -> None:
        """Take back the prompts of a frame; if it was a conditioning frame it now is a tracked one.

        As in the official code what it shows stays until it is tracked again.
        """
        self.prompts.pop(frame_index, None)
        self.pending.pop(frame_index, None)
        if frame_index in self._conditioning:
            self._demote(frame_index)
            self._directions.pop(frame_index, None)

    def forget_before(self, oldest: int, *, max_conditioning: int) -> None:
        """Keep only what frames from ``oldest`` on can still read or show.

        Of the conditioning frames the newest ``max_conditioning`` are kept.
        """
        for t in sorted(self._conditioning)[:-max_conditioning]:
            self._demote(t)
        last_map = oldest - (self._config.num_maskmem - 1)
        last_pointer = oldest - (self._config.max_object_pointers - 1)
        self._maps = {t: m for t, m in self._maps.items() if t >= last_map}
        self._pointers = {t: p for t, p in self._pointers.items() if t >= last_pointer}
        self._shown = {t: s for t, s in self._shown.items() if t >= oldest}
        self._directions = {t: d for t, d in self._directions.items() if t >= oldest}
        self.prompts = {t: p for t, p in self.prompts.items() if t >= oldest}

    def _demote(self, frame_index: int) -> None:
        memory = self._conditioning.pop(frame_index)
        self._maps[frame_index] = memory.spatial
        self._pointers[frame_index] = memory.pointer

    def _tensors(self) -> Iterator[Tensor]:
        yield from self._maps.values()
        yield from self._pointers.values()
        for memory in self._conditioning.values():
            yield memory.spatial
            yield memory.pointer
        for shown in self._shown.values():
            yield shown.mask_logits
            yield shown.object_score_logits
        for prompt in self.prompts.values():
            yield prompt.points
            yield prompt.labels


def _shown(output: TrackOutput) -> ShownMask:
    """Return the answer of one object."""
    return ShownMask(
        mask_logits=output.mask_logits[0], object_score_logits=output.object_score_logits[0]
    )


def own(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Copy a row of a batch, for a view would keep the whole batch alive."""
    return tensor.clone() if dtype is None else tensor.to(dtype, copy=True)
