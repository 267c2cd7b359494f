"""Which models a configuration may name. Imports no torch."""

from models.catalogue import MODEL_NAMES, MODELS, Family
from pipeline.errors import ConfigError


def check_model_name(name: str) -> None:
    """Raise a ``ConfigError`` if no model has this name."""
    if name not in MODELS:
        accepted = ", ".join(MODEL_NAMES)
        raise ConfigError([f"model.name: unknown model {name!r} (accepted: {accepted})"])


def check_concept_model(name: str) -> None:
    """Raise a ``ConfigError`` if no model that knows phrases has this name."""
    check_model_name(name)
    if MODELS[name].family is not Family.SAM3:
        able = ", ".join(key for key, entry in MODELS.items() if entry.family is Family.SAM3)
        raise ConfigError([f"model.name: {name} knows no concepts (accepted: {able})"])
