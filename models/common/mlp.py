"""The kinds of perceptron that the family uses."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class RowLinear(nn.Linear):
    """Linear layer for few rows, one an object or a phrase: a row does not depend on the others.

    A CPU's product chooses its kernel by the number of rows, so that the last bits of each change
    with it; of 1 to 3 rows and of 8 they differ. Here each row is a product of its own: 15 us for
    3 rows of 64 channels in place of 6.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Map (…, C) to (…, D)."""
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        rows = input.flatten(0, -2)[:, None]
        mapped = torch.baddbmm(self.bias, rows, self.weight.t().expand(rows.shape[0], -1, -1))
        return mapped.view(*input.shape[:-1], -1)


class FeedForward(nn.Module):
    """Linear, activation, linear: the second half of a transformer block."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.activation = activation()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (…, C) to (…, C)."""
        return self.fc2(self.activation(self.fc1(x)))


class NumberedMLP(nn.Module):
    """ReLU perceptron whose layers are named ``layer1`` … ``layerN``, as SAM 3's checkpoints do."""

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        num_layers: int,
        *,
        linear: type[nn.Linear] = nn.Linear,
    ) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        for number, (a, b) in enumerate(pairwise(dims), start=1):
            self.add_module(f"layer{number}", linear(a, b))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_dim) to (…, out_dim)."""
        last = len(self._modules) - 1
        for index, layer in enumerate(self.children()):
            x = layer(x) if index == last else F.relu(layer(x))
        return x


class StackedMLP(nn.Module):
    """Linear layers with an activation between them.

    Args:
        dim_in: Channels in.
        dim_hidden: Channels of every hidden layer.
        dim_out: Channels out.
        depth: Number of linear layers, at least 2.
        activation: Between them; ReLU when left out.
        linear: Kind of the layers.
    """

    def __init__(
        self,
        dim_in: int,
        dim_hidden: int,
        dim_out: int,
        depth: int,
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        linear: type[nn.Linear] = nn.Linear,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.proj_in = linear(dim_in, dim_hidden)
        self.layers = nn.ModuleList(linear(dim_hidden, dim_hidden) for _ in range(depth - 2))
        self.proj_out = linear(dim_hidden, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.proj_in(x))
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.proj_out(x)
