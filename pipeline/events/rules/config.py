"""What all rules are configured by."""

from enum import StrEnum

from pipeline.events.zones import Anchor
from pipeline.fields import Name, Phrase, Seconds, StrictModel


class Accepts(StrEnum):
    """From which state on a rule believes a track."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"


class BaseRuleConfig(StrictModel):
    """Fields of every rule."""

    name: Name
    concepts: tuple[Phrase, ...] = ()
    """Concepts that the rule is about, by phrase or id; none means all of the stream."""
    accepts: Accepts = Accepts.CONFIRMED
    """Tentative: at once. Confirmed: after the confirmation delay, with fewer false alarms."""


class ZoneRuleConfig(BaseRuleConfig):
    """Fields of every rule about a zone."""

    zone: Name
    anchor: Anchor = Anchor.BOTTOM_CENTER
    settle_s: Seconds = 0.3
    """How long the anchor must stay on the other side before a crossing is believed."""
