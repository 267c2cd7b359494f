"""What moves the parameters: AdamW, or Muon for the hidden matrices and AdamW for the rest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from pipeline.errors import ConfigError
from pipeline.lab.training.recipe import OptimiserName

# Ends of the names of what is no weight of a layer: embeddings, tokens, and low-rank changes.
UNDECAYED = (
    *("embed", "embedding", "embeddings", "embedding_parameter", "positional_encoding"),
    *("token", "tokens", "pointer", "lora_down", "lora_up"),
)
# Turning a matrix's step into a rotation gains nothing where a side is as thin as a head's output.
LEAST_SIDE = 32
FIRST_RATE = 1e-3
# AdamW moves every weight by about the learning rate. Where a whole region becomes one vector the
# moves add up (Yang et al., 2021), and what it shows drowns what is added to it: of kernels larger
# than 3 x 3 the rate falls with the inputs of each output, beyond so many times the outputs.
MOST_CELLS = 9


@dataclass(frozen=True, slots=True)
class Optimisers:
    """Optimisers that share the parameters between them and step as one."""

    parts: tuple[Optimizer, ...]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all parameters."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group.get("rate_share", 1.0)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for part in self.parts:
            part.step()

    def state_of(self, parameter: Parameter) -> dict[str, Tensor]:
        """Return what is remembered of a parameter, to read or to fill; by name.

        Raises:
            KeyError: If no part moves it.
        """
        return self._part_of(parameter).state[parameter]

    def fits(self, parameter: Parameter, remembered: Collection[str]) -> bool:
        """Return whether what was remembered of a parameter is what its optimiser remembers."""
        is_muon = not isinstance(self._part_of(parameter), torch.optim.AdamW)
        return ("momentum_buffer" in remembered) == is_muon

    def _part_of(self, parameter: Parameter) -> Optimizer:
        for part in self.parts:
            if any(parameter is own for group in part.param_groups for own in group["params"]):
                return part
        raise KeyError(f"a parameter of shape {tuple(parameter.shape)} that no optimiser moves")


def build_optimisers(
    learned: Mapping[str, Parameter], kind: OptimiserName, *, weight_decay: float
) -> Optimisers:
    """Return what moves the parameters.

    Muon (Jordan et al., 2024) makes the step of a matrix orthogonal, so that directions with small
    gradients are learned as fast as those with large ones. Its steps are scaled to the size of
    AdamW's (Liu et al., 2025, section 2.2), so that one learning rate serves both.

    Args:
        learned: Parameters by name.
        kind: Which optimiser.
        weight_decay: Of the matrices; embeddings, tokens, biases and norms are not decayed.

    Raises:
        ConfigError: If this torch has no Muon.
    """
    hidden = {n for n, p in learned.items() if kind == "muon" and _is_hidden(n, p)}
    decayed = {n for n, p in learned.items() if p.ndim > 1 and not _is_undecayed(n)} - hidden
    plain = [n for n in learned if n not in decayed | hidden]
    groups = [{"params": [learned[n] for n in plain], "weight_decay": 0.0}]
    for share in sorted({_rate_share(learned[n]) for n in decayed}):
        own = [p for n, p in learned.items() if n in decayed and _rate_share(p) == share]
        groups.append({"params": own, "weight_decay": weight_decay, "rate_share": share})
    adam = torch.optim.AdamW(groups, lr=FIRST_RATE, betas=(0.9, 0.98))
    if not hidden:
        return Optimisers((adam,))
    check_optimiser(kind)
    muon = torch.optim.Muon(
        [learned[n] for n in learned if n in hidden],
        lr=FIRST_RATE,
        weight_decay=weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return Optimisers((adam, muon))


def check_optimiser(kind: OptimiserName) -> None:
    """Refuse an optimiser that this torch does not have.

    Raises:
        ConfigError: If it is missing.
    """
    if kind == "muon" and not hasattr(torch.optim, "Muon"):
        told = f"optimiser: 'muon' needs torch 2.9 or later, here is {torch.__version__}"
        raise ConfigError([f"{told} (accepted: adamw)"])


def _rate_share(parameter: Parameter) -> float:
    if parameter.ndim < 4 or len(parameter) == 1 or parameter[0, 0].numel() <= MOST_CELLS:
        return 1.0
    return min(1.0, MOST_CELLS * parameter.shape[0] / parameter[0].numel())


def _is_undecayed(name: str) -> bool:
    own = name.removesuffix(".weight").rpartition(".")[2]
    return own.endswith(UNDECAYED) or own.startswith("no_")


def _is_hidden(name: str, parameter: Parameter) -> bool:
    is_matrix = parameter.ndim == 2 and min(parameter.shape) >= LEAST_SIDE
    return is_matrix and not _is_undecayed(name)
