"""Errors of an accelerator that no further work in this process can survive."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from models.protocols import DeviceLostError

# Memory that is short now may suffice for a smaller batch.
_RECOVERABLE = ("out of memory", "ALLOC_FAILED")


@contextmanager
def device_errors() -> Generator[None]:
    """Turn errors that stick to the device, such as a failed kernel, into ``DeviceLostError``.

    CUDA reports them again at every later call of the process.
    """
    try:
        yield
    except RuntimeError as error:
        if _is_sticky(error):
            raise DeviceLostError(f"accelerator failed for good: {error}") from error
        raise


def _is_sticky(error: RuntimeError) -> bool:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(word in text for word in _RECOVERABLE):
        return False
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in text
