"""The section ``model`` into a model with its weights. torch is imported when one is built."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from models.protocols import ConceptTracker
from pipeline.config.sections.model import ModelConfig
from pipeline.errors import ConfigError

Built = TypeVar("Built")
_logger = logging.getLogger("maskstream.model")


def build_model(config: ModelConfig, *, expiry_s: float | None = None) -> ConceptTracker:
    """Build the model that tracks concepts on streams.

    ``expiry_s`` is the life time of an object that no detection matches, unless the options say
    otherwise; the model's own when left out.

    Raises:
        ConfigError: If the model knows no concepts, or its weights or device cannot be used.
    """
    # Imported here, because torch costs seconds that ``check`` and ``schema`` need not pay.
    from models.build import build_tracker

    try:
        options = config.session_options(expiry_s=expiry_s)
    except ValueError as error:
        raise ConfigError([f"model.options: {error}"]) from error
    return build_with(partial(build_tracker, options=options), config)


def build_with(build: Callable[..., Built], config: ModelConfig) -> Built:
    """Build a model by a function of :mod:`models.build`.

    Raises:
        ConfigError: If the weights or the device cannot be used.
    """
    device = choose_device(config.device)
    began_s = time.monotonic()
    try:
        built = build(config.name, checkpoint=config.checkpoint, device=device)
    except ValueError as error:
        raise ConfigError([f"model: {error}"]) from error
    took_s = time.monotonic() - began_s
    _logger.info("model %s loaded on %s in %.1f s", config.name, device, took_s)
    return built


def choose_device(name: str) -> str:
    """Return ``name``, or for ``auto`` the best device that is there.

    Raises:
        ConfigError: If an accelerator is asked for that is not there.
    """
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    is_there = {"cpu": True, "mps": has_mps, "cuda": has_cuda}[name.partition(":")[0]]
    number = int(name.partition(":")[2] or 0)
    if not is_there or (name.startswith("cuda") and number >= torch.cuda.device_count()):
        raise ConfigError([f"model.device: {name!r} is not on this machine (accepted: auto, cpu)"])
    return name
