"""A stream outside its session: what is saved of it, and how it goes on from that.

Numbers and small tensors are enough to know every object again: its memory is rebuilt by the memory
encoder from one picture on which it was seen (SAM 2, section 4). With all tensors what follows is
equal to the bit.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from models.protocols import Reminder, SavedStateError, StreamMemory, View
from models.sam2.memory_bank import MemoryBank
from models.sam3.masks import to_images
from models.sam3.network.model import Sam3
from models.sam3.network.text import TextFeatures
from models.sam3.tracking.masklet import CHOSEN, Masklet, Place
from models.sam3.tracking.stream import Stream

_VERSION = 1
_Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLayout:
    """What the tensors of two models have in common if they are each other's.

    Attributes:
        hidden_dim: Channels of a pointer.
        memory_dim: Channels of a map.
        grid: Tokens along a side of the picture.
    """

    hidden_dim: int
    memory_dim: int
    grid: int

    @classmethod
    def of(cls, model: Sam3) -> "TensorLayout":
        """Return the layout of a model."""
        tracker = model.config.tracker
        return cls(
            hidden_dim=tracker.hidden_dim,
            memory_dim=tracker.memory_dim,
            grid=tracker.image_size // tracker.patch_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMasklet:
    """A :class:`Masklet` but for its tensors; ``concept_id`` is ``None`` for a chosen object."""

    masklet_id: int
    concept_id: str | None
    label: str
    score: float
    first_seen_s: float
    last_seen_s: float
    last_matched_s: float
    last_conditioned_s: float
    last_occluded_s: float
    unmatched_s: float
    place: Place | None
    shared_s: dict[int, float]
    good: tuple[int, ...]
    newest: int

    @classmethod
    def of(cls, stream: Stream, masklet: Masklet) -> "SavedMasklet":
        """Return what is saved of a masklet of a stream."""
        is_chosen = masklet.concept == CHOSEN
        return cls(
            masklet_id=masklet.masklet_id,
            concept_id=None if is_chosen else stream.concepts[masklet.concept].concept_id,
            label=masklet.label,
            score=masklet.score,
            first_seen_s=masklet.first_seen_s,
            last_seen_s=masklet.last_seen_s,
            last_matched_s=masklet.last_matched_s,
            last_conditioned_s=masklet.last_conditioned_s,
            last_occluded_s=masklet.last_occluded_s,
            unmatched_s=masklet.unmatched_s,
            place=masklet.place,
            shared_s=dict(masklet.shared_s),
            good=masklet.bank.good,
            newest=masklet.bank.newest,
        )

    def to_masklet(self, concept: int, bank: MemoryBank) -> Masklet:
        """Return the masklet, of a concept by its place in its stream, with what it remembers."""
        return Masklet(
            masklet_id=self.masklet_id,
            concept=concept,
            bank=bank,
            label=self.label,
            score=self.score,
            first_seen_s=self.first_seen_s,
            last_seen_s=self.last_seen_s,
            last_matched_s=self.last_matched_s,
            last_conditioned_s=self.last_conditioned_s,
            last_occluded_s=self.last_occluded_s,
            unmatched_s=self.unmatched_s,
            place=self.place,
            shared_s=dict(self.shared_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNumbers:
    """A :class:`Stream` but for its tensors."""

    version: int
    layout: TensorLayout
    next_id: int
    frame_index: int
    time_s: float
    presence: dict[str, float]
    masklets: tuple[SavedMasklet, ...]

    @classmethod
    def read(cls, text: str, layout: TensorLayout) -> "SavedNumbers":
        """Return the numbers in a text.

        Raises:
            SavedStateError: If they are of another version or layout, or damaged.
        """
        try:
            numbers = _NUMBERS.validate_python(json.loads(text))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SavedStateError(f"saved tracker: {field}: {first['msg']}") from error
        except ValueError as error:
            raise SavedStateError(f"saved tracker: is not JSON: {error}") from error
        if (numbers.version, numbers.layout) != (_VERSION, layout):
            raise SavedStateError(
                f"saved tracker: is of version {numbers.version} and {numbers.layout} "
                f"(accepted: version {_VERSION} and {layout})"
            )
        return numbers


_NUMBERS = TypeAdapter(SavedNumbers)


class SavedSam3Stream:
    """See :class:`models.protocols.SavedStream`.

    Args:
        stream: A draft that nobody changes.
        layout: Of the model.
    """

    def __init__(self, stream: Stream, layout: TensorLayout) -> None:
        self._stream = stream
        self._layout = layout

    @property
    def next_masklet_id(self) -> int:
        """The stream has no number from here on."""
        return self._stream.next_id

    def numbers(self) -> str:
        """Return all but tensors."""
        stream = self._stream
        numbers = SavedNumbers(
            version=_VERSION,
            layout=self._layout,
            next_id=stream.next_id,
            frame_index=stream.frame_index,
            time_s=stream.time_s,
            presence={one.concept_id: one.presence for one in stream.concepts},
            masklets=tuple(SavedMasklet.of(stream, masklet) for masklet in stream.masklets),
        )
        # Python's JSON knows infinity: the time before the first frame.
        return json.dumps(asdict(numbers))

    def arrays(self, *, is_full: bool) -> dict[str, NDArray[np.generic]]:
        """Return tensors by name."""
        found: dict[str, Tensor] = {}
        for masklet in self._stream.masklets:
            pointer = masklet.bank.newest_pointer
            if is_full:
                name = f"memory/{masklet.masklet_id}/"
                found |= {name + key: value for key, value in masklet.bank.tensors().items()}
            elif pointer is not None:
                found[f"newest-pointer/{masklet.masklet_id}"] = pointer
        for concept in self._stream.concepts:
            for kind, tokens in (("kept", concept.kept), ("shown", concept.shown)):
                if tokens is not None:
                    found[f"{kind}/{concept.concept_id}/tokens"] = tokens.tokens
                    found[f"{kind}/{concept.concept_id}/is_valid"] = tokens.is_valid
        return {name: _to_array(tensor) for name, tensor in found.items()}


class Restorer:
    """Lets streams go on from what was saved.

    Args:
        model: Whose tensors they are; encodes views.
        num_maps: Length of the spatial memory.
    """

    def __init__(self, model: Sam3, *, num_maps: int) -> None:
        self._model = model
        self._num_maps = num_maps
        self._layout = TensorLayout.of(model)
        parameter = next(model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    def restore(self, stream: Stream, memory: StreamMemory) -> None:
        """Let a stream that was opened a moment ago go on from what is known of it.

        Raises:
            SavedStateError: If that does not fit; the stream is of no use then.
        """
        numbers = SavedNumbers.read(memory.numbers, self._layout)
        stream.next_id, stream.frame_index = numbers.next_id, numbers.frame_index
        stream.time_s = numbers.time_s
        places: dict[str | None, int] = {None: CHOSEN}
        for place, concept in enumerate(stream.concepts):
            places[concept.concept_id] = place
            concept.presence = numbers.presence.get(concept.concept_id, 0.0)
            concept.kept = self._tokens(f"kept/{concept.concept_id}", memory.arrays)
            concept.shown = self._tokens(f"shown/{concept.concept_id}", memory.arrays)
        stream.masklets = [
            saved.to_masklet(places[saved.concept_id], self._bank(saved, memory.arrays))
            for saved in numbers.masklets
            if saved.concept_id in places and saved.masklet_id not in memory.forgotten
        ]
        stream.is_resumed = memory.has_gap
        for view in memory.views:
            self._encode(stream, view, memory.arrays)
        for reminder in memory.reminders:
            if reminder.concept_id in places:
                stream.masklets.append(self._remind(reminder, places[reminder.concept_id]))
                stream.next_id = max(stream.next_id, reminder.masklet_id + 1)

    def _new_bank(self) -> MemoryBank:
        return MemoryBank(self._model.config.tracker, num_maps=self._num_maps)

    def _bank(self, saved: SavedMasklet, arrays: _Arrays) -> MemoryBank:
        """Return what a masklet remembers; empty if that was not saved."""
        bank, prefix = self._new_bank(), f"memory/{saved.masklet_id}/"
        names = [name for name in arrays if name.startswith(prefix)]
        if not names:
            return bank
        side, layout = self._layout.grid, self._layout
        tensors: dict[str, Tensor] = {}
        for name in names:
            is_map = "map/" in name
            shape = (layout.memory_dim, side, side) if is_map else (layout.hidden_dim,)
            tensors[name.removeprefix(prefix)] = self._tensor(name, arrays, shape)
        try:
            bank.load(tensors, good=saved.good, newest=saved.newest)
        except ValueError as error:
            raise SavedStateError(f"saved tracker: masklet {saved.masklet_id}: {error}") from error
        return bank

    def _encode(self, stream: Stream, view: View, arrays: _Arrays) -> None:
        """Write a view into the memories of its masklets that have none."""
        masklets = [
            masklet
            for masklet in stream.masklets
            if masklet.is_reminder and masklet.masklet_id in view.masks
        ]
        if not masklets:
            return
        tracker, size = self._model.tracker_model, self._model.config.vision.image_size
        features = self._model.encode_pixels(to_images(view.pixels, self._device))
        frame = torch.zeros(len(masklets), dtype=torch.int64, device=self._device)
        # Of any size: the picture is stretched to a square, and so are they.
        given = torch.stack(
            [_square(view.masks[one.masklet_id].full(), size) for one in masklets]
        ).to(self._device)
        begun = tracker.condition_on_mask(features, frame, given[:, None])
        spatial = tracker.encode_memory(
            features,
            frame,
            begun.mask_logits,
            begun.object_score_logits,
            binarize=torch.ones_like(frame, dtype=torch.bool),
        )
        for k, masklet in enumerate(masklets):
            name = f"newest-pointer/{masklet.masklet_id}"
            pointer = begun.pointer[k]
            if name in arrays:
                shape = (self._layout.hidden_dim,)
                pointer = self._tensor(name, arrays, shape).to(pointer.dtype)
            masklet.bank.write_conditioning(max(stream.frame_index, 0), spatial[k], pointer)

    def _remind(self, reminder: Reminder, concept: int) -> Masklet:
        x, y = reminder.centre_xy
        seen_s = reminder.last_seen_s
        return Masklet(
            masklet_id=reminder.masklet_id,
            concept=concept,
            bank=self._new_bank(),
            score=reminder.score,
            first_seen_s=seen_s,
            last_seen_s=seen_s,
            last_matched_s=seen_s,
            last_conditioned_s=seen_s,
            place=Place(x=x, y=y, time_s=seen_s),
        )

    def _tokens(self, name: str, arrays: _Arrays) -> TextFeatures | None:
        if f"{name}/tokens" not in arrays:
            return None
        tokens = self._tensor(f"{name}/tokens", arrays, None)
        if f"{name}/is_valid" not in arrays or tokens.dim() != 3:
            raise SavedStateError(f"saved tracker: {name} is not whole")
        return TextFeatures(
            tokens=tokens,
            is_valid=torch.from_numpy(arrays[f"{name}/is_valid"].copy()).to(self._device),
        )

    def _tensor(self, name: str, arrays: _Arrays, shape: tuple[int, ...] | None) -> Tensor:
        array = arrays[name]
        if shape is not None and array.shape != shape:
            raise SavedStateError(
                f"saved tracker: {name} is of shape {array.shape} (accepted: {shape})"
            )
        # A copy: the arrays may be views of a file.
        return torch.from_numpy(array.copy()).to(self._device, self._dtype)


def _to_array(tensor: Tensor) -> NDArray[np.generic]:
    # numpy has no bfloat16; as float32 nothing of it is lost.
    wide = tensor.float() if tensor.is_floating_point() else tensor
    return wide.numpy(force=True)


def _square(mask: NDArray[np.bool_], size: int) -> Tensor:
    """Return a mask (H, W) as (size, size), 0 or 1, by its nearest pixels."""
    height, width = mask.shape
    rows = (np.arange(size) * height // size).clip(max=height - 1)
    columns = (np.arange(size) * width // size).clip(max=width - 1)
    return torch.from_numpy(mask[rows[:, None], columns[None]].astype(np.float32))
