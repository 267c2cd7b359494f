"""A stream outside its session: what is saved of it.

Numbers and small tensors are enough to know every object again: its memory is rebuilt by the memory
encoder from one picture on which it was seen (SAM 2, section 4). With all tensors what follows is
equal to the bit. :mod:`models.sam3.tracking.restoring` is the way back.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from models.common.checks import check_integer, check_number
from models.protocols import SavedStateError
from models.sam3.network.config import Sam3Config
from models.sam3.prompts import Exemplar, check_exemplars
from models.sam3.tracking.masklet import Masklet, MaskletFacts
from models.sam3.tracking.stream import SearchedConcept, Stream

_VERSION = 2
_MOST = 2**53  # what counts frames and numbers objects is exact as a float up to here


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLayout:
    """What the tensors of two models have in common if they are each other's.

    Attributes:
        hidden_dim: Channels of a pointer.
        memory_dim: Channels of a map.
        grid: Tokens along a side of the picture.
        prompt_dim: Channels of a prompt token.
    """

    hidden_dim: int
    memory_dim: int
    grid: int
    prompt_dim: int

    @classmethod
    def of(cls, network: Sam3Config) -> "TensorLayout":
        """Return the layout of a model."""
        tracker = network.tracker
        return cls(
            hidden_dim=tracker.hidden_dim,
            memory_dim=tracker.memory_dim,
            grid=tracker.image_size // tracker.patch_size,
            prompt_dim=network.detector.dim,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMasklet:
    """A :class:`Masklet` but for its tensors.

    Attributes:
        facts: What is known of it.
        concept_id: Its concept; ``None`` for a chosen object.
        good: See :attr:`models.sam2.memory_bank.MemoryBank.good`.
        newest: See :attr:`models.sam2.memory_bank.MemoryBank.newest`.
    """

    facts: MaskletFacts
    concept_id: str | None
    good: tuple[int, ...]
    newest: int

    @classmethod
    def of(cls, masklet: Masklet) -> "SavedMasklet":
        """Return what is saved of a masklet."""
        return cls(
            facts=masklet,
            concept_id=masklet.concept_id,
            good=masklet.bank.good,
            newest=masklet.bank.newest,
        )

    def check(self, numbers: "SavedNumbers") -> None:
        """Raise ``ValueError`` if no stream with such numbers has such a masklet."""
        facts = self.facts
        check_integer("masklet_id", facts.masklet_id, least=1, most=numbers.next_id - 1)
        check_number("score", facts.score, least=0, most=1)
        for name in ("first_seen_s", "last_seen_s", "last_matched_s", "last_conditioned_s"):
            check_number(name, getattr(facts, name))
        if facts.last_occluded_s != -math.inf:
            check_number("last_occluded_s", facts.last_occluded_s)
        for name, value in (("unmatched_s", facts.unmatched_s), *_named("shared_s", facts)):
            check_number(name, value, least=0)
        if facts.place is not None:
            for name in ("x", "y", "time_s", "speed_x", "speed_y"):
                check_number(f"place.{name}", getattr(facts.place, name))
        check_integer("newest", self.newest, least=-1, most=numbers.frame_index)
        if any(a >= b for a, b in pairwise((-1, *self.good, self.newest + 1))):
            raise ValueError(
                f"good is {self.good!r}; accepted: growing from 0 to newest, {self.newest}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedConcept:
    """A :class:`SearchedConcept` but for its tensors, and for what it was opened with."""

    presence: float
    pending: tuple[Exemplar, ...]

    @classmethod
    def of(cls, concept: SearchedConcept) -> "SavedConcept":
        """Return what is saved of a concept."""
        return cls(presence=concept.presence, pending=concept.pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNumbers:
    """A :class:`Stream` but for its tensors; concepts by their names that are safe in keys."""

    # JSON as Python writes it: the time before the first frame is minus infinity.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        ser_json_inf_nan="constants", strict=True
    )

    version: int
    layout: TensorLayout
    next_id: int
    frame_index: int
    time_s: float
    concepts: dict[str, SavedConcept]
    masklets: tuple[SavedMasklet, ...]

    @classmethod
    def of(cls, stream: Stream, layout: TensorLayout) -> "SavedNumbers":
        """Return what is saved of a stream of a model with this layout."""
        return cls(
            version=_VERSION,
            layout=layout,
            next_id=stream.next_id,
            frame_index=stream.frame_index,
            time_s=stream.time_s,
            concepts={one.concept_id: SavedConcept.of(one) for one in stream.concepts},
            masklets=tuple(SavedMasklet.of(masklet) for masklet in stream.masklets),
        )

    @classmethod
    def read(cls, text: str, layout: TensorLayout, *, takes_points: bool) -> "SavedNumbers":
        """Return the numbers in a text.

        Args:
            text: As :meth:`write` gave it.
            layout: Of the model.
            takes_points: Whether the model has weights for points as exemplars.

        Raises:
            SavedStateError: If they are of another version or layout, or of no stream there is.
        """
        try:
            numbers = _NUMBERS.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SavedStateError(f"saved tracker: {field or 'text'}: {first['msg']}") from error
        if (numbers.version, numbers.layout) != (_VERSION, layout):
            raise SavedStateError(
                f"saved tracker: is of version {numbers.version} and {numbers.layout} "
                f"(accepted: version {_VERSION} and {layout})"
            )
        try:
            numbers.check(takes_points=takes_points)
        except ValueError as error:
            raise SavedStateError(f"saved tracker: {error}") from error
        return numbers

    def write(self) -> str:
        """Return the numbers as text."""
        return _NUMBERS.dump_json(self).decode()

    def check(self, *, takes_points: bool) -> None:
        """Raise ``ValueError`` if there is no such stream."""
        check_integer("next_id", self.next_id, least=1, most=_MOST)
        check_integer("frame_index", self.frame_index, least=-1, most=_MOST)
        if self.time_s != -math.inf:
            check_number("time_s", self.time_s)
        for name, concept in self.concepts.items():
            check_number(f"concepts.{name}.presence", concept.presence, least=0, most=1)
            check_exemplars(concept.pending, takes_points=takes_points)
        seen: set[int] = set()
        for place, masklet in enumerate(self.masklets):
            number = masklet.facts.masklet_id
            try:
                masklet.check(self)
            except ValueError as error:
                raise ValueError(f"masklets.{place}: {error}") from error
            if number in seen:
                raise ValueError(f"masklets.{place}: masklet_id is {number} again; accepted: once")
            seen.add(number)


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
        return SavedNumbers.of(self._stream, self._layout).write()

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


def _named(name: str, facts: MaskletFacts) -> list[tuple[str, float]]:
    return [(f"{name}.{older}", value) for older, value in facts.shared_s.items()]


def _to_array(tensor: Tensor) -> NDArray[np.generic]:
    # numpy has no bfloat16; as float32 nothing of it is lost.
    wide = tensor.float() if tensor.is_floating_point() else tensor
    return wide.numpy(force=True)
