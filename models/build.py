"""Builds models by name, or from a checkpoint alone: the one door to all that they can do.

`build_image_predictor` answers many prompts on one picture, `build_detector` finds concepts on
many, `build_tracker` follows concepts on streams and `build_video_predictor` objects in videos.
torch is imported when a model is built, not when this is imported.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalogue import MODELS, ModelSize, find_size, local_folder, sam3_network
from models.common.checks import check_text
from models.protocols import ConceptTracker

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from models.checkpoints.checkpoint import Checkpoint
    from models.checkpoints.recognise import Recognised
    from models.common.image_predictor import ImagePredictor
    from models.sam1.model import Sam1
    from models.sam2.model import Sam2
    from models.sam2.promptable import PromptableTracker
    from models.sam2.video import VideoOptions, VideoSession
    from models.sam2.video_frames import FrameSequence
    from models.sam3.network.model import Sam3
    from models.sam3.predictor import Sam3ImageDetector, Sam3ImagePredictor
    from models.sam3.tokenizer import Tokenizer
    from models.sam3.tracking.options import SessionOptions

DTYPE_NAMES = ("float32", "bfloat16", "float16")


def build_tracker(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    options: "SessionOptions | None" = None,
) -> ConceptTracker:
    """Build a streaming concept tracker; SAM 3 only.

    Args:
        name: One of :data:`models.catalogue.MODELS`; left out, the checkpoint tells.
        checkpoint: Weights in any published form, with the vocabulary beside them; the shipped or
            fetched ones when left out.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        dtype: Type of the weights, one of :data:`DTYPE_NAMES`.
        options: How the session decides.

    Raises:
        ValueError: If the name is unknown, no checkpoint is to be had, or the model knows no
            concepts.
        models.checkpoints.weights.CheckpointError: If the checkpoint does not fit.
    """
    from models.sam3.tracking.session import Sam3Session

    opened = _open(name, checkpoint, what="concepts in streams", is_able=_knows_concepts)
    model, tokenizer = _build_sam3(opened, device=device, dtype=dtype)
    return Sam3Session(model, tokenizer, options or opened.size.session)


def build_detector(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "Sam3ImageDetector":
    """Build a concept detector for pictures; SAM 3 only, for which half a file is enough.

    Arguments and errors are those of :func:`build_tracker`.
    """
    from models.sam3.predictor import Sam3ImageDetector

    opened = _open(name, checkpoint, what="concepts", is_able=_knows_concepts)
    model, tokenizer = _build_sam3(opened, device=device, dtype=dtype, needs_all=False)
    return Sam3ImageDetector(model, tokenizer, rules=opened.size.pictures)


def build_image_predictor(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "ImagePredictor[Any] | Sam3ImagePredictor":
    """Build what answers many prompts on one picture.

    Every model takes points, boxes and masks for one object each; SAM 3 takes phrases and exemplars
    for all instances of a concept, too. Arguments and errors are those of :func:`build_tracker`.
    """
    from models.sam3.predictor import Sam3ImagePredictor

    opened = _open(name, checkpoint)
    if opened.size.knows_concepts:
        model, tokenizer = _build_sam3(opened, device=device, dtype=dtype)
        return Sam3ImagePredictor(model, tokenizer, rules=opened.size.pictures)
    return _object_predictor(opened, device=device, dtype=dtype)


def build_object_predictor(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "ImagePredictor[Any]":
    """Build what answers points, boxes and masks on a picture, and nothing else; every model can.

    Arguments and errors are those of :func:`build_tracker`; no vocabulary is needed.
    """
    opened = _open(name, checkpoint)
    return _object_predictor(opened, device=device, dtype=dtype)


def _object_predictor(opened: "_Opened", *, device: str, dtype: str) -> "ImagePredictor[Any]":
    from models.common.image_predictor import ImagePredictor
    from models.sam1.model import Sam1

    model = _fill_model(opened, device=device, dtype=dtype)
    return ImagePredictor(model if isinstance(model, Sam1) else _promptable(model))


def build_video_predictor(
    name: str | None = None,
    frames: "FrameSequence | Sequence[NDArray[np.uint8]] | None" = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    options: "VideoOptions | None" = None,
) -> "VideoSession":
    """Build what follows objects that are pointed at through a video; SAM 2.1 and SAM 3.

    Arguments and errors are those of :func:`build_tracker` and
    :class:`models.sam2.video.VideoSession`. For many videos at once build
    :func:`build_promptable_tracker` once and a session for each.
    """
    from models.sam2.video import VideoSession

    tracker = build_promptable_tracker(name, checkpoint=checkpoint, device=device, dtype=dtype)
    return VideoSession(tracker, frames, options=options)


def build_promptable_tracker(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "PromptableTracker":
    """Build a tracker for any number of video sessions; see :func:`build_video_predictor`."""
    opened = _open(name, checkpoint, what="objects in videos", is_able=_follows_objects)
    return _promptable(_fill_model(opened, device=device, dtype=dtype))


def build_sam3(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "tuple[Sam3, Tokenizer]":
    """Build SAM 3's network and vocabulary, to be trained or wrapped; see :func:`build_tracker`."""
    opened = _open(name, checkpoint, what="concepts", is_able=_knows_concepts)
    return _build_sam3(opened, device=device, dtype=dtype)


def build_network(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> "Sam1 | Sam2 | Sam3":
    """Build the network alone, tensors in and tensors out; see :func:`build_tracker`."""
    opened = _open(name, checkpoint)
    return _fill_model(opened, device=device, dtype=dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What ``models inspect`` tells.

    Attributes:
        name: The model's name.
        summary: One line.
        family: Generation.
        num_parameters: All weights that the model has.
        components: Weights by component, the largest first.
        image_size: Side of the square picture in px.
        licence: Of the weights.
        hub_id: Repository on the Hugging Face Hub, or ``None``.
        checkpoint: The weights that would be loaded, or ``None``.
        layout: Whose names they carry.
        part: How much of the model they are.
        dtypes: Number of weights by type.
        num_bytes: Size of the files.
        metadata: What the weights say of themselves.
        missing: What is needed for all that the model can do, and is not there.
    """

    name: str
    summary: str
    family: str
    num_parameters: int
    components: dict[str, int]
    image_size: int
    licence: str
    hub_id: str | None
    checkpoint: Path | None = None
    layout: str | None = None
    part: str | None = None
    dtypes: dict[str, int]
    num_bytes: int | None = None
    metadata: dict[str, str]
    missing: tuple[str, ...] = ()


def describe(name: str | None = None, *, checkpoint: Path | None = None) -> ModelDescription:
    """Describe a model without reading its weights.

    Args:
        name: One of :data:`models.catalogue.MODELS`; left out, the checkpoint tells.
        checkpoint: Weights in any published form; the shipped or fetched ones when left out.

    Raises:
        ValueError: If the name is unknown, or neither is given.
        models.checkpoints.weights.CheckpointError: If the checkpoint is of no known kind.
    """
    from models.checkpoints.recognise import build_model, find_faults, of_size

    if checkpoint is None and (name is None or local_folder(find_size(name)) is None):
        if name is None:
            raise ValueError("neither a name nor a checkpoint was given; expected one of them")
        return _describe(find_size(name), build_model(of_size(name)))
    opened = _open(name, checkpoint)
    model = build_model(opened.recognised)
    missing = find_faults(model, opened.checkpoint, opened.recognised)
    if opened.size.knows_concepts:
        try:
            _open_vocabulary(opened)
        except ValueError as error:
            missing.append(str(error))
    return _describe(opened.size, model, opened=opened, missing=tuple(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    size: ModelSize
    checkpoint: "Checkpoint"
    recognised: "Recognised"


def _takes_prompts(_size: ModelSize) -> bool:
    return True  # every generation answers points, boxes and masks on pictures


def _knows_concepts(size: ModelSize) -> bool:
    return size.knows_concepts


def _follows_objects(size: ModelSize) -> bool:
    return size.follows_objects


def _open(
    name: str | None,
    checkpoint: Path | None,
    *,
    what: str = "objects on pictures",
    is_able: Callable[[ModelSize], bool] = _takes_prompts,
) -> _Opened:
    """Open the weights of a model that is able to find what is wanted; by default any is."""
    from models.checkpoints.checkpoint import open_checkpoint
    from models.checkpoints.recognise import recognise
    from models.checkpoints.weights import CheckpointError

    if name is None and checkpoint is None:
        raise ValueError("neither a name nor a checkpoint was given; expected one of them")
    if checkpoint is not None and not isinstance(checkpoint, Path):  # pyright: ignore[reportUnnecessaryIsInstance] - of whatever a caller gave
        raise ValueError(f"checkpoint is {checkpoint!r}; accepted: a pathlib.Path")
    if name is not None:
        _check_able(find_size(check_text("name", name)), what, is_able)
    opened = open_checkpoint(_weights_path(name, checkpoint))
    recognised = recognise(opened.state, source=str(opened.path))
    if name is not None and recognised.size != name:
        raise CheckpointError(
            f"checkpoint {str(opened.path)!r} holds {recognised.size}; expected {name}"
        )
    size = MODELS[recognised.size]
    _check_able(size, what, is_able)
    return _Opened(size=size, checkpoint=opened, recognised=recognised)


def _weights_path(name: str | None, checkpoint: Path | None) -> Path:
    if checkpoint is not None or name is None:
        return checkpoint or Path()
    size = find_size(name)
    folder = local_folder(size)
    if folder is None:
        raise ValueError(
            f"model {name!r} ships no weights and none are here; give a checkpoint, or fetch them "
            f"from {size.hub_id} with 'maskstream models pull {name}'"
        )
    return folder


def _check_able(size: ModelSize, what: str, is_able: Callable[[ModelSize], bool]) -> None:
    if not is_able(size):
        able = ", ".join(other.name for other in MODELS.values() if is_able(other))
        raise ValueError(f"model {size.name!r} cannot find {what}; models that can: {able}")


def _build_sam3(
    opened: _Opened, *, device: str, dtype: str, needs_all: bool = True
) -> "tuple[Sam3, Tokenizer]":
    from models.sam3.network.model import Sam3

    tokenizer = _open_vocabulary(opened)
    model = _fill_model(opened, device=device, dtype=dtype, needs_all=needs_all)
    if not isinstance(model, Sam3):
        raise TypeError(f"{opened.size.name} built a {type(model).__name__}, not SAM 3")
    return model, tokenizer


def _open_vocabulary(opened: _Opened) -> "Tokenizer":
    from models.sam3.tokenizer import Tokenizer

    text = sam3_network(opened.size.name).text
    return Tokenizer(
        opened.checkpoint.folder, context_length=text.context_length, vocab_size=text.vocab_size
    )


def _fill_model(
    opened: _Opened, *, device: str, dtype: str, needs_all: bool = True
) -> "Sam1 | Sam2 | Sam3":
    """Build a model and fill it.

    On a CPU this also sets the process's number of torch threads, where the model asks for it and
    the environment does not.
    """
    import torch

    from models.checkpoints.recognise import Part, build_model, fill
    from models.checkpoints.weights import CheckpointError

    if dtype not in DTYPE_NAMES:
        raise ValueError(f"dtype is {dtype!r}; accepted: {', '.join(DTYPE_NAMES)}")
    accepted = {Part.WHOLE} if needs_all else {Part.WHOLE, Part.DETECTOR}
    if opened.recognised.part not in accepted:
        raise CheckpointError(
            f"checkpoint {str(opened.checkpoint.path)!r} holds only the {opened.recognised.part} "
            f"of {opened.size.name}; expected {' or '.join(sorted(accepted))}"
        )
    threads = opened.size.cpu_threads
    if device == "cpu" and threads is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    model = build_model(opened.recognised)
    fill(
        model,
        opened.checkpoint,
        opened.recognised,
        device=_device(device),
        dtype=getattr(torch, dtype),
    )
    model.eval().requires_grad_(requires_grad=False)
    return model


def _device(name: str) -> "torch.device":
    import torch

    try:
        # A device that is known but is not here is told by the first tensor on it.
        return torch.empty(0, device=check_text("device", name)).device
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); accepted: a torch device that is here, "
            "such as 'cpu' or 'cuda:0'"
        ) from error


def _promptable(model: "Sam1 | Sam2 | Sam3") -> "PromptableTracker":
    """Wrap SAM 2.1, or SAM 3's tracker with SAM 3's backbone."""
    from models.sam2.model import Sam2
    from models.sam2.promptable import PromptableTracker
    from models.sam3.network.model import Sam3

    if isinstance(model, Sam2):
        return PromptableTracker(model, model.encode_pixels)
    if isinstance(model, Sam3):
        return PromptableTracker(model.tracker_model, model.encode_pixels)
    raise TypeError(f"a {type(model).__name__} has no tracker; expected SAM 2.1 or SAM 3")


def _describe(
    size: ModelSize,
    model: "torch.nn.Module",
    *,
    opened: _Opened | None = None,
    missing: tuple[str, ...] = (),
) -> ModelDescription:
    components: Counter[str] = Counter()
    for name, value in model.named_parameters():
        depth = 2 if name.startswith("detector_model.") else 1
        components[".".join(name.split(".")[:depth])] += value.numel()
    dtypes: Counter[str] = Counter()
    for value in opened.checkpoint.state.values() if opened else ():
        dtypes[str(value.dtype).removeprefix("torch.")] += value.numel()
    return ModelDescription(
        name=size.name,
        summary=size.summary,
        family=size.family,
        num_parameters=components.total(),
        components=dict(components.most_common()),
        image_size=size.image_size,
        licence=size.licence,
        hub_id=size.hub_id,
        checkpoint=opened.checkpoint.path if opened else None,
        layout=opened.recognised.layout if opened else None,
        part=opened.recognised.part if opened else None,
        dtypes=dict(dtypes),
        num_bytes=opened.checkpoint.num_bytes if opened else None,
        metadata=dict(opened.checkpoint.metadata) if opened else {},
        missing=missing,
    )
