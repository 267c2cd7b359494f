"""Names of models to what builds them.

Heavy imports happen when a model is built, not when this is imported.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.protocols import ConceptDetector, ConceptTracker

if TYPE_CHECKING:
    from models.sam3.model import Sam3
    from models.sam3.session import SessionOptions
    from models.sam3.tokenizer import Tokenizer

NANO_FOLDER = Path(__file__).parent / "sam3" / "nano"
WEIGHTS_FILE, VOCABULARY_FILE = "model.safetensors", "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be named.

    Attributes:
        name: As given in configuration.
        summary: One line for people.
        folder: Where its weights ship, or ``None`` if the user has to give a checkpoint.
        cpu_threads: Threads that suit it on a CPU, or ``None`` for torch's own choice.
    """

    name: str
    summary: str
    folder: Path | None
    cpu_threads: int | None = None


MODELS: dict[str, ModelEntry] = {
    "sam3-nano": ModelEntry(
        name="sam3-nano",
        summary="SAM 3's graph in small, trained on the synthetic world; ships with the package",
        folder=NANO_FOLDER,
        # Its products are so small that a second thread mostly waits: 17 s for the demo instead of
        # 22 s on two idle cores, but six times slower on busy ones.
        cpu_threads=1,
    ),
    "sam3": ModelEntry(
        name="sam3",
        summary="SAM 3, 848 M + 12 M parameters, 1008 px; needs a checkpoint of yours",
        folder=None,
    ),
}
MODEL_NAMES: tuple[str, ...] = tuple(MODELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What ``models inspect`` tells.

    Attributes:
        name: The model's name.
        summary: One line.
        num_parameters: Detector, tracker and necks together.
        image_size: Side of the square picture in px.
        num_queries: Most detections per phrase and frame.
        checkpoint: The weights that would be loaded, or ``None``.
        metadata: What the weights say of themselves.
    """

    name: str
    summary: str
    num_parameters: int
    image_size: int
    num_queries: int
    checkpoint: Path | None
    metadata: dict[str, str]


def build_tracker(
    name: str,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    options: "SessionOptions | None" = None,
) -> ConceptTracker:
    """Build a streaming concept tracker.

    Args:
        name: One of :data:`MODEL_NAMES`.
        checkpoint: A safetensors file with ``tokenizer.json`` beside it; the shipped weights when
            left out.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        options: How the session decides.

    Raises:
        ValueError: If the name is unknown or no checkpoint is to be had.
        models.weights.CheckpointError: If the checkpoint does not fit.
    """
    from models.sam3.presets import SESSION_OPTIONS
    from models.sam3.session import Sam3Session

    model, tokenizer = build_sam3(name, checkpoint=checkpoint, device=device)
    return Sam3Session(model, tokenizer, options or SESSION_OPTIONS[name])


def build_detector(
    name: str, *, checkpoint: Path | None = None, device: str = "cpu"
) -> ConceptDetector:
    """Build a detector for single pictures; arguments and errors as for :func:`build_tracker`."""
    from models.sam3.predictor import Sam3ImageDetector

    model, tokenizer = build_sam3(name, checkpoint=checkpoint, device=device)
    return Sam3ImageDetector(model, tokenizer)


def build_sam3(name: str, *, checkpoint: Path | None, device: str) -> "tuple[Sam3, Tokenizer]":
    """Build SAM 3 and its vocabulary; see :func:`build_tracker`.

    On a CPU this also sets the process's number of torch threads, where the model asks for it and
    the environment does not.
    """
    import torch

    from models.sam3.config import SAM3_SIZES
    from models.sam3.model import Sam3
    from models.sam3.tokenizer import Tokenizer
    from models.weights import load_strictly, read_safetensors

    path = _weights_path(name, checkpoint)
    config = SAM3_SIZES[name]
    tokenizer = Tokenizer(
        path.parent / VOCABULARY_FILE,
        context_length=config.text.context_length,
        vocab_size=config.text.vocab_size,
    )
    threads = MODELS[name].cpu_threads
    if device == "cpu" and threads is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    state = read_safetensors(path)
    with torch.device("meta"):
        model = Sam3(config)
    load_strictly(model, state, source=str(path))
    return model.to(torch.device(device)).eval().requires_grad_(requires_grad=False), tokenizer


def describe(name: str, *, checkpoint: Path | None = None) -> ModelDescription:
    """Describe a model without loading its weights. Raises ``ValueError`` for an unknown name."""
    import torch
    from safetensors import safe_open

    from models.sam3.config import SAM3_SIZES
    from models.sam3.model import Sam3

    entry = _entry(name)
    path = checkpoint or (entry.folder / WEIGHTS_FILE if entry.folder else None)
    config = SAM3_SIZES[name]
    with torch.device("meta"):
        model = Sam3(config)
    metadata: dict[str, str] = {}
    if path is not None and path.is_file():
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    return ModelDescription(
        name=name,
        summary=entry.summary,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        image_size=config.vision.image_size,
        num_queries=config.detector.num_queries,
        checkpoint=path,
        metadata=metadata,
    )


def _entry(name: str) -> ModelEntry:
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}")
    return MODELS[name]


def _weights_path(name: str, checkpoint: Path | None) -> Path:
    entry = _entry(name)
    if checkpoint is not None:
        return checkpoint
    if entry.folder is None:
        raise ValueError(f"model {name!r} ships no weights; give a checkpoint, a .safetensors file")
    return entry.folder / WEIGHTS_FILE


__all__: Sequence[str] = [
    "MODELS",
    "MODEL_NAMES",
    "ModelDescription",
    "ModelEntry",
    "build_detector",
    "build_sam3",
    "build_tracker",
    "describe",
]
