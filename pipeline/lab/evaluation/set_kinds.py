"""Names of data sets and what is wanted of one. Importing this costs nothing."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.lab.data.datasets.problems import OnBad


class PictureSet(StrEnum):
    """Sets of pictures."""

    WORLD = "world"
    SACO_GOLD = "saco-gold"
    SACO_SILVER = "saco-silver"


class ClipSetName(StrEnum):
    """Sets of clips."""

    WORLD = "world"
    SACO_VEVAL = "saco-veval"
    SA_FARI = "sa-fari"
    YTVIS = "ytvis"
    BURST = "burst"
    DAVIS = "davis"
    MOSE = "mose"
    YOUTUBE_VOS = "youtube-vos"
    SA_V = "sa-v"
    SA_V_MANUAL = "sa-v-manual"
    SA_V_AUTO = "sa-v-auto"

    @property
    def gives_masks(self) -> bool:
        """Whether objects are given by their first masks and not by phrases."""
        return self not in (self.WORLD, self.SACO_VEVAL, self.SA_FARI, self.YTVIS, self.BURST)

    @property
    def has_splits(self) -> bool:
        """Whether it has parts that are chosen by name."""
        return self.gives_masks and self not in (self.SA_V_MANUAL, self.SA_V_AUTO)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRequest:
    """Where a set is and what is done with what is found.

    Attributes:
        root: Folder of its pictures, or of the set as a whole.
        annotations: Its annotation files; several are annotators of the same questions.
        split: Part of the set, for those that list their clips.
        on_bad: What happens to data that cannot be used.
        predictions: File, or for masks of objects a folder, that predictions are written to.
        results: File that results are written to, under the official names.
    """

    root: Path | None = None
    annotations: tuple[Path, ...] = ()
    split: str = "val"
    on_bad: OnBad = OnBad.FAIL
    predictions: Path | None = None
    results: Path | None = None
