"""Checkpoints into modules: only safe formats, every key accounted for."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

MAX_NAMED = 5
FORMAT_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


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
    state: Mapping[str, Tensor],
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    on_written: Callable[[str], None] | None = None,
) -> None:
    """Write weights whole or not at all: a kill half-way leaves the former file.

    Tensors are asked for one after the other, so a mapping that makes them when asked never holds
    all of them in memory.

    Args:
        state: Name to tensor.
        path: The file.
        metadata: What the file is to say of itself.
        dtype: Type to write floats in; their own when left out.
        on_written: Called with a tensor's name when it is written.

    Raises:
        ValueError: If a tensor has a type that the format lacks.
    """
    header: dict[str, dict[str, object]] = {}
    if metadata:
        header["__metadata__"] = dict(metadata)
    end = 0
    kinds = {name: _kind_to_write(name, value, dtype) for name, value in state.items()}
    # As the format's own library orders them: widest type first, so that all are aligned.
    names = sorted(kinds, key=lambda name: (-kinds[name].itemsize, name))
    for name in names:
        start, end = end, end + state[name].numel() * kinds[name].itemsize
        header[name] = {
            "dtype": FORMAT_NAMES[kinds[name]],
            "shape": list(state[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                value = state[name].detach().to("cpu", kinds[name]).contiguous()
                file.write(value.reshape(-1).view(torch.uint8).numpy().data)
                del value
                if on_written is not None:
                    on_written(name)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _kind_to_write(name: str, value: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
    if kind not in FORMAT_NAMES:
        raise ValueError(
            f"{name!r} is {str(kind).removeprefix('torch.')}, which safetensors cannot hold; "
            f"accepted: {', '.join(FORMAT_NAMES.values())}"
        )
    return kind


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
