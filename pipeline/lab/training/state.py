"""State of a training run: written whole or not at all, whatever kills it or fills the disk.

Two files, both safetensors: ``state.safetensors`` to go on from, and ``model.safetensors``, the
averaged weights under the model's own names, to use.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from models.checkpoints.weights import read_safetensors, write_safetensors
from models.sam3.network.model import Sam3
from models.training.lora import merged_state
from pipeline.errors import ConfigError
from pipeline.lab.training.optimisers import Optimisers

STATE_FILE, MODEL_FILE = "state.safetensors", "model.safetensors"
_MODEL, _AVERAGE, _OPTIMISER = "model:", "average:", "optimiser:"


class MovingAverage:
    """Exponential moving average of parameters; it is what gets evaluated and shipped."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter]) -> None:
        """Blend in the present parameters; young averages forget faster."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, value in parameters.items():
            self.values[name].lerp_(value, 1 - decay)


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """All that a resumed run needs.

    Attributes:
        model: The whole model, with low-rank changes if there are any.
        learned: The parameters that learn at present, by name.
        optimisers: Of those.
        average: Of those.
        step: Steps done.
        phase: First stage of the stretch of stages that share the learned parameters.
        scale: Scale of the loss, for fp16.
        calm_steps: Steps since that scale was last changed.
    """

    model: Sam3
    learned: dict[str, nn.Parameter]
    optimisers: Optimisers
    average: MovingAverage
    step: int = 0
    phase: int = 0
    scale: float = 1.0
    calm_steps: int = 0

    def averaged(self) -> dict[str, Tensor]:
        """Return the model's weights with the averages in place of what learns."""
        return merged_state(dict(self.model.state_dict()) | self.average.values)

    def save(self, folder: Path, notes: Mapping[str, str]) -> None:
        """Write the run's state and its model, replacing the former ones atomically.

        Args:
            folder: Where to.
            notes: What the weights say of themselves.

        Raises:
            OSError: If they cannot be written; the former ones are still there then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {_MODEL + name: value for name, value in self.model.state_dict().items()}
        tensors |= {_AVERAGE + name: value for name, value in self.average.values.items()}
        for name, parameter in self.learned.items():
            for key, value in self.optimisers.state_of(parameter).items():
                tensors[f"{_OPTIMISER}{key}:{name}"] = value
        numbers = {
            "step": self.step,
            "phase": self.phase,
            "scale": self.scale,
            "calm_steps": self.calm_steps,
            "average_updates": self.average.num_updates,
        }
        # The state last: a run that ends between the two does its last steps again, and a state
        # that says that all is done has its weights beside it.
        write_safetensors(self.averaged(), folder / MODEL_FILE, metadata=notes)
        write_safetensors(tensors, folder / STATE_FILE, metadata={"numbers": json.dumps(numbers)})

    def resume(self, folder: Path) -> None:
        """Go on from a folder's state, which must be of the same phase; see :func:`saved_phase`."""
        tensors = read_safetensors(folder / STATE_FILE)
        saved = {name: value.shape for name, value in _part(tensors, _MODEL).items()}
        own = {name: value.shape for name, value in self.model.state_dict().items()}
        if saved != own or _part(tensors, _AVERAGE).keys() != self.average.values.keys():
            raise of_another_recipe(folder)
        with safe_open(folder / STATE_FILE, framework="pt") as file:
            numbers = json.loads(file.metadata()["numbers"])
        self.step, self.phase, self.scale = numbers["step"], numbers["phase"], numbers["scale"]
        self.calm_steps = numbers.get("calm_steps", 0)
        self.average.num_updates = numbers["average_updates"]
        self.model.load_state_dict(_part(tensors, _MODEL))
        for name, value in _part(tensors, _AVERAGE).items():
            self.average.values[name].copy_(value)
        remembered: dict[str, set[str]] = defaultdict(set)
        for key in _part(tensors, _OPTIMISER):
            kind, _, name = key.partition(":")
            remembered[name].add(kind)
        if not all(self.optimisers.fits(self.learned[n], kinds) for n, kinds in remembered.items()):
            raise of_another_recipe(folder)
        for key, value in _part(tensors, _OPTIMISER).items():
            kind, _, name = key.partition(":")
            parameter = self.learned[name]
            place = "cpu" if kind == "step" else parameter.device
            self.optimisers.state_of(parameter)[kind] = value.to(place, copy=True)


def of_another_recipe(folder: Path) -> ConfigError:
    """Return the error that a folder's state does not go with the recipe."""
    accepted = "a recipe with the same model, parameters to learn and optimiser, or another folder"
    told = f"--out: {str(folder)!r} holds the state of another recipe (accepted: {accepted})"
    return ConfigError([told])


def saved_phase(folder: Path) -> int | None:
    """Return the phase that a folder's state is in, ``None`` if there is no state."""
    if not (folder / STATE_FILE).is_file():
        return None
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        return int(json.loads(file.metadata()["numbers"])["phase"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
