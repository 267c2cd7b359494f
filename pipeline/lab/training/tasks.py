"""What a stage can learn: each task draws its batches and says what is wrong with the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from pipeline.lab.training.recipe import Stage

T = TypeVar("T")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What a batch taught.

    Attributes:
        terms: Weighted terms of the loss; their sum is what to minimise.
        figures: Figures for people, such as accuracies.
    """

    terms: dict[str, Tensor]
    figures: dict[str, float]


class Task(Protocol[B]):
    """One kind of training; ``B`` is its batch, a dataclass of tensors."""

    @property
    def learns(self) -> tuple[str, ...]:
        """Beginnings of the names of the parameters that learn."""
        ...

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Set the starting weights of what it learns."""
        ...

    def draw(self, rng: np.random.Generator, stage: Stage) -> B:
        """Draw one batch, on the CPU; every choice comes from ``rng``."""
        ...

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: B, rng: np.random.Generator
    ) -> Losses:
        """Answer a batch and judge the answers."""
        ...


def learned_names(names: Sequence[str], stage: Stage, task: Task[B]) -> list[str]:
    """Return which of the parameters learn in a stage.

    Raises:
        ValueError: If it is none.
    """
    wanted = stage.train or task.learns
    chosen = [
        name
        for name in names
        if name.startswith(tuple(wanted)) and not name.startswith(tuple(stage.freeze) or ("\0",))
    ]
    if not chosen:
        raise ValueError(
            f"stage {stage.name!r} learns nothing: train {list(wanted)!r}, freeze "
            f"{list(stage.freeze)!r}; accepted: beginnings of parameter names"
        )
    return chosen


def move(batch: T, device: torch.device) -> T:
    """Move all tensors of a batch, a dataclass of tensors and dataclasses, to a device."""
    if isinstance(batch, Tensor):
        return cast("T", batch.to(device, non_blocking=True))
    if isinstance(batch, list):
        return cast("T", [move(item, device) for item in batch])
    if is_dataclass(batch) and not isinstance(batch, type):
        changes = {f.name: move(getattr(batch, f.name), device) for f in fields(batch)}
        return replace(batch, **changes)
    return batch
