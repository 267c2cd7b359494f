"""The whole family at its smallest sizes as graphs of tensors, with inputs to run them on."""

import torch

from models.export import OBJECTS, Graph, TrackingStep, graphs_of
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
