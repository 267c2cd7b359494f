"""Models as graphs of tensors alone, and as ONNX.

A model becomes a few graphs, cut where results are worth keeping: what depends on the picture, on
the phrase, and on the prompt. All numbers are of the model's own input square: shares of it (0 … 1)
for points and boxes, logits for masks. The refiner of outlines is left out: it works on the picture
itself, see :mod:`models.sam3.network.refiner`.

Shape legend:
    N pictures, S side of the input in px, g tokens along it, C width, B objects or (picture,
    concept) pairs, P points or boxes of each, T text tokens, Q queries.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from typing_extensions import override

from models.build import build_network
from models.common.boxes import cxcywh_to_xyxy
from models.common.prompt_encoder import PromptEncoder
from models.sam1.model import Sam1
from models.sam2.model import Sam2
from models.sam2.tracker import MemoryTracker
from models.sam3.network.detector import Detector
from models.sam3.network.exemplars import Exemplars
from models.sam3.network.model import Sam3
from models.sam3.network.text import TextFeatures
from models.sam3.network.vision import VisionEncoder, VisionFeatures

OPSET = 18
# Dimensions that a graph leaves open. One object and several take the same way through the models.
OBJECTS, POINTS = Dim("objects", min=1, max=4096), Dim("points", min=1, max=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One part of a model, ready to be exported.

    Attributes:
        name: Such as ``decoder``; the name of its ONNX file.
        module: Takes the inputs by position and gives a tensor or a tuple of tensors.
        inputs: Names and examples of the inputs, in order.
        outputs: Names of the outputs, in order.
        open_dims: Dimensions of the inputs that may be of any size.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    open_dims: Mapping[str, Mapping[int, Dim]]

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Open dimensions of each input, as ``torch.export`` takes them."""
        return tuple(dict(self.open_dims.get(name, {})) for name in self.inputs)

    def shape_of(self, name: str) -> tuple[int | str, ...]:
        """Return an input's shape, with names for open dimensions."""
        is_open = self.open_dims.get(name, {})
        shape = enumerate(self.inputs[name].shape)
        return tuple(is_open[axis].__name__ if axis in is_open else size for axis, size in shape)


class Sam1Encoder(nn.Module):
    """Images (N, 3, S, S), normalised and padded, to embedding (N, C, g, g)."""

    def __init__(self, model: Sam1) -> None:
        super().__init__()
        self.vision_encoder = model.vision_encoder

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.vision_encoder(images)


class Sam1Decoder(nn.Module):
    """Prompts of B objects on one picture to all four masks of each.

    Inputs are embedding (1, C, g, g), points (B, P, 2), labels (B, P): 1 on the object, 0 off it, 2
    and 3 the corners of a box, -1 padding (one such point has to close points without a box),
    mask_logits (B, 1, 4g, 4g), and has_mask (B,), 1.0 where they count, else 0.0.
    Outputs are mask_logits (B, 4, 4g, 4g), the single mask and the three of an ambiguous prompt,
    and predicted_iou (B, 4).
    """

    def __init__(self, model: Sam1) -> None:
        super().__init__()
        self.shared_image_embedding = model.shared_image_embedding
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder

    @override
    def forward(
        self,
        embedding: Tensor,
        points: Tensor,
        labels: Tensor,
        mask_logits: Tensor,
        has_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        grid = embedding.shape[-1]
        sparse = self.prompt_encoder.points(points, labels, grid, closes=False)
        decoded = self.mask_decoder(
            embedding.expand(points.shape[0], -1, -1, -1),
            self.shared_image_embedding.image(grid),
            sparse,
            dense_prompt(self.prompt_encoder, mask_logits, has_mask),
        )
        return decoded.mask_logits, decoded.iou


class Sam2Encoder(nn.Module):
    """Images (N, 3, S, S), normalised, to top (N, C, g, g), fine0 at 4g, fine1 at 2g."""

    def __init__(self, model: Sam2) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.model.encode_image(images)
        return features.top, features.fine0, features.fine1


class Sam2Decoder(nn.Module):
    """As :class:`Sam1Decoder` for SAM 2.1, which closes points itself.

    The features of one picture, top (1, C, g, g), fine0 (1, C / 8, 4g, 4g) and fine1 (1, C / 4, 2g,
    2g), stand for the embedding; object_score_logits (B, 1) are a third output.
    """

    def __init__(self, tracker: MemoryTracker) -> None:
        super().__init__()
        self.shared_image_embedding = tracker.shared_image_embedding
        self.prompt_encoder = tracker.prompt_encoder
        self.mask_decoder = tracker.mask_decoder
        self.no_memory_embedding = tracker.no_memory_embedding

    @override
    def forward(
        self,
        top: Tensor,
        fine0: Tensor,
        fine1: Tensor,
        points: Tensor,
        labels: Tensor,
        mask_logits: Tensor,
        has_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grid = top.shape[-1]
        image = top + self.no_memory_embedding[..., None].movedim(2, 1)
        image, fine0, fine1 = (x.expand(points.shape[0], -1, -1, -1) for x in (image, fine0, fine1))
        decoded = self.mask_decoder(
            image,
            self.shared_image_embedding.image(grid),
            self.prompt_encoder.points(points, labels, grid),
            dense_prompt(self.prompt_encoder, mask_logits, has_mask),
            (fine0, fine1),
        )
        return decoded.mask_logits, decoded.iou, decoded.object_score_logits


class Sam3Encoder(nn.Module):
    """Images (N, 3, S, S) in -1 … 1 to the detector's pyramid (N, D, 4g, 4g), 2g and g."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(images).detector_pyramid


class Sam3Text(nn.Module):
    """Token ids (B, T), int64, to text (B, T, D) and text_valid (B, T), bool."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    @override
    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        text = self.detector.encode_text(token_ids)
        return text.tokens, text.is_valid


class Sam3Detector(nn.Module):
    """B concepts on one picture to scored boxes and masks.

    Inputs are the three levels of :class:`Sam3Encoder` for one picture, text and text_valid of
    :class:`Sam3Text`, and exemplar boxes (B, P, 4): centre, width and height, with box_positive and
    box_valid (B, P), bool; valid boxes come first, and a concept may have none.
    Outputs are scores (B, Q), which are joint with the presence (B,) of the concept, both 0 … 1,
    boxes_xyxy (B, Q, 4) and mask_logits (B, Q, 4g, 4g).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    @override
    def forward(
        self,
        fine0: Tensor,
        fine1: Tensor,
        top: Tensor,
        text: Tensor,
        text_valid: Tensor,
        boxes: Tensor,
        box_positive: Tensor,
        box_valid: Tensor,
    ) -> tuple[Tensor, ...]:
        output = self.detector(
            VisionFeatures(trunk=top, detector_pyramid=(fine0, fine1, top)),
            torch.zeros_like(text_valid[:, 0], dtype=torch.int64),
            TextFeatures(tokens=text, is_valid=text_valid),
            Exemplars(boxes_cxcywh=boxes, is_positive=box_positive, is_valid=box_valid),
        )
        return (
            output.joint_scores(),
            output.presence_logits[-1].sigmoid(),
            cxcywh_to_xyxy(output.boxes_cxcywh[-1]),
            self.detector.masks(output),
        )


def dense_prompt(encoder: PromptEncoder, mask_logits: Tensor, has_mask: Tensor) -> Tensor:
    """Dense prompt (B, C, g, g) of masks where ``has_mask`` (B,) is 1.0, of none where 0.0."""
    weight = has_mask[:, None, None, None]
    return weight * encoder.mask(mask_logits) + (1 - weight) * encoder.no_mask()


def graphs_of(model: Sam1 | Sam2 | Sam3) -> tuple[Graph, ...]:
    """Cut a model into graphs: encoder and decoder; for SAM 3 encoder, text and detector."""
    match model:
        case Sam1():
            return _sam1_graphs(model)
        case Sam2():
            return _sam2_graphs(model)
        case Sam3():
            return _sam3_graphs(model.detector_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPart:
    """A part of a model as an ONNX file; an open dimension is given by its name.

    Attributes:
        name: Such as ``decoder``.
        file: The graph; its weights lie beside it in ``<name>.onnx.data``.
        inputs: Shape of each input, in order.
        outputs: Names of the outputs, in order.
    """

    name: str
    file: Path
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]


def export_model(
    name: str | None,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    parts: Sequence[str] = (),
) -> tuple[ExportedPart, ...]:
    """Write a model as ONNX, in fp32; needs the extra ``export`` of this package.

    Args:
        name: One of :data:`models.catalogue.MODELS`; left out, the checkpoint tells.
        folder: Made if missing.
        checkpoint: Weights in any published form; the shipped or fetched ones when left out.
        parts: Which graphs; all when left out. They are ``encoder`` and ``decoder``, for SAM 3
            ``encoder``, ``text`` and ``detector``.

    Raises:
        ModuleNotFoundError: If the extra is missing.
        ValueError: If there is no such model, checkpoint or part.
    """
    # Before seconds are spent on a model; the exporter itself tells of it late and otherwise.
    for module in ("onnx", "onnxscript"):
        import_module(module)
    graphs = graphs_of(build_network(name, checkpoint=checkpoint))
    unknown = set(parts) - {graph.name for graph in graphs}
    if unknown:
        known = ", ".join(graph.name for graph in graphs)
        raise ValueError(f"no part {min(unknown)!r}; accepted: {known}")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [graph for graph in graphs if not parts or graph.name in parts]
    return tuple(export_onnx(graph, folder / f"{graph.name}.onnx") for graph in chosen)


def export_onnx(graph: Graph, file: Path) -> ExportedPart:
    """Write one graph as ONNX; inputs and outputs bear the names in the graph's class."""
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of its own old habits, and of two inputs with one open dimension.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", category=UserWarning)
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            file,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=graph.dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    return ExportedPart(
        name=graph.name,
        file=file,
        inputs={name: graph.shape_of(name) for name in graph.inputs},
        outputs=graph.outputs,
    )


def _prompts(mask_side: int) -> dict[str, Tensor]:
    """Examples of the prompts' inputs; sizes of open dimensions must not be special (0 or 1)."""
    return {
        "points": torch.tensor([[[0.3, 0.4], [0.2, 0.6], [0.0, 0.0]]] * 2),
        "labels": torch.tensor([[1, 0, -1], [2, 3, -1]]),
        "mask_logits": torch.zeros(2, 1, mask_side, mask_side),
        "has_mask": torch.tensor([0.0, 1.0]),
    }


_PROMPT_DIMS: dict[str, dict[int, Dim]] = {
    "points": {0: OBJECTS, 1: POINTS},
    "labels": {0: OBJECTS, 1: POINTS},
    "mask_logits": {0: OBJECTS},
    "has_mask": {0: OBJECTS},
}


def _sam1_graphs(model: Sam1) -> tuple[Graph, ...]:
    vision = model.config.vision
    return (
        Graph(
            name="encoder",
            module=Sam1Encoder(model).eval(),
            inputs={"images": torch.zeros(1, 3, vision.image_size, vision.image_size)},
            outputs=("embedding",),
            open_dims={},
        ),
        Graph(
            name="decoder",
            module=Sam1Decoder(model).eval(),
            inputs={
                "embedding": torch.zeros(1, vision.neck_dim, vision.grid, vision.grid),
                **_prompts(model.mask_side),
            },
            outputs=("mask_logits_out", "predicted_iou"),
            open_dims=_PROMPT_DIMS,
        ),
    )


def _sam2_graphs(model: Sam2) -> tuple[Graph, ...]:
    config = model.config
    dim, grid = config.hidden_dim, config.image_size // config.patch_size
    return (
        Graph(
            name="encoder",
            module=Sam2Encoder(model).eval(),
            inputs={"images": torch.zeros(1, 3, config.image_size, config.image_size)},
            outputs=("top", "fine0", "fine1"),
            open_dims={},
        ),
        Graph(
            name="decoder",
            module=Sam2Decoder(model).eval(),
            inputs={
                "top": torch.zeros(1, dim, grid, grid),
                "fine0": torch.zeros(1, dim // 8, 4 * grid, 4 * grid),
                "fine1": torch.zeros(1, dim // 4, 2 * grid, 2 * grid),
                **_prompts(4 * grid),
            },
            outputs=("mask_logits_out", "predicted_iou", "object_score_logits"),
            open_dims=_PROMPT_DIMS,
        ),
    )


def _sam3_graphs(detector: Detector) -> tuple[Graph, ...]:
    vision, text, dim = detector.config.vision, detector.config.text, detector.config.detector.dim
    of_concept, of_box = {0: OBJECTS}, {0: OBJECTS, 1: POINTS}
    grid, length = vision.grid, text.context_length
    return (
        Graph(
            name="encoder",
            module=Sam3Encoder(detector.vision_encoder).eval(),
            inputs={"images": torch.zeros(1, 3, vision.image_size, vision.image_size)},
            outputs=("fine0", "fine1", "top"),
            open_dims={},
        ),
        Graph(
            name="text",
            module=Sam3Text(detector).eval(),
            inputs={"token_ids": torch.ones(2, length, dtype=torch.int64)},
            outputs=("text", "text_valid"),
            open_dims={"token_ids": of_concept},
        ),
        Graph(
            name="detector",
            module=Sam3Detector(detector).eval(),
            inputs={
                "fine0": torch.zeros(1, vision.neck_dim, 4 * grid, 4 * grid),
                "fine1": torch.zeros(1, vision.neck_dim, 2 * grid, 2 * grid),
                "top": torch.zeros(1, vision.neck_dim, grid, grid),
                "text": torch.zeros(2, length, dim),
                "text_valid": torch.ones(2, length, dtype=torch.bool),
                "boxes": torch.full((2, 3, 4), 0.5),
                "box_positive": torch.ones(2, 3, dtype=torch.bool),
                "box_valid": torch.ones(2, 3, dtype=torch.bool),
            },
            outputs=("scores", "presence", "boxes_xyxy", "mask_logits"),
            open_dims={
                "text": of_concept,
                "text_valid": of_concept,
                "boxes": of_box,
                "box_positive": of_box,
                "box_valid": of_box,
            },
        ),
    )
