"""Base class and field types of all sections of the configuration."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

NAME_PATTERN = r"^[\w.:/@ *-]+$"
NAME_CHARACTERS = "letters, digits, blanks and _ - . : / @ *"
Name = Annotated[str, Field(min_length=1, max_length=120, pattern=NAME_PATTERN)]


def clean_phrase(text: str) -> str:
    """Return a phrase with single spaces. Raises ``ValueError`` if it is blank."""
    phrase = " ".join(text.split())
    if not phrase:
        raise ValueError("is blank (accepted: a noun phrase, such as deer)")
    return phrase


Phrase = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(clean_phrase)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Frozen section; unknown keys are errors, and errors do not repeat the input."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


# Key of the validation context; true where a configuration is read on the machine it is for.
LOOKS_AT_FILES = "looks_at_files"


def looks_at_files(info: ValidationInfo) -> bool:
    """Whether what is on this machine is to be looked at."""
    return bool(info.context and info.context.get(LOOKS_AT_FILES))


def refuse_twice(kind: str, names: Iterable[str]) -> None:
    """Raise a ``ValueError`` if a name of some kind is there more than once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind} {name!r} is there twice (accepted: each once)")
        seen.add(name)
