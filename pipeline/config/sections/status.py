"""The section ``status``."""

from typing import Annotated

from pydantic import Field

from pipeline.fields import Share, StrictModel


class StatusConfig(StrictModel):
    """When a stream counts as what."""

    every_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A status record says how a stream is at each change and this often."""
    stalled_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """Connected, but no frame for this long, or for five of its usual intervals: stalled."""
    offline_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Lost for less: reconnecting; for longer: offline."""
    overload_share: Share = 0.05
    """Overloaded while more than this share of the frames is dropped for speed."""
    overload_window_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Time over which that share is taken."""
