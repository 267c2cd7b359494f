"""The models that can be named. Importing this costs no torch."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NANO_FOLDER = Path(__file__).parent / "sam3" / "nano"
WEIGHTS_FILE, VOCABULARY_FILE = "model.safetensors", "tokenizer.json"
MODELS_VARIABLE = "MASKSTREAM_MODELS"
_APACHE, _SAM_LICENCE = "Apache-2.0", "SAM License"


class Family(StrEnum):
    """A generation of the model."""

    SAM1 = "sam1"
    SAM2 = "sam2.1"
    SAM3 = "sam3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be named.

    Attributes:
        name: As given in configuration.
        summary: One line for people.
        family: Generation; only SAM 3 knows concepts.
        num_parameters: All its weights together.
        image_size: Side of the square picture in px.
        licence: Of the weights.
        folder: Where its weights ship, or ``None``.
        hub_id: Its repository on the Hugging Face Hub, or ``None``.
        is_gated: Whether the Hub hands it out only to accounts that were granted access.
        cpu_threads: Threads that suit it on a CPU, or ``None`` for torch's own choice.
        knows_clicks: Whether it was trained to answer points and boxes about one object.
    """

    name: str
    summary: str
    family: Family
    num_parameters: int
    image_size: int
    licence: str = _APACHE
    folder: Path | None = None
    hub_id: str | None = None
    is_gated: bool = False
    cpu_threads: int | None = None
    knows_clicks: bool = True


def _sam1(size: str, hub_size: str, num_parameters: int) -> ModelEntry:
    return ModelEntry(
        name=f"sam1-{size}",
        summary="points, boxes and masks on pictures",
        family=Family.SAM1,
        num_parameters=num_parameters,
        image_size=1024,
        hub_id=f"facebook/sam-vit-{hub_size}",
    )


def _sam2(size: str, num_parameters: int) -> ModelEntry:
    return ModelEntry(
        name=f"sam2.1-{size}",
        summary="points, boxes and masks on pictures and videos",
        family=Family.SAM2,
        num_parameters=num_parameters,
        image_size=1024,
        hub_id=f"facebook/sam2.1-hiera-{size}",
    )


_ENTRIES = (
    ModelEntry(
        name="sam3-nano",
        summary="sam3's graph in small, trained on the synthetic world; ships with the package",
        family=Family.SAM3,
        num_parameters=3_954_417,
        image_size=280,
        folder=NANO_FOLDER,
        # Its products are so small that a second thread in each of them mostly waits, and on busy
        # cores makes it six times slower; see models.common.concurrent_parts for what two cores do.
        cpu_threads=1,
        knows_clicks=False,
    ),
    ModelEntry(
        name="sam3",
        summary="phrases, examples, points, boxes and masks on pictures and streams",
        family=Family.SAM3,
        num_parameters=859_921_848,
        image_size=1008,
        licence=_SAM_LICENCE,
        hub_id="facebook/sam3",
        is_gated=True,
    ),
    _sam2("tiny", 38_962_498),
    _sam2("small", 46_060_354),
    _sam2("base-plus", 80_850_178),
    _sam2("large", 224_446_642),
    _sam1("b", "base", 93_735_472),
    _sam1("l", "large", 312_342_832),
    _sam1("h", "huge", 641_090_608),
)
MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
MODEL_NAMES: tuple[str, ...] = tuple(MODELS)


def find_entry(name: str) -> ModelEntry:
    """Return the entry of a name. Raises ``ValueError`` if there is none."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}")
    return MODELS[name]


def models_folder() -> Path:
    """Return where fetched weights are kept: ``MASKSTREAM_MODELS``, or the user's cache."""
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "maskstream" / "models"


def local_folder(entry: ModelEntry) -> Path | None:
    """Return where a model's weights lie on this machine, shipped or fetched, or ``None``."""
    if entry.folder is not None:
        return entry.folder
    folder = models_folder() / entry.name
    return folder if any(folder.glob("*.safetensors")) else None
