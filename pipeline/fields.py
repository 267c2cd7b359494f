"""Base class and field types of all sections of the configuration."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[\w.:/@ *-]+$")]
Phrase = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Frozen section; unknown keys are errors, and errors do not repeat the input."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )
