"""Checkpoints into modules: only safe formats, every key accounted for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MAX_NAMED = 5


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, keys and what was expected."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises :class:`CheckpointError` if it is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {str(path)!r}; expected a .safetensors file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {str(path)!r}: {error}; expected safetensors"
        ) from error


def write_safetensors(
    state: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights whole or not at all: a kill half-way leaves the former file."""
    partial = path.with_suffix(path.suffix + ".partial")
    save_file(
        {name: value.contiguous() for name, value in state.items()}, partial, dict(metadata or {})
    )
    partial.replace(path)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights of which every key must fit.

    Args:
        module: Receives the weights.
        state: Key to tensor.
        source: What to call the checkpoint in messages.

    Raises:
        CheckpointError: Names missing, unexpected and misshapen keys.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    faults = describe_faults(
        missing=wanted.keys() - state.keys(),
        unexpected=state.keys() - wanted.keys(),
        misshapen=[
            f"{name} is {tuple(state[name].shape)}, expected {shape}"
            for name, shape in wanted.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    )
    if faults:
        raise CheckpointError(
            f"checkpoint {source!r} does not fit {type(module).__name__}: {'; '.join(faults)}"
        )
    module.load_state_dict(dict(state), assign=True)


def describe_faults(**kinds: Iterable[str]) -> list[str]:
    """Say what does not fit, by kind: how many there are, and the first of them by name."""
    told: list[str] = []
    for kind, unsorted in kinds.items():
        names = sorted(set(unsorted))
        if names:
            more = f" (+{len(names) - MAX_NAMED} more)" if len(names) > MAX_NAMED else ""
            listed = ", ".join(names[:MAX_NAMED])
            told.append(f"{len(names)} {kind.replace('_', ' ')}: {listed}{more}")
    return told
