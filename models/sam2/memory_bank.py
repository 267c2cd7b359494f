"""What one object remembers, bounded for ever on an endless stream."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from models.common.checks import check_integer
from models.sam2.config import TrackerConfig
from models.sam2.memory_selection import (
    ConditioningMemory,
    HeldMemories,
    MemorySelection,
    read_memories,
)

QUALITY_THRESHOLD = 0.01


class MemoryBank:
    """Memories of one object, forward in time only.

    It keeps what the official tracker could still read and nothing else, so results are those of
    an unbounded history: the newest conditioning frames (4), and of the tracked frames the maps
    of the newest 6 and the pointers of the newest 16, plus those of the last frame.

    Of the tracked frames those count whose quality is above 0.01, by rank, and the last frame
    always holds the first rank, as is the official default.

    ``copy.copy`` gives a bank of its own, which shares tensors alone.

    Args:
        config: Sizes of the bank.
        num_maps: Length of the spatial memory, from 1 to ``config.num_maskmem``: the maps of one
            frame less are kept of tracked frames, and of conditioning frames no more than that.
            The nearest rows of the temporal position table stay in use, and pointers are kept as
            ever. The whole table's length when left out.

    Raises:
        ValueError: If ``num_maps`` is out of its range.
    """

    __slots__ = (
        "_conditioning",
        "_config",
        "_good",
        "_maps",
        "_newest",
        "_num_conditioning",
        "_num_maps",
        "_pointers",
    )

    def __init__(self, config: TrackerConfig, *, num_maps: int | None = None) -> None:
        if num_maps is not None:
            check_integer("num_maps", num_maps, least=1, most=config.num_maskmem)
        self._config = config
        self._num_maps = config.num_maskmem if num_maps is None else num_maps
        self._num_conditioning = config.max_cond_frames
        if num_maps is not None:
            self._num_conditioning = min(config.max_cond_frames or num_maps, num_maps)
        self._conditioning: dict[int, ConditioningMemory] = {}
        self._maps: dict[int, Tensor] = {}
        self._pointers: dict[int, Tensor] = {}
        self._good: list[int] = []
        self._newest = -1

    @property
    def newest(self) -> int:
        """Index of the newest frame written, -1 while there is none."""
        return self._newest

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        """Indices of the conditioning frames kept, oldest first."""
        return tuple(self._conditioning)

    @property
    def good(self) -> tuple[int, ...]:
        """Indices of the tracked frames that count, oldest first."""
        return tuple(self._good)

    @property
    def newest_pointer(self) -> Tensor | None:
        """The pointer of the newest frame written, shape (C,)."""
        given = self._conditioning.get(self._newest)
        return self._pointers.get(self._newest) if given is None else given.pointer

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors kept."""
        entries = self._conditioning.values()
        tensors = [*self._maps.values(), *self._pointers.values()]
        tensors += [t for e in entries for t in (e.spatial, e.pointer)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is kept, by names that :meth:`load` reads; never written to."""
        held = {f"map/{t}": tensor for t, tensor in self._maps.items()}
        held |= {f"pointer/{t}": tensor for t, tensor in self._pointers.items()}
        for t, memory in self._conditioning.items():
            held[f"given-map/{t}"], held[f"given-pointer/{t}"] = memory.spatial, memory.pointer
        return held

    def load(self, tensors: Mapping[str, Tensor], *, good: Sequence[int], newest: int) -> None:
        """Take over what :meth:`tensors`, :attr:`good` and :attr:`newest` of another bank gave.

        Of a longer memory than this one's the newest part is kept.

        Raises:
            ValueError: If a name is unknown, or no bank holds such tensors.
        """
        parts: dict[str, dict[int, Tensor]] = {
            kind: {} for kind in ("map", "pointer", "given-map", "given-pointer")
        }
        for name, tensor in tensors.items():
            kind, _, frame_index = name.partition("/")
            # No bank counts so far, and Python reads no longer numbers.
            is_number = frame_index.isascii() and frame_index.isdecimal() and len(frame_index) < 20
            if kind not in parts or not is_number:
                raise ValueError(f"tensor {name!r} is of no memory (accepted: {sorted(parts)})")
            parts[kind][int(frame_index)] = tensor
        maps, pointers, given = parts["map"], parts["pointer"], parts["given-map"]
        if not given or given.keys() != parts["given-pointer"].keys():
            raise ValueError("a conditioning frame lacks its map or its pointer (accepted: both)")
        if not {*good, *maps} <= pointers.keys():
            raise ValueError("a frame that counts lacks its pointer (accepted: one of each)")
        if newest != max((*given, *pointers)):
            raise ValueError(
                f"newest is {newest!r}; accepted: the last frame, {max((*given, *pointers))}"
            )
        self._maps, self._pointers = maps, pointers
        self._conditioning = {
            t: ConditioningMemory(spatial=given[t], pointer=parts["given-pointer"][t])
            for t in sorted(given)
        }
        self._good, self._newest = list(good), newest
        self._forget_old()

    def write_conditioning(self, frame_index: int, spatial: Tensor, pointer: Tensor) -> None:
        """Remember a frame whose mask was given; it replaces a tracked memory of that frame.

        Args:
            frame_index: Not before the newest frame written, from 0.
            spatial: Shape (memory_dim, g, g).
            pointer: Shape (C,).

        Raises:
            ValueError: If ``frame_index`` lies before the newest frame.
        """
        if frame_index < max(self._newest, 0):
            raise ValueError(f"frame_index {frame_index!r} is before the newest, {self._newest!r}")
        self._newest = frame_index
        self._copy_on_write()
        self._maps.pop(frame_index, None)
        self._pointers.pop(frame_index, None)
        self._good = [t for t in self._good if t != frame_index]
        self._conditioning[frame_index] = ConditioningMemory(
            spatial=spatial.clone(), pointer=pointer.clone()
        )
        self._forget_old()

    def write(
        self, frame_index: int, spatial: Tensor, pointer: Tensor, quality: float = 1.0
    ) -> None:
        """Remember a tracked frame.

        Args:
            frame_index: After the newest frame written, from 0.
            spatial: Shape (memory_dim, g, g).
            pointer: Shape (C,).
            quality: ``TrackOutput.quality`` of the object, 0 to 1.

        Raises:
            ValueError: If ``frame_index`` is not after the newest frame.
        """
        if frame_index <= self._newest:
            raise ValueError(
                f"frame_index {frame_index!r} is not after the newest, {self._newest!r}"
            )
        self._newest = frame_index
        self._copy_on_write()
        # Copies, because a view would keep the whole batch alive.
        self._maps[frame_index] = spatial.clone()
        self._pointers[frame_index] = pointer.clone()
        if quality > QUALITY_THRESHOLD:
            self._good.append(frame_index)
        self._trim()

    def select(self, time: int) -> MemorySelection:
        """Choose the memories for tracking frame ``time``.

        Raises:
            ValueError: If nothing was written yet, or ``time`` is not after the newest frame.
        """
        if self._newest < 0:
            raise ValueError("memory bank is empty; write a conditioning frame first")
        if time <= self._newest:
            raise ValueError(f"time {time!r} is not after the newest frame, {self._newest!r}")
        ranked = self._ranked(time)
        listed = ranked[: self._num_maps - 1]
        maps = {t: self._maps[t] for t in listed if t in self._maps}
        return read_memories(
            HeldMemories(conditioning=self._conditioning, maps=maps, pointers=self._pointers),
            time,
            ranked=ranked,
            num_pointers=self._num_lending(ranked),
            config=self._config,
        )

    @property
    def _num_pointers(self) -> int:
        return self._config.max_object_pointers - 1

    def _ranked(self, time: int) -> Sequence[int]:
        """Frames that count, newest first; a conditioning frame among them leaves a gap."""
        good = self._good[::-1][: self._num_pointers]
        return good if time - 1 in good else [time - 1, *good]

    def _num_lending(self, ranked: Sequence[int]) -> int:
        """How many of the frames that count lend their pointers."""
        # The oldest of them lends none; the weights were trained so.
        return min(len(ranked) - 1, self._num_pointers)

    def _copy_on_write(self) -> None:
        """Leave what is held to the banks that this one was copied from or to."""
        self._conditioning, self._maps = dict(self._conditioning), dict(self._maps)
        self._pointers, self._good = dict(self._pointers), list(self._good)

    def _forget_old(self) -> None:
        limit = self._num_conditioning
        while limit is not None and len(self._conditioning) > limit:
            self._forget_conditioning(next(iter(self._conditioning)))
        self._trim()

    def _forget_conditioning(self, frame_index: int) -> None:
        del self._conditioning[frame_index]

    def _trim(self) -> None:
        """Keep of the tracked frames what may still be read."""
        # One more than is read, because the newest may yet become a conditioning frame.
        self._good = self._good[-self._num_pointers - 1 :]
        # A slice from -0 would be all of them.
        first = max(len(self._good) - (self._num_maps - 1), 0)
        self._keep(maps={*self._good[first:], self._newest}, pointers={*self._good, self._newest})

    def _keep(self, *, maps: set[int], pointers: set[int]) -> None:
        self._maps = {t: m for t, m in self._maps.items() if t in maps}
        self._pointers = {t: p for t, p in self._pointers.items() if t in pointers}
