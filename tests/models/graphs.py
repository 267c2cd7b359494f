"""The whole family at its smallest sizes as graphs of tensors, with inputs to run them on."""

import torch
from torch import nn

from models.export import OBJECTS, Graph, graphs_of
from models.sam2.memory_attention import MemoryTokens
from models.sam2.outputs import TrackerFeatures
from models.sam3.network.model import Sam3
from tests.models.tiny import TINY
from tests.models.tiny_sam1 import build_tiny_sam1
from tests.models.tiny_sam2 import make_model


def build_sam3():
    torch.manual_seed(0)
    return Sam3(TINY).eval().requires_grad_(requires_grad=False)


BUILDERS = {"sam1": build_tiny_sam1, "sam2": lambda: make_model().tracker, "sam3": build_sam3}


def find_graph(family, name):
    if name == "step":
        return tracking_graph()
    return next(graph for graph in graphs_of(BUILDERS[family]()) if graph.name == name)


class TrackingStep(nn.Module):
    """One tracking step of B objects on one frame, of SAM 2.1 or SAM 3: memories in, memories out.

    Inputs are the frame's top, fine0 and fine1 as for ``models.export.Sam2Decoder``, and memory,
    memory_pos (B, K, M) and is_valid (B, K), bool, laid out as in ``MemoryTokens``: first
    ``num_maps`` maps, then pointers, with false for padding.
    Outputs are mask_logits (B, 1, 4g, 4g), object_score_logits (B, 1), predicted_iou (B,), pointer
    (B, C) and spatial (B, M, g, g), the new memory.
    """

    def __init__(self, tracker, num_maps):
        super().__init__()
        self.tracker = tracker
        self.num_maps = num_maps

    def forward(self, top, fine0, fine1, memory, memory_pos, is_valid):
        features = TrackerFeatures(top=top, fine0=fine0, fine1=fine1)
        tokens = MemoryTokens(
            tokens=memory, pos=memory_pos, num_maps=self.num_maps, is_valid=is_valid
        )
        of_first = torch.zeros_like(is_valid[:, 0], dtype=torch.int64)
        found = self.tracker.follow_tokens(features, of_first, tokens)
        spatial = self.tracker.encode_memory(
            features,
            of_first,
            found.mask_logits,
            found.object_score_logits,
            binarize=torch.zeros_like(is_valid[:, 0]),
        )
        return (
            found.mask_logits,
            found.object_score_logits,
            found.predicted_iou,
            found.pointer,
            spatial,
        )


def export_program(graph):
    """Trace a graph; what is data-dependent in it would be an error."""
    return torch.export.export(
        graph.module,
        tuple(graph.inputs.values()),
        dynamic_shapes=graph.dynamic_shapes,
        strict=True,
    )


def tracking_graph(num_maps=2, num_pointers=1):
    """One step of two objects, of which the second has a memory less."""
    tracker = make_model().tracker
    dim, width = tracker.config.hidden_dim, tracker.config.memory_dim
    length = num_maps * 64 + num_pointers * dim // width
    is_valid = torch.ones(2, length, dtype=torch.bool)
    is_valid[1, 64:128] = False
    return Graph(
        name="step",
        module=TrackingStep(tracker, num_maps).eval(),
        inputs={
            "top": torch.randn(1, dim, 8, 8),
            "fine0": torch.randn(1, dim // 8, 32, 32),
            "fine1": torch.randn(1, dim // 4, 16, 16),
            "memory": torch.randn(2, length, width),
            "memory_pos": torch.randn(2, length, width),
            "is_valid": is_valid,
        },
        outputs=("mask_logits", "object_score_logits", "predicted_iou", "pointer", "spatial"),
        open_dims={name: {0: OBJECTS} for name in ("memory", "memory_pos", "is_valid")},
    )


def make_inputs(graph, objects, points):
    """Random inputs of the graph's shapes, for so many objects and points."""
    inputs = {}
    for name, example in graph.inputs.items():
        shape = list(example.shape)
        for axis, dim in graph.open_dims.get(name, {}).items():
            shape[axis] = objects if dim is OBJECTS else points
        inputs[name] = torch.rand(shape).to(example.dtype)
        if not example.is_floating_point():
            inputs[name] = torch.randint(1, 3, shape).to(example.dtype)
    return inputs


def as_tuple(output):
    return output if isinstance(output, tuple) else (output,)


def worst_error(actual, expected):
    """The largest relative L2 error of several outputs."""
    pairs = zip(as_tuple(actual), as_tuple(expected), strict=True)
    return max(float((a.float() - e.float()).norm() / e.float().norm()) for a, e in pairs)
