"""Several sources of pictures or clips as one, each with its share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.training.clips import Clip, ClipSource
from pipeline.training.pictures import Drawn, PictureSource
from pipeline.training.recipe import Stage


@dataclass(frozen=True, slots=True)
class MixedPictures:
    """Draws each picture from one of ``sources``, chosen by ``shares``, which sum to 1."""

    sources: Sequence[PictureSource]
    shares: NDArray[np.float64]

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw; see :class:`pipeline.training.pictures.PictureSource`."""
        chosen = int(rng.choice(len(self.sources), p=self.shares))
        return self.sources[chosen].draw(rng, size, stage)


@dataclass(frozen=True, slots=True)
class MixedClips:
    """Draws each clip from one of ``sources``, chosen by ``shares``, which sum to 1."""

    sources: Sequence[ClipSource]
    shares: NDArray[np.float64]

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw; see :class:`pipeline.training.clips.ClipSource`."""
        return self.sources[int(rng.choice(len(self.sources), p=self.shares))].draw(rng, stage)
