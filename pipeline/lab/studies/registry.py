"""All studies by name. Importing this costs nothing; a study is imported when it is run."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.lab.studies.study import Study

ALL = "all"
_PACKAGE = "pipeline.lab.studies"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEntry:
    """One study.

    Attributes:
        name: What the command calls it.
        module: Module of this package whose ``run`` is the study.
        summary: What it tells, in half a line.
    """

    name: str
    module: str
    summary: str

    def load(self) -> "Study":
        """Import the study."""
        return cast("Study", import_module(f"{_PACKAGE}.{self.module}").run)


STUDIES = (
    StudyEntry(name="main", module="main_results", summary="the main results in each world"),
    StudyEntry(
        name="presence", module="presence", summary="detections with the presence head and without"
    ),
    StudyEntry(
        name="exemplars",
        module="exemplars",
        summary="a phrase alone, with 1 and with 3 boxes, and boxes alone",
    ),
    StudyEntry(
        name="corrections",
        module="corrections",
        summary="a phrase, and then boxes where its answer is wrong",
    ),
    StudyEntry(name="size", module="size", summary="small objects against large ones"),
    StudyEntry(
        name="light", module="light", summary="the same scenes by day and by infrared night"
    ),
    StudyEntry(
        name="held-out", module="held_out_phrases", summary="phrases that were kept from training"
    ),
    StudyEntry(name="crowding", module="crowding", summary="concepts and objects on a frame"),
    StudyEntry(
        name="gallery", module="gallery_sheet", summary="the worst and the best pictures, drawn"
    ),
    StudyEntry(name="tracking", module="tracking", summary="the main results on clips"),
    StudyEntry(name="memory", module="memory", summary="1, 3 and 7 spatial memories of an object"),
    StudyEntry(
        name="occlusion", module="occlusion", summary="who is followed again after being hidden"
    ),
)


def chosen_studies(names: tuple[str, ...]) -> tuple[StudyEntry, ...]:
    """Return the studies of these names, or every one for ``all``, each once.

    Raises:
        ConfigError: If there is no name or no such study.
    """
    known = {entry.name: entry for entry in STUDIES}
    unknown = [name for name in names if name not in known and name != ALL]
    if unknown or not names:
        accepted = ", ".join([*known, ALL])
        raise ConfigError([f"study {name!r} (accepted: {accepted})" for name in unknown or [""]])
    return STUDIES if ALL in names else tuple(known[name] for name in dict.fromkeys(names))
