"""Several sources of pictures or clips as one, each with its share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.lab.training.clips import Clip, ClipSource
from pipeline.lab.training.pictures import Drawn, PictureSource
from pipeline.lab.training.recipe import Stage


@dataclass(frozen=True, slots=True)
class MixedPictures:
    """Draws each picture from one of several sources.

    Attributes:
        sources: Each with its place among the recipe's data.
        weights: Of all the recipe's data, where a stage has none of its own.
    """

    sources: Sequence[tuple[int, PictureSource]]
    weights: Sequence[float]

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw; see :class:`pipeline.lab.training.pictures.PictureSource`."""
        chosen = _choose(rng, [place for place, _ in self.sources], stage.shares or self.weights)
        return self.sources[chosen][1].draw(rng, size, stage)


@dataclass(frozen=True, slots=True)
class MixedClips:
    """Draws each clip from one of several sources; attributes as of :class:`MixedPictures`."""

    sources: Sequence[tuple[int, ClipSource]]
    weights: Sequence[float]

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw; see :class:`pipeline.lab.training.clips.ClipSource`."""
        chosen = _choose(rng, [place for place, _ in self.sources], stage.shares or self.weights)
        return self.sources[chosen][1].draw(rng, stage)


def _choose(rng: np.random.Generator, places: Sequence[int], weights: Sequence[float]) -> int:
    shares = np.array([weights[place] for place in places], dtype=np.float64)
    return int(rng.choice(len(places), p=shares / shares.sum()))
