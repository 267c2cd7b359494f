"""Opens checkpoint files of every kind that the family is published in, without running code.

Files are mapped into memory: nothing is read until a tensor is used, and what is used can be let go
again. A mapped file must not be rewritten in place while a model uses it; replacing it is harmless.
"""

import ctypes
import json
import mmap
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoints.weights import CheckpointError

ACCEPTED = "a .safetensors, .pt or .pth file, or a folder with one"
INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
# Outer names under which trainers keep the weights.
_WRAPPERS = ("model", "state_dict")
_ZIP, _PICKLE, _LFS = b"PK\x03\x04", b"\x80", b"version https://git-lfs"
_PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml")
_HEADER_OFFSET = 8
# The longest header that safetensors reads.
_MOST_HEADER_BYTES = 100_000_000
# How torch calls a class or function that weights have no need of.
_OBJECT_REFUSED = "unsupported global"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights as a file holds them.

    Attributes:
        path: As it was given.
        files: The files with weights, one or all shards.
        state: Name to tensor, on the CPU.
        metadata: What the file says of itself.
        is_mapped: Whether tensors are views of the mapped file, not copies in memory.
    """

    path: Path
    files: tuple[Path, ...]
    state: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    is_mapped: bool

    @property
    def folder(self) -> Path:
        """Where the files that belong to the weights lie."""
        return self.files[0].parent

    @property
    def num_bytes(self) -> int:
        """Size of the files on disk."""
        return sum(file.stat().st_size for file in self.files)

    def release(self, name: str) -> None:
        """Give back the memory of a tensor that was copied; it is read again if it is used again.

        Does nothing where the file is not mapped.
        """
        if not self.is_mapped:
            return
        tensor = self.state[name]
        # Pages at its ends are given back whole: what else is on them is read again, too.
        start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        end = -(-(tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        _madvise()(start, end - start, mmap.MADV_DONTNEED)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint, whatever its kind and name.

    Args:
        path: A safetensors file, a file of ``torch.save``, or a folder with one or with the shards
            that ``model.safetensors.index.json`` names.

    Raises:
        CheckpointError: If there is none, it is damaged, it is something else, or loading it would
            run code.
    """
    file = _find(path)
    if file.name.endswith(".index.json"):
        return _open_shards(path, file)
    with file.open("rb") as stream:
        head = stream.read(4096)
    # First: the length of the header, with which the file begins, may be any other kind's mark.
    if _is_safetensors(head):
        state, metadata = _read_safetensors(file)
        return _checkpoint(path, (file,), state, metadata)
    if head.startswith((_ZIP, _PICKLE)):
        return _open_torch(path, file, is_zip=head.startswith(_ZIP))
    raise CheckpointError(f"{str(file)!r} is {_guess(head)}; expected {ACCEPTED}")


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"no checkpoint at {str(path)!r}; expected {ACCEPTED}")
    for name in (INDEX_FILE, SINGLE_FILE):
        if (path / name).is_file():
            return path / name
    found = sorted(file for kind in ("*.safetensors", "*.pt", "*.pth") for file in path.glob(kind))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise CheckpointError(
        f"folder {str(path)!r} holds these checkpoints: {names}; expected one, or name the file"
    )


def _guess(head: bytes) -> str:
    if not head:
        return "empty"
    if head.startswith(_LFS):
        return "a Git LFS pointer, not the file it points to (git lfs pull fetches that)"
    if head.lstrip().lower().startswith(_PAGE_STARTS):
        return "a web page, not weights: the download was answered with a page, perhaps a login"
    return f"no checkpoint (it begins with {head[:8]!r})"


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return (
                {name: opened.get_tensor(name) for name in opened.keys()},  # noqa: SIM118
                dict(opened.metadata() or {}),
            )
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {str(file)!r}: {error}; expected a whole safetensors file"
        ) from error


def _open_shards(path: Path, index: Path) -> Checkpoint:
    try:
        shard_of = cast("dict[str, str]", json.loads(index.read_text())["weight_map"])
        names = sorted(set(shard_of.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(index)!r} is no index of shards ({error!r}); expected a 'weight_map'"
        ) from error
    state: dict[str, Tensor] = {}
    for name in names:
        shard = index.parent / name
        if Path(name).name != name or not shard.is_file():
            raise CheckpointError(
                f"{str(index)!r} names {name!r}; expected that file in the same folder"
            )
        state |= _read_safetensors(shard)[0]
    if state.keys() != shard_of.keys():
        odd = sorted(state.keys() ^ shard_of.keys())
        raise CheckpointError(
            f"{str(index)!r} and its shards disagree on {len(odd)} names: {', '.join(odd[:5])}; "
            "expected shards of one download"
        )
    files = tuple(index.parent / name for name in names)
    return _checkpoint(path, files, state, {})


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:_HEADER_OFFSET], "little")
    is_json = head[_HEADER_OFFSET : _HEADER_OFFSET + 1] == b"{"
    return is_json and length <= _MOST_HEADER_BYTES


def _open_torch(path: Path, file: Path, *, is_zip: bool) -> Checkpoint:
    """Open what ``torch.save`` wrote; before torch 1.6 it wrote what cannot be mapped."""
    # torch takes every file of that name for safetensors, unless it comes as a stream.
    is_misnamed = file.suffix == ".safetensors"
    try:
        with file.open("rb") if is_misnamed else nullcontext(str(file)) as given:
            held: object = torch.load(
                given, map_location="cpu", weights_only=True, mmap=is_zip and not is_misnamed
            )
    except Exception as error:  # of a damaged file the library lets any error through
        if isinstance(error, pickle.UnpicklingError) and _OBJECT_REFUSED in str(error).lower():
            raise CheckpointError(
                f"{str(file)!r} holds more than tensors, and loading it could run code: refused; "
                "expected weights saved as a state dict"
            ) from error
        reason = str(error).split(". ", maxsplit=1)[0]
        raise CheckpointError(
            f"cannot read checkpoint {str(file)!r}, it seems damaged or cut short: {reason}; "
            f"expected {ACCEPTED}"
        ) from error
    return _checkpoint(path, (file,), _unwrap(held, file), {})


def _unwrap(held: object, file: Path) -> dict[str, Tensor]:
    if isinstance(held, Mapping):
        outer = cast("Mapping[object, object]", held)
        for wrapper in _WRAPPERS:
            if isinstance(outer.get(wrapper), Mapping):
                outer = cast("Mapping[object, object]", outer[wrapper])
                break
        state = {
            name: value
            for name, value in outer.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        others = [str(name) for name in outer if name not in state]
        if state and not others:
            return state
        told = f"{len(others)} entries that are no tensors, such as {', '.join(others[:5])}"
    else:
        told = f"a {type(held).__name__}"
    raise CheckpointError(
        f"{str(file)!r} holds {told}; expected names with tensors, bare or under 'model'"
    )


def _checkpoint(
    path: Path, files: tuple[Path, ...], state: dict[str, Tensor], metadata: dict[str, str]
) -> Checkpoint:
    return Checkpoint(
        path=path,
        files=files,
        state=state,
        metadata=metadata,
        is_mapped=_lies_in(files, state),
    )


def _lies_in(files: tuple[Path, ...], state: Mapping[str, Tensor]) -> bool:
    """Whether the system says that the tensors lie in files; giving up others would lose them.

    Libraries map files as they see fit, so nothing but the system's own list tells for certain.
    """
    if not sys.platform.startswith("linux"):
        return False
    names = tuple(str(file.resolve()) for file in files)
    spans = [
        tuple(int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(names)
    ]
    return all(
        any(
            low <= value.data_ptr() and value.data_ptr() + value.nbytes <= high
            for low, high in spans
        )
        for value in state.values()
        if value.nbytes
    )


@cache
def _madvise() -> Callable[[int, int, int], int]:
    """The system call, which Python offers for its own mappings only."""
    function = ctypes.CDLL(None).madvise
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


__all__ = ["ACCEPTED", "Checkpoint", "open_checkpoint"]
