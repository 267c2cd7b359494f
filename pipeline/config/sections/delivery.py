"""The section ``delivery``."""

from typing import Annotated

from pydantic import Field

from pipeline.fields import StrictModel

_MIB = 1024 * 1024


class DeliveryConfig(StrictModel):
    """How results wait for the sinks."""

    log_bytes: Annotated[int, Field(ge=_MIB)] = 1024 * _MIB
    """Of the log on disk, in which records wait for sinks that are away. Beyond it the oldest
    masklets are left out first, then tracks, then events, counted."""
    memory_bytes: Annotated[int, Field(ge=64 * 1024)] = 16 * _MIB
    """Of records in memory, for each of masklets, tracks and events."""
    queue: Annotated[int, Field(ge=1, le=4096)] = 32
    """Results that wait to be encoded, and pictures or frames that wait for each of their sinks."""
    behind_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """A sink counts as behind when its oldest waiting record is older."""
    down_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A sink counts as down, and the run as not ready, when it has failed for this long."""
