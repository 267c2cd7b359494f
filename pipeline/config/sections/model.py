"""The section ``model``. Checked without torch."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from models.catalogue import MODELS, Family, find_size, sizes_of
from models.sam3.tracking.options import SessionOptions
from pipeline.fields import StrictModel, looks_at_files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Option = bool | int | float | str


class ModelConfig(StrictModel):
    """Which model looks at the frames."""

    name: str = "sam3-nano"
    """A name that ``maskstream models list`` shows."""
    checkpoint: Path | None = None
    """Weights; none means the shipped or downloaded ones."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    options: dict[str, Option] = Field(default={})
    """How a SAM 3 session decides; a dot reaches into a group, as in ``life.expiry_s``."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in MODELS:
            raise ValueError(f"unknown model (accepted: {', '.join(MODELS)})")
        return name

    @field_validator("checkpoint")
    @classmethod
    def _check_checkpoint(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and looks_at_files(info) and not path.exists():
            raise ValueError("nothing is there (accepted: .safetensors, .pt, .pth, or a folder)")
        return path

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        name = info.data.get("name")
        if isinstance(name, str) and options:
            _session_options(name, options)
        return options

    @property
    def has_concepts(self) -> bool:
        """Whether the model finds phrases and exemplars."""
        return find_size(self.name).knows_concepts

    def session_options(self, *, expiry_s: float | None = None) -> SessionOptions:
        """Return the options of the model's size with the configured ones put in.

        ``expiry_s`` is the masklets' life time unless ``options`` says otherwise.
        """
        life = {} if expiry_s is None else {"life.expiry_s": expiry_s}
        return _session_options(self.name, life | self.options)


def _session_options(name: str, options: Mapping[str, Option]) -> SessionOptions:
    size = find_size(name)
    if not size.knows_concepts:
        able = ", ".join(size.name for size in sizes_of(Family.SAM3))
        raise ValueError(f"{name} has no options (accepted with {able})")
    built = size.session
    accepted = _defaults_of(built)
    for option, value in options.items():
        if option not in accepted:
            near = get_close_matches(option, accepted, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            names = ", ".join(sorted(accepted))
            raise ValueError(f"unknown option {option!r} ({hint}accepted: {names})")
        default = accepted[option]
        if not _is_like(value, default):
            kind = type(default).__name__
            raise ValueError(f"option {option!r} is {value!r} (accepted: {kind} as {default!r})")
        group, _, leaf = option.rpartition(".")
        plain = float(value) if isinstance(default, float) else value
        if group:
            built = replace(built, **{group: replace(getattr(built, group), **{leaf: plain})})
        else:
            built = replace(built, **{leaf: plain})
    return built


def _is_like(value: Option, default: object) -> bool:
    if isinstance(default, float):
        # True is an int to Python, but not to people.
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def _defaults_of(group: "DataclassInstance", prefix: str = "") -> dict[str, object]:
    """Return every option's default by its dotted name."""
    options: dict[str, object] = {}
    for item in fields(group):
        value: Any = getattr(group, item.name)
        if is_dataclass(value) and not isinstance(value, type):
            options |= _defaults_of(value, f"{prefix}{item.name}.")
        else:
            options[prefix + item.name] = value
    return options
