"""The kinds of perceptron that the family uses."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


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

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        for number, (a, b) in enumerate(pairwise(dims), start=1):
            self.add_module(f"layer{number}", nn.Linear(a, b))

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
    """

    def __init__(
        self,
        dim_in: int,
        dim_hidden: int,
        dim_out: int,
        depth: int,
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.proj_in = nn.Linear(dim_in, dim_hidden)
        self.layers = nn.ModuleList(nn.Linear(dim_hidden, dim_hidden) for _ in range(depth - 2))
        self.proj_out = nn.Linear(dim_hidden, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.proj_in(x))
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.proj_out(x)
