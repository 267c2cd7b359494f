"""The section ``engine``."""

from typing import Annotated

from pydantic import Field

from pipeline.fields import StrictModel


class EngineConfig(StrictModel):
    """How frames are taken and results are given."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames in one turn of the model, at most one per stream."""
    buffer_frames: Annotated[int, Field(ge=1, le=256)] = 4
    """Frames that wait for the model, per stream."""
    max_streams: Annotated[int, Field(ge=1, le=4096)] = 64
    """Open at once, those that sources name by themselves included."""
    idle_close_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """A stream that a source named by itself is closed after this long without a frame."""
    commit_every_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """For sources that keep a position of their own (Kafka)."""
    connections_per_host: Annotated[int, Field(ge=1, le=1000)] = 4
    """Sources that try at once to connect to one host."""
    stop_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """The run ends within this time after SIGTERM or SIGINT, whatever sources and sinks do."""
