"""A stream that goes on from what was saved of it.

Numbers that fit no stream are refused. An object whose tensors or picture do not fit costs the
others nothing: it is known by its place alone.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.checks import check_integer, check_number
from models.protocols import Reminder, SavedStateError, StreamMemory, View
from models.sam2.memory_bank import MemoryBank
from models.sam3.masks import to_images
from models.sam3.network.model import Sam3
from models.sam3.network.text import TextFeatures
from models.sam3.tracking.masklet import Masklet, MaskletFacts, Place
from models.sam3.tracking.saved import SavedConcept, SavedMasklet, SavedNumbers, TensorLayout
from models.sam3.tracking.stream import Stream

_T = TypeVar("_T")
_FACTS = tuple(one.name for one in fields(MaskletFacts))


class Restorer:
    """Lets one stream go on from what was saved.

    Args:
        model: Whose tensors they are; encodes views.
        memory: What was saved.
        num_maps: Length of the spatial memory.
    """

    def __init__(self, model: Sam3, memory: StreamMemory, *, num_maps: int) -> None:
        self._model = model
        self._memory = memory
        self._num_maps = num_maps
        self._layout = TensorLayout.of(model.config)
        parameter = next(model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._problems: list[str] = []

    def restore(self, stream: Stream) -> tuple[str, ...]:
        """Let a stream that was opened a moment ago go on from what is known of it.

        Returns:
            What could not be used of single objects, and why.

        Raises:
            SavedStateError: If the memory does not fit; the stream is of no use then.
        """
        memory = self._memory
        numbers = SavedNumbers.read(
            memory.numbers,
            self._layout,
            takes_points=self._model.config.detector.point_exemplars,
        )
        stream.next_id, stream.frame_index = numbers.next_id, numbers.frame_index
        stream.time_s = numbers.time_s
        for concept in stream.concepts:
            known = numbers.concepts.get(concept.concept_id, SavedConcept.of(concept))
            concept.presence, concept.pending = known.presence, known.pending
            concept.kept = self._tokens(f"kept/{concept.concept_id}")
            concept.shown = self._tokens(f"shown/{concept.concept_id}")
        # Those of chosen objects, too.
        concept_ids = {None, *(concept.concept_id for concept in stream.concepts)}
        stream.masklets = [
            self._masklet(saved)
            for saved in numbers.masklets
            if saved.concept_id in concept_ids and saved.facts.masklet_id not in memory.forgotten
        ]
        stream.is_resumed = memory.has_gap
        for view in memory.views:
            self._encode(stream, view)
        for masklet in stream.masklets:
            may_be_elsewhere = memory.has_gap or masklet.is_reminder
            masklet.is_sought |= may_be_elsewhere and not masklet.is_chosen
        for reminder in memory.reminders:
            if reminder.concept_id in concept_ids:
                self._remind(stream, reminder)
        return tuple(self._problems)

    def _masklet(self, saved: SavedMasklet) -> Masklet:
        number = saved.facts.masklet_id
        bank = self._or_note(number, lambda: self._bank(saved)) or self._new_bank()
        known = {name: getattr(saved.facts, name) for name in _FACTS}
        return Masklet(concept_id=saved.concept_id, bank=bank, **known)

    def _new_bank(self) -> MemoryBank:
        return MemoryBank(self._model.config.tracker, num_maps=self._num_maps)

    def _bank(self, saved: SavedMasklet) -> MemoryBank:
        """Return what a masklet remembers; empty if that was not saved."""
        bank, prefix = self._new_bank(), f"memory/{saved.facts.masklet_id}/"
        names = [name for name in self._memory.arrays if name.startswith(prefix)]
        if not names:
            return bank
        side, layout = self._layout.grid, self._layout
        tensors: dict[str, Tensor] = {}
        for name in names:
            is_map = "map/" in name
            shape = (layout.memory_dim, side, side) if is_map else (layout.hidden_dim,)
            tensors[name.removeprefix(prefix)] = self._tensor(name, shape)
        bank.load(tensors, good=saved.good, newest=saved.newest)
        return bank

    def _encode(self, stream: Stream, view: View) -> None:
        """Write a view into the memories of its masklets that have none."""
        size = self._model.config.vision.image_size
        given = {
            k: self._or_note(masklet.masklet_id, lambda m=masklet: _seen_in(view, m, size))
            for k, masklet in enumerate(stream.masklets)
            if masklet.is_reminder and masklet.masklet_id in view.masks
        }
        masks = {k: mask for k, mask in given.items() if mask is not None}
        if not masks:
            return
        tracker = self._model.tracker_model
        features = self._model.encode_pixels(to_images(_checked(view.pixels), self._device))
        frame = torch.zeros(len(masks), dtype=torch.int64, device=self._device)
        begun = tracker.condition_on_mask(
            features, frame, torch.stack(list(masks.values()))[:, None].to(self._device)
        )
        spatial = tracker.encode_memory(
            features,
            frame,
            begun.mask_logits,
            begun.object_score_logits,
            binarize=torch.ones_like(frame, dtype=torch.bool),
        )
        for row, k in enumerate(masks):
            masklet = stream.masklets[k]
            pointer = self._newest_pointer(masklet.masklet_id)
            if pointer is None:
                pointer = begun.pointer[row]
            masklet.bank.write_conditioning(max(stream.frame_index, 0), spatial[row], pointer)

    def _newest_pointer(self, number: int) -> Tensor | None:
        name, shape = f"newest-pointer/{number}", (self._layout.hidden_dim,)
        if name not in self._memory.arrays:
            return None
        return self._or_note(number, lambda: self._tensor(name, shape))

    def _remind(self, stream: Stream, reminder: Reminder) -> None:
        """Add an object that is known by its place alone."""
        living = {masklet.masklet_id for masklet in stream.masklets}
        masklet = self._or_note(reminder.masklet_id, lambda: self._reminded(reminder))
        if masklet is not None and masklet.masklet_id not in living:
            stream.masklets.append(masklet)
            stream.next_id = max(stream.next_id, masklet.masklet_id + 1)

    def _reminded(self, reminder: Reminder) -> Masklet:
        seen_s = check_number("last_seen_s", reminder.last_seen_s)
        x, y = (check_number("centre_xy", one) for one in reminder.centre_xy)
        return Masklet(
            masklet_id=check_integer("masklet_id", reminder.masklet_id, least=1),
            concept_id=reminder.concept_id,
            bank=self._new_bank(),
            score=check_number("score", reminder.score, least=0, most=1),
            first_seen_s=seen_s,
            last_seen_s=seen_s,
            last_matched_s=seen_s,
            last_conditioned_s=seen_s,
            place=Place(x=x, y=y, time_s=seen_s),
            is_sought=True,
        )

    def _tokens(self, name: str) -> TextFeatures | None:
        """Return the prompt tokens of a name, if they were saved."""
        arrays = self._memory.arrays
        if f"{name}/tokens" not in arrays:
            return None
        tokens, is_valid = arrays[f"{name}/tokens"], arrays.get(f"{name}/is_valid")
        length = tokens.shape[1] if tokens.ndim > 1 else 0
        if is_valid is None or is_valid.dtype != np.bool_ or is_valid.shape != (1, length):
            raise SavedStateError(
                f"saved tracker: {name}/is_valid does not go with tokens of shape {tokens.shape} "
                f"(accepted: bool, shape (1, {length}))"
            )
        try:
            read = self._tensor(f"{name}/tokens", (1, length, self._layout.prompt_dim))
        except ValueError as error:
            raise SavedStateError(f"saved tracker: {error}") from error
        return TextFeatures(
            tokens=read, is_valid=torch.from_numpy(is_valid.copy()).to(self._device)
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a saved tensor. Raises ``ValueError`` if it is another or no number."""
        array = self._memory.arrays[name]
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(
                f"{name} is of type {array.dtype} and shape {array.shape} "
                f"(accepted: float32, {shape})"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite (accepted: finite numbers)")
        # A copy: the arrays may be views of a file.
        return torch.from_numpy(array.copy()).to(self._device, self._dtype)

    def _or_note(self, number: int, read: Callable[[], _T]) -> _T | None:
        """Return what is read of a masklet; ``None``, and a note of why, if that fails."""
        try:
            return read()
        except ValueError as error:
            self._problems.append(f"saved tracker: masklet {number}: {error}")
            return None


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype != np.uint8:
        raise SavedStateError(
            f"saved tracker: a view is of type {pixels.dtype} and shape {pixels.shape} "
            "(accepted: uint8, (H, W, 3))"
        )
    return pixels


def _seen_in(view: View, masklet: Masklet, size: int) -> Tensor:
    """Return a masklet's mask in a view as (size, size), 0 or 1, by its nearest pixels."""
    mask = view.masks[masklet.masklet_id]
    if mask.is_empty:
        raise ValueError("its mask is empty (accepted: at least one pixel)")
    # Of any size: the picture is stretched to a square, and so are they.
    height, width = mask.size_hw
    rows = (np.arange(size) * height // size).clip(max=height - 1)
    columns = (np.arange(size) * width // size).clip(max=width - 1)
    return torch.from_numpy(mask.full()[rows[:, None], columns[None]].astype(np.float32))
