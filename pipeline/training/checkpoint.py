"""Checkpoints of a training run: written whole or not at all, so a kill leaves a whole one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.weights import read_safetensors, write_safetensors

STATE_FILE, EMA_FILE = "state.pt", "ema.safetensors"


class MovingAverage:
    """Exponential moving average of a model's parameters; it is what gets evaluated and shipped."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Blend in the module's present parameters; young averages forget faster."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """All that a resumed run needs."""

    module: nn.Module
    optimiser: Optimizer
    average: MovingAverage
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the run's state, replacing the former one atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "history": self.history,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "average_updates": self.average.num_updates,
        }
        _replace(folder / STATE_FILE, lambda path: torch.save(state, path))
        write_safetensors(self.average.values, folder / EMA_FILE)

    def resume(self, folder: Path) -> bool:
        """Go on from a folder's state; false if it has none."""
        path = folder / STATE_FILE
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True, mmap=True)
        self.step, self.history = state["step"], state["history"]
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.values = {name: value.clone() for name, value in state["average"].items()}
        self.average.num_updates = state["average_updates"]
        return True


def load_average(folder: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a run."""
    return read_safetensors(folder / EMA_FILE)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    write(partial)
    partial.replace(path)
