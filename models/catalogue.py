"""The models that can be named, one row a size. Importing this costs no torch.

A row is all there is to a size: building, recognising checkpoints, fetching, listing and the
options of sessions read it here. A new size of a known generation is one more row.
"""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models.common.config import BackboneShape
from models.sam1.config import Sam1Config
from models.sam1.config import VisionConfig as Sam1VisionConfig
from models.sam2.config import HieraConfig, Sam2Config, TrackerConfig
from models.sam3.network.config import (
    DetectorConfig,
    RefinerConfig,
    Sam3Config,
    TextConfig,
    VisionConfig,
)
from models.sam3.picture_rules import PictureRules
from models.sam3.tracking.options import AssociationRules, LifeRules, SessionOptions

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
class ModelSize:
    """One size of one generation.

    Attributes:
        name: As given in configuration.
        summary: One line for people.
        network: Sizes of the network.
        num_parameters: All its weights together.
        licence: Of the weights.
        folder: Where its weights ship, or ``None``.
        hub_id: Its repository on the Hugging Face Hub, or ``None``.
        is_gated: Whether the Hub hands it out only to accounts that were granted access.
        cpu_threads: Threads that suit it on a CPU, or ``None`` for torch's own choice.
        knows_clicks: Whether it was trained to answer points and boxes about one object.
        session: How its sessions on streams decide; only SAM 3 reads them.
        pictures: How it decides on single pictures; only SAM 3 reads them.
    """

    name: str
    summary: str
    network: Sam1Config | Sam2Config | Sam3Config
    num_parameters: int
    licence: str = _APACHE
    folder: Path | None = None
    hub_id: str | None = None
    is_gated: bool = False
    cpu_threads: int | None = None
    knows_clicks: bool = True
    session: SessionOptions = SessionOptions()
    pictures: PictureRules = PictureRules()

    @property
    def family(self) -> Family:
        """Its generation."""
        match self.network:
            case Sam1Config():
                return Family.SAM1
            case Sam2Config():
                return Family.SAM2
            case Sam3Config():
                return Family.SAM3

    @property
    def image_size(self) -> int:
        """Side of the square picture in px."""
        return self.network.image_size

    @property
    def backbone(self) -> BackboneShape:
        """What tells its checkpoints from those of other sizes."""
        return self.network.backbone

    @property
    def knows_concepts(self) -> bool:
        """Whether it finds all instances of phrases and exemplars."""
        return self.family is Family.SAM3

    @property
    def follows_objects(self) -> bool:
        """Whether it tracks objects through videos."""
        return self.family in {Family.SAM2, Family.SAM3}


def _sam1(size: str, hub_size: str, num_parameters: int, vision: Sam1VisionConfig) -> ModelSize:
    return ModelSize(
        name=f"sam1-{size}",
        summary="points, boxes and masks on pictures",
        network=Sam1Config(vision=vision),
        num_parameters=num_parameters,
        hub_id=f"facebook/sam-vit-{hub_size}",
    )


def _sam2(size: str, num_parameters: int, hiera: HieraConfig) -> ModelSize:
    return ModelSize(
        name=f"sam2.1-{size}",
        summary="points, boxes and masks on pictures and videos",
        network=Sam2Config(hiera=hiera),
        num_parameters=num_parameters,
        hub_id=f"facebook/sam2.1-hiera-{size}",
    )


_ROWS = (
    ModelSize(
        name="sam3-nano",
        summary="sam3's graph in small, trained on the synthetic world; ships with the package",
        # The same graph: 20 x 20 tokens in windows of 4, where the published one has 72 x 72 in 24.
        network=Sam3Config(
            vision=VisionConfig(
                image_size=280,
                dim=128,
                mlp_dim=512,
                num_blocks=8,
                num_heads=4,
                window=4,
                global_blocks=(1, 3, 5, 7),
                pretrain_grid=4,
                neck_dim=64,
            ),
            text=TextConfig(
                vocab_size=1024,
                dim=64,
                mlp_dim=256,
                num_blocks=2,
                num_heads=4,
                context_length=16,
                projection_dim=64,
            ),
            detector=DetectorConfig(
                dim=64,
                num_heads=4,
                mlp_dim=256,
                exemplar_layers=1,
                fusion_layers=3,
                decoder_layers=3,
                num_queries=36,
            ),
            tracker=TrackerConfig(
                image_size=280,
                hidden_dim=64,
                # As in every published size: ports of the model fix this width.
                memory_dim=64,
                num_heads=4,
                mask_decoder_mlp_dim=256,
                iou_head_dim=64,
                memory_attention_layers=2,
                memory_attention_mlp_dim=256,
                memory_fuser_dim=128,
            ),
            refiner=RefinerConfig(),
        ),
        num_parameters=3_954_417,
        folder=NANO_FOLDER,
        # Its products are so small that a second thread in each of them mostly waits, and on busy
        # cores makes it six times slower; see models.common.concurrent_parts for what two cores do.
        cpu_threads=1,
        knows_clicks=False,
        # Its detector draws better than its tracker; neither is as sure as the large ones.
        session=SessionOptions(
            nms_iou=0.3,
            answer_shown=True,
            # Its masks stray onto others of a kind, where they are unsure.
            divide_by_pixel=True,
            # Seven do no better and take a third of a step (configs/studies/memory.md).
            memory_maps=3,
            association=AssociationRules(
                # It is seldom surer of what is small or half hidden. What it is less sure of goes
                # on where it was begun, but begins nothing: nearly all of that is false.
                new_score=0.65,
                first_score=0.65,
                match_iou=0.3,
                recondition_score=0.7,
                recondition_iou=0.5,
                trust_iou=0.3,
            ),
            # On two clips of 20 s newcomers took over the masklets of what had left when those
            # could come back for 30 s: J&F .873, for 4 s .948. On three clips of hidings 2 s lose
            # one of 14 that come back: J&F .924 to .887.
            life=LifeRules(suppress_s=0.5, dormant_s=4.0, revive_reach=0.25),
        ),
        # It finds one thing twice now and then, and misses small things even if they are shown.
        pictures=PictureRules(nms_iou=0.5, answer_shown=True),
    ),
    ModelSize(
        name="sam3",
        summary="phrases, examples, points, boxes and masks on pictures and streams",
        network=Sam3Config(),
        num_parameters=859_921_848,
        licence=_SAM_LICENCE,
        hub_id="facebook/sam3",
        is_gated=True,
    ),
    _sam2(
        "tiny",
        38_962_498,
        HieraConfig(dim=96, num_heads=1, blocks=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    ),
    _sam2(
        "small",
        46_060_354,
        HieraConfig(dim=96, num_heads=1, blocks=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    ),
    _sam2(
        "base-plus",
        80_850_178,
        HieraConfig(
            dim=112,
            num_heads=2,
            blocks=(2, 3, 16, 3),
            global_blocks=(12, 16, 20),
            background_grid=14,
        ),
    ),
    _sam2(
        "large",
        224_446_642,
        HieraConfig(
            dim=144,
            num_heads=2,
            blocks=(2, 6, 36, 4),
            windows=(8, 4, 16, 8),
            global_blocks=(23, 33, 43),
        ),
    ),
    _sam1("b", "base", 93_735_472, Sam1VisionConfig()),
    _sam1(
        "l",
        "large",
        312_342_832,
        Sam1VisionConfig(
            dim=1024, mlp_dim=4096, num_blocks=24, num_heads=16, global_blocks=(5, 11, 17, 23)
        ),
    ),
    _sam1(
        "h",
        "huge",
        641_090_608,
        Sam1VisionConfig(
            dim=1280, mlp_dim=5120, num_blocks=32, num_heads=16, global_blocks=(7, 15, 23, 31)
        ),
    ),
)
MODELS: dict[str, ModelSize] = {size.name: size for size in _ROWS}


def find_size(name: str) -> ModelSize:
    """Return the row of a name. Raises ``ValueError`` if there is none."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]


def sizes_of(family: Family) -> tuple[ModelSize, ...]:
    """Return all sizes of a generation."""
    return tuple(size for size in MODELS.values() if size.family is family)


def sam3_network(name: str) -> Sam3Config:
    """Return the network of a size of SAM 3. Raises ``ValueError`` if it is none."""
    network = find_size(name).network
    if not isinstance(network, Sam3Config):
        able = ", ".join(size.name for size in sizes_of(Family.SAM3))
        raise ValueError(f"model {name!r} is not of SAM 3; known: {able}")  # noqa: TRY004 - of names
    return network


def models_folder() -> Path:
    """Return where fetched weights are kept: ``MASKSTREAM_MODELS``, or the user's cache."""
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "maskstream" / "models"


def local_folder(size: ModelSize) -> Path | None:
    """Return where a model's weights lie on this machine, shipped or fetched, or ``None``."""
    if size.folder is not None:
        return size.folder
    folder = models_folder() / size.name
    return folder if any(folder.glob("*.safetensors")) else None
