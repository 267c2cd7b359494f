"""Which memories a frame attends to (SAM 2, section 4, "Memory bank")."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.sam2.config import TrackerConfig


class HasMemory(Protocol):
    """What one conditioning frame left behind."""

    @property
    def spatial(self) -> Tensor:
        """Shape (memory_dim, g, g)."""
        ...

    @property
    def pointer(self) -> Tensor:
        """Shape (C,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditioningMemory:
    """The plain :class:`HasMemory`."""

    spatial: Tensor
    pointer: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MapMemory:
    """One spatial memory as the attention reads it.

    Attributes:
        frame_index: Frame it was made on.
        slot: Row of the temporal position table: 0 for the last frame, up to ``num_maskmem - 1``
            for a conditioning frame.
        spatial: Shape (memory_dim, g, g).
    """

    frame_index: int
    slot: int
    spatial: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PointerMemory:
    """One object pointer as the attention reads it.

    Attributes:
        frame_index: Frame it was made on.
        age: Frames ago; among selected frames their rank counts, not their true age.
        pointer: Shape (C,).
    """

    frame_index: int
    age: int
    pointer: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySelection:
    """The memories that one object's next step attends to; ages count in ``longest_age``."""

    maps: tuple[MapMemory, ...]
    pointers: tuple[PointerMemory, ...]
    longest_age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMemories:
    """What one object holds, by frame: conditioning frames, and what tracked frames left."""

    conditioning: Mapping[int, HasMemory]
    maps: Mapping[int, Tensor]
    pointers: Mapping[int, Tensor]


def neighbours(time: int, count: int, *, reverse: bool = False) -> range:
    """Return the ``count`` frames before ``time``, or with ``reverse`` after it, nearest first."""
    if reverse:
        return range(time + 1, time + 1 + count)
    return range(time - 1, max(time - 1 - count, -1), -1)


def closest_frames(time: int, frames: Iterable[int], limit: int | None) -> list[int]:
    """Choose at most ``limit`` (all for ``None``) conditioning frames to attend to.

    They are the closest before ``time``, the closest from ``time`` on, and then the closest of the
    rest, as in the official code. The order of ``frames`` is kept.
    """
    frames = list(frames)
    if limit is None or len(frames) <= limit:
        return frames
    before = max((t for t in frames if t < time), default=None)
    after = min((t for t in frames if t >= time), default=None)
    chosen = [t for t in (before, after) if t is not None]
    others = sorted((t for t in frames if t not in chosen), key=lambda t: abs(t - time))
    chosen += others[: limit - len(chosen)]
    return [t for t in frames if t in chosen]


def read_memories(
    held: HeldMemories,
    time: int,
    *,
    ranked: Sequence[int],
    num_pointers: int,
    config: TrackerConfig,
    reverse: bool = False,
    longest_age: int | None = None,
) -> MemorySelection:
    """Read the memories for frame ``time``.

    Args:
        held: Memories; all its conditioning frames are attended to.
        time: Frame to be tracked.
        ranked: Tracked frames that count, best first; one without memory leaves a gap.
        num_pointers: How many of them lend their pointers.
        config: Sizes of the tracker.
        reverse: Whether time runs backwards. Pointers come only from where tracking came from.
        longest_age: What ages are counted in; that of a full memory when left out.
    """
    last_slot = config.num_maskmem - 1
    sign = -1 if reverse else 1
    read_maps = [
        MapMemory(frame_index=t, slot=last_slot, spatial=memory.spatial)
        for t, memory in held.conditioning.items()
    ]
    read_maps += [
        MapMemory(frame_index=t, slot=rank, spatial=held.maps[t])
        for rank, t in enumerate(ranked[:last_slot])
        if t in held.maps
    ]
    read_pointers = [
        PointerMemory(frame_index=t, age=sign * (time - t), pointer=memory.pointer)
        for t, memory in held.conditioning.items()
        if sign * (time - t) >= 0
    ]
    read_pointers += [
        PointerMemory(frame_index=t, age=rank + 1, pointer=held.pointers[t])
        for rank, t in enumerate(ranked[:num_pointers])
        if t in held.pointers
    ]
    return MemorySelection(
        maps=tuple(read_maps),
        pointers=tuple(read_pointers),
        longest_age=longest_age or config.max_object_pointers - 1,
    )
