"""Low-rank changes of linear layers (LoRA, Hu et al., 2021): few parameters learn, then they merge.

A layer keeps its class's parameter names, so a model with changes still takes its own checkpoints.
"""

import math
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

DOWN, UP = "lora_down", "lora_up"


class LoraLinear(nn.Linear):
    """A frozen linear layer plus a product of two thin matrices, zero at first."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        """Wrap ``base``, whose weight and bias are shared; ``rank`` is at least 1."""
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight, self.bias = base.weight, base.bias
        like = base.weight
        self.lora_down = nn.Parameter(like.new_empty(rank, base.in_features))
        self.lora_up = nn.Parameter(like.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        return super().forward(input) + F.linear(F.linear(input, self.lora_down), self.lora_up)


def add_lora(model: nn.Module, names: Iterable[str], *, rank: int) -> list[str]:
    """Give the linear layers whose weights are named a low-rank change, in place.

    Args:
        model: Holds the layers.
        names: Names of parameters, as ``named_parameters`` gives them; others than the weights of
            linear layers are left alone.
        rank: Width of the change, at least 1.

    Returns:
        Names of the new parameters.

    Raises:
        ValueError: If ``rank`` is below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank!r}; accepted: at least 1")
    made: list[str] = []
    for name in list(names):
        owner, _, leaf = name.rpartition(".")
        if leaf != "weight":
            continue
        layer = model.get_submodule(owner)
        if type(layer) is not nn.Linear:
            continue
        above, _, place = owner.rpartition(".")
        setattr(model.get_submodule(above), place, LoraLinear(layer, rank))
        made += [f"{owner}.{DOWN}", f"{owner}.{UP}"]
    return made


def merged_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the changes added to the weights, under the model's own names."""
    merged = {name: value for name, value in state.items() if not name.endswith((DOWN, UP))}
    for name, down in state.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == DOWN:
            weight = f"{owner}.weight"
            merged[weight] = merged[weight] + state[f"{owner}.{UP}"] @ down
    return merged
