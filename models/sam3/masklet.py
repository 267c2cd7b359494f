"""One object's life inside a session, in seconds of capture time."""

import math
from dataclasses import dataclass, field

from models.sam3.tracker.memory_bank import MemoryBank


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeRules:
    """When a masklet is let go.

    Times are in seconds; the published system counts frames at 30 per second.

    Attributes:
        probation_s: Age until which a masklet must prove itself (published: 15 frames, "hot
            start").
        unmatched_s: Time without a matching detection that ends a masklet on probation (published:
            8 frames).
        duplicate_s: Time of sharing one detection with an older masklet that ends it on probation
            (8 frames).
        expiry_s: Time since the last matching detection after which any masklet ends. The published
            system lets nothing go after probation, so on a stream its cost would grow for ever.
        recondition_s: Least time between two re-promptings of a masklet (published: every 16
            frames).
    """

    probation_s: float = 1.5
    unmatched_s: float = 0.8
    duplicate_s: float = 0.8
    expiry_s: float = 4.0
    recondition_s: float = 0.5


@dataclass(slots=True, kw_only=True)
class Masklet:
    """State of one object.

    Bounded: the bank is, and all else are numbers and the pairs of its probation.
    """

    masklet_id: int
    concept: int
    bank: MemoryBank
    score: float
    first_seen_s: float
    last_seen_s: float
    last_matched_s: float
    last_conditioned_s: float
    last_occluded_s: float = -math.inf
    unmatched_s: float = 0.0
    shared_s: dict[int, float] = field(default_factory=dict)

    def is_on_probation(self, now_s: float, rules: LifeRules) -> bool:
        """Tell whether the masklet is younger than the probation."""
        return now_s - self.first_seen_s < rules.probation_s

    def on_matched(self, now_s: float, score: float) -> None:
        """Note a detection that matches."""
        self.last_matched_s, self.score = now_s, score

    def on_unmatched(self, elapsed_s: float) -> None:
        """Note that the masklet is visible and no detection agrees.

        The sum is never reset, as published.
        """
        self.unmatched_s += elapsed_s

    def on_shared(self, older_id: int, elapsed_s: float) -> None:
        """Note that one detection supports this masklet and an older one."""
        self.shared_s[older_id] = self.shared_s.get(older_id, 0.0) + elapsed_s

    def should_end(self, now_s: float, rules: LifeRules) -> bool:
        """Tell whether the masklet is to be let go on this frame."""
        if now_s - self.last_matched_s > rules.expiry_s:
            return True
        if not self.is_on_probation(now_s, rules):
            self.shared_s.clear()
            return False
        is_duplicate = max(self.shared_s.values(), default=0.0) >= rules.duplicate_s
        return is_duplicate or self.unmatched_s >= rules.unmatched_s
