"""Life times of tracks and sessions."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.fields import Seconds, StrictModel


class TrackingConfig(StrictModel):
    """When a track changes its state; seconds of observed stream time."""

    confirm_s: Seconds = 0.5
    """Time during which detections must have matched before a track counts as confirmed. Three
    matched frames confirm too if their stamps are equal or more than half of this apart."""
    occluded_s: Seconds = 0.2
    """Out of sight this long: occluded."""
    lost_s: Seconds = 2.0
    """Out of sight this long: lost, though the model may still recover it."""
    hidden_s: Seconds = 5.0
    """Out of sight this long, an object no longer counts as being where it was last seen."""
    expire_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Out of sight this long: the track ends."""
    session_gap_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """A longer pause between two frames ends all tracks and events of a stream."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.occluded_s <= self.lost_s <= self.expire_s:
            raise ValueError(
                f"occluded_s={self.occluded_s!r}, lost_s={self.lost_s!r}, "
                f"expire_s={self.expire_s!r} (accepted: growing in this order)"
            )
        return self
