"""Recognises a checkpoint by the names and shapes in it, and fills models from it.

The name of the file does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.catalogue import Family, find_size, sam3_network, sizes_of
from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.weights import CheckpointError, describe_faults
from models.common.config import BackboneShape
from models.common.keymap import KeyMap, MappedState, same
from models.sam1 import keys as sam1_keys
from models.sam1.config import Sam1Config
from models.sam2 import keys as sam2_keys
from models.sam2.config import Sam2Config
from models.sam3.network import keys as sam3_keys
from models.sam3.network.config import Sam3Config

if TYPE_CHECKING:
    from models.sam1.model import Sam1
    from models.sam2.model import Sam2
    from models.sam3.network.model import Sam3

FLOAT_KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_POINTS = "detector_model.geometry_encoder.points_direct_project.weight"
_AS_IS = KeyMap([same("{*}", "{*}")])


class Layout(StrEnum):
    """Whose names the weights carry."""

    OFFICIAL = "official"
    TRANSFORMERS = "transformers"
    MASKSTREAM = "maskstream"


class Part(StrEnum):
    """How much of the model there is."""

    WHOLE = "whole"
    DETECTOR = "detector"
    TRACKER = "tracker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a checkpoint is.

    Attributes:
        family: Generation.
        size: Name of the model, such as ``sam2.1-tiny``.
        layout: Whose names the weights carry.
        part: How much of the model there is; always whole but for SAM 3.
        takes_points: Whether SAM 3's exemplars may be points, for which transformers' files lack
            the weights.
        refines: Whether the weights of our refiner of masks are there, which no published file has.
        keymap: From the file's names to ours.
    """

    family: Family
    size: str
    layout: Layout
    part: Part
    takes_points: bool
    refines: bool
    keymap: KeyMap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """Names by which a kind of checkpoint is recognised; of marks that fit the first wins."""

    has: tuple[str, ...]
    family: Family
    layout: Layout
    keymap: KeyMap
    part: Part = Part.WHOLE


_SAM1_VISION = "vision_encoder.layers.0.attn.rel_pos_h"
_SAM2_VISION = "vision_encoder.backbone.pos_embed_window"
_SAM3_VISION = "vision_encoder.backbone.embeddings.position_embeddings"
_MEMORY = "memory_attention.layer_norm.weight"
_MARKS = (
    _Mark(
        has=("image_encoder.blocks.0.attn.rel_pos_h",),
        family=Family.SAM1,
        layout=Layout.OFFICIAL,
        keymap=sam1_keys.OFFICIAL,
    ),
    _Mark(
        has=(_SAM1_VISION, "prompt_encoder.point_embed.0.weight"),
        family=Family.SAM1,
        layout=Layout.TRANSFORMERS,
        keymap=sam1_keys.TRANSFORMERS,
    ),
    _Mark(has=(_SAM1_VISION,), family=Family.SAM1, layout=Layout.MASKSTREAM, keymap=_AS_IS),
    _Mark(
        has=("image_encoder.trunk.pos_embed_window",),
        family=Family.SAM2,
        layout=Layout.OFFICIAL,
        keymap=sam2_keys.OFFICIAL,
    ),
    _Mark(
        has=(_SAM2_VISION,),
        family=Family.SAM2,
        layout=Layout.TRANSFORMERS,
        keymap=sam2_keys.TRANSFORMERS,
    ),
    _Mark(
        has=("detector.backbone.vision_backbone.trunk.pos_embed", "tracker.maskmem_tpos_enc"),
        family=Family.SAM3,
        layout=Layout.OFFICIAL,
        keymap=sam3_keys.OFFICIAL,
    ),
    _Mark(
        has=("detector.backbone.vision_backbone.trunk.pos_embed",),
        family=Family.SAM3,
        layout=Layout.OFFICIAL,
        keymap=sam3_keys.OFFICIAL,
        part=Part.DETECTOR,
    ),
    _Mark(
        has=(f"detector_model.{_SAM3_VISION}", f"tracker_model.{_MEMORY}"),
        family=Family.SAM3,
        layout=Layout.TRANSFORMERS,
        keymap=sam3_keys.TRANSFORMERS,
    ),
    _Mark(
        has=(f"detector_model.{_SAM3_VISION}",),
        family=Family.SAM3,
        layout=Layout.TRANSFORMERS,
        keymap=sam3_keys.TRANSFORMERS,
        part=Part.DETECTOR,
    ),
    _Mark(
        has=(_SAM3_VISION, _MEMORY),
        family=Family.SAM3,
        layout=Layout.TRANSFORMERS,
        keymap=sam3_keys.TRANSFORMERS_TRACKER,
        part=Part.TRACKER,
    ),
    _Mark(
        has=(_SAM3_VISION, "detr_decoder.query_embed.weight"),
        family=Family.SAM3,
        layout=Layout.TRANSFORMERS,
        keymap=sam3_keys.TRANSFORMERS_DETECTOR,
        part=Part.DETECTOR,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsupported:
    """A relative of these models that cannot be loaded, recognised by how some name begins."""

    begins: str
    lacks: tuple[str, ...] = ()
    what: str


_UNSUPPORTED = (
    _Unsupported(begins="tracker.model.", what="SAM 3.1 (multiplex)"),
    _Unsupported(begins="spatial_perceiver.", what="EdgeTAM"),
    _Unsupported(begins="image_encoder.patch_embed.seq.", what="MobileSAM"),
    _Unsupported(begins="mask_decoder.hf_token.", what="SAM-HQ"),
    _Unsupported(
        begins="image_encoder.trunk.pos_embed_window",
        lacks=("no_obj_embed_spatial",),
        what="SAM 2, the version before 2.1",
    ),
    _Unsupported(
        begins=_SAM2_VISION,
        lacks=("memory_temporal_positional_encoding",),
        what="the picture half of SAM 2, without the memory",
    ),
    _Unsupported(
        begins=_SAM2_VISION,
        lacks=("occlusion_spatial_embedding_parameter",),
        what="SAM 2, the version before 2.1",
    ),
    _Unsupported(
        begins=_SAM3_VISION,
        lacks=(_MEMORY, "detr_decoder.query_embed.weight"),
        what="SAM 3's tracker for pictures, without the memory",
    ),
)


def recognise(state: Mapping[str, Tensor], *, source: str) -> Recognised:
    """Recognise weights by their names and shapes, without reading them.

    Args:
        state: Name to tensor, as in the file.
        source: What to call the checkpoint in messages.

    Raises:
        CheckpointError: If it is of no known kind or size, or a relative that is not supported.
    """
    for relative in _UNSUPPORTED:
        if any(name.startswith(relative.begins) for name in state) and not any(
            name in state for name in relative.lacks
        ):
            raise CheckpointError(
                f"{source!r} is {relative.what}; expected SAM 1, SAM 2.1 or SAM 3"
            )
    for mark in _MARKS:
        if all(name in state for name in mark.has):
            ours = mark.keymap.apply(state)
            return Recognised(
                family=mark.family,
                size=_size_of(mark.family, ours, source),
                layout=mark.layout,
                part=mark.part,
                takes_points=_POINTS in ours,
                refines=any(name.startswith(sam3_keys.REFINER) for name in ours),
                keymap=mark.keymap,
            )
    some = ", ".join(sorted(state)[:3])
    raise CheckpointError(
        f"{source!r} is no checkpoint of a known model ({len(state)} tensors: {some}, …); "
        "expected SAM 1, SAM 2.1 or SAM 3"
    )


# Our names of each backbone's position embedding, which of its dimensions is the width, and what
# its blocks' names begin with.
_BACKBONES = {
    Family.SAM1: ("vision_encoder.pos_embed", 3, "vision_encoder.layers."),
    Family.SAM2: (
        "vision_encoder.backbone.pos_embed",
        1,
        "vision_encoder.backbone.blocks.",
    ),
    Family.SAM3: (
        "detector_model.vision_encoder.backbone.embeddings.position_embeddings",
        2,
        "detector_model.vision_encoder.backbone.layers.",
    ),
}


def _size_of(family: Family, ours: Mapping[str, Tensor], source: str) -> str:
    """Return the catalogue's name of the size whose backbone this is."""
    position, dim, blocks = _BACKBONES[family]
    shape = ours[position].shape
    numbers = {name[len(blocks) :].split(".")[0] for name in ours if name.startswith(blocks)}
    found = BackboneShape(width=shape[dim] if dim < len(shape) else 0, num_blocks=len(numbers))
    for size in sizes_of(family):
        if size.backbone == found:
            return size.name
    known = ", ".join(f"{size.name} ({size.backbone})" for size in sizes_of(family))
    raise CheckpointError(f"{source!r} looks like {family} of {found}; expected one of {known}")


def keymap_of(family: Family, layout: Layout) -> KeyMap:
    """Return the table from a layout's names for a whole model to ours."""
    for mark in _MARKS:
        if (mark.family, mark.layout, mark.part) == (family, layout, Part.WHOLE):
            return mark.keymap
    return _AS_IS


def of_size(size: str) -> Recognised:
    """Return what a whole checkpoint of a size in our own layout would be recognised as."""
    return Recognised(
        family=find_size(size).family,
        size=size,
        layout=Layout.MASKSTREAM,
        part=Part.WHOLE,
        takes_points=False,
        refines=True,
        keymap=_AS_IS,
    )


def sam3_config(recognised: Recognised) -> Sam3Config:
    """Return the network of the size, with those parts that the file has the weights of."""
    config = sam3_network(recognised.size)
    return replace(
        config,
        detector=replace(config.detector, point_exemplars=recognised.takes_points),
        refiner=config.refiner if recognised.refines else None,
    )


def build_model(recognised: Recognised) -> "Sam1 | Sam2 | Sam3":
    """Build the model that a checkpoint fits, without storage for its weights."""
    from models.sam1.model import Sam1
    from models.sam2.model import Sam2
    from models.sam3.network.model import Sam3

    with torch.device("meta"):
        match find_size(recognised.size).network:
            case Sam1Config() as config:
                return Sam1(config)
            case Sam2Config() as config:
                return Sam2(config)
            case Sam3Config():
                return Sam3(sam3_config(recognised))


def fill(
    model: nn.Module,
    checkpoint: Checkpoint,
    recognised: Recognised,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Fill a model, one tensor after the other, so that no second copy of the weights arises.

    On the CPU without a change of type, parameters stay views of the mapped file. Of a file with
    one part of SAM 3 only that part is filled.

    Args:
        model: As :func:`build_model` made it.
        checkpoint: The weights.
        recognised: What they are.
        device: Where they go; the CPU when left out.
        dtype: Type of all weights; as in the file when left out.

    Raises:
        CheckpointError: Names missing, unexpected and misshapen weights as the file calls them.
    """
    faults = find_faults(model, checkpoint, recognised)
    if faults:
        raise CheckpointError(
            f"checkpoint {str(checkpoint.path)!r} ({recognised.size}, {recognised.layout}) does "
            f"not fit {type(model).__name__}: {'; '.join(faults)}"
        )
    ours = recognised.keymap.apply(checkpoint.state)
    filled = {
        name: place(ours, name, checkpoint=checkpoint, device=device, dtype=dtype)
        for name in _wanted(model, recognised.part)
    }
    model.load_state_dict(filled, strict=False, assign=True)


def place(
    ours: MappedState,
    name: str,
    *,
    checkpoint: Checkpoint,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Bring one tensor to where and how it is wanted, and let its pages of the file go."""
    held = ours[name]
    placed = held.to(device=device, dtype=dtype).contiguous()
    if placed.data_ptr() != held.data_ptr():
        del held
        for source in ours.translation.origins[name].sources:
            checkpoint.release(source)
    return placed


def _belongs(name: str, part: Part) -> bool:
    match part:
        case Part.WHOLE:
            return True
        case Part.DETECTOR:
            return name.startswith("detector_model.")
        case Part.TRACKER:
            return name.startswith(
                ("tracker_model.", "tracker_neck.", "detector_model.vision_encoder.backbone.")
            )


def _wanted(model: nn.Module, part: Part) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if _belongs(name, part)}


def find_faults(model: nn.Module, checkpoint: Checkpoint, recognised: Recognised) -> list[str]:
    """List by kind what of a checkpoint does not fit a model, in the file's own names."""
    state = checkpoint.state
    ours = recognised.keymap.apply(state)
    wanted = _wanted(model, recognised.part)
    back = recognised.keymap.inverse().translate(wanted)
    absent = wanted.keys() - ours.keys()
    named = {
        name: absent.intersection(origin.sources)
        for name, origin in back.origins.items()
        if name not in state
    }
    extra = {
        source
        for name in ours.keys() - wanted.keys()
        for source in ours.translation.origins[name].sources
    }
    return describe_faults(
        missing=[
            *(name for name, sources in named.items() if sources),
            *absent.difference(*named.values()),
        ],
        unexpected=[*extra, *ours.translation.unknown],
        misshapen=[
            f"{_maker_of(name, ours.translation.origins[name].sources)} {tuple(ours[name].shape)}, "
            f"expected {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in ours and ours[name].shape != value.shape
        ],
        not_of_floats=[
            f"{name} is {str(value.dtype).removeprefix('torch.')}"
            for name, value in state.items()
            if value.dtype not in FLOAT_KINDS and name not in ours.translation.dropped
        ],
    )


def _maker_of(name: str, sources: Sequence[str]) -> str:
    """Say what a misshapen tensor is, and of which keys of the file it was made if of others."""
    if tuple(sources) == (name,):
        return f"{name} is"
    return f"{' + '.join(sources)}, which makes {name}, is"
