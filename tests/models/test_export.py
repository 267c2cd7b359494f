"""``torch.export`` and ONNX: any number of objects and points, eager's numbers."""

import logging

import onnxruntime
import pytest
import torch

from models.catalogue import NANO_FOLDER
from models.export import export_model, export_onnx, graphs_of
from tests.models.graphs import BUILDERS, export_program, find_graph, make_inputs, worst_error

SIZES = [(1, 1), (5, 2), (3, 7)]
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("sam1", "encoder"),
        ("sam3", "encoder"),
        pytest.param("sam1", "decoder", marks=slow),
        pytest.param("sam2", "encoder", marks=slow),
        pytest.param("sam2", "decoder", marks=slow),
        pytest.param("sam2", "step", marks=slow),
        pytest.param("sam3", "text", marks=slow),
        pytest.param("sam3", "detector", marks=slow),
    ],
)
def test_strict_export_leaves_sizes_open(family, name):
    graph = find_graph(family, name)
    program = export_program(graph).module()
    for objects, points in SIZES:
        inputs = make_inputs(graph, objects, points).values()
        # An object score near 0 shows how few rows are multiplied; see models.common.mlp.RowLinear.
        assert worst_error(program(*inputs), graph.module(*inputs)) <= 1e-4


@pytest.mark.parametrize(
    "family", ["sam1", pytest.param("sam2", marks=slow), pytest.param("sam3", marks=slow)]
)
def test_onnx_gives_the_same_numbers(family, tmp_path):
    for graph in graphs_of(BUILDERS[family]()):
        part = export_onnx(graph, tmp_path / f"{graph.name}.onnx")
        session = onnxruntime.InferenceSession(part.file)
        assert [item.name for item in session.get_inputs()] == list(graph.inputs)
        for objects, points in SIZES:
            inputs = make_inputs(graph, objects, points)
            arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
            found = tuple(torch.from_numpy(array) for array in session.run(None, arrays))
            assert worst_error(found, graph.module(*inputs.values())) <= 1e-3


def test_unknown_part_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="no part 'head'; accepted: encoder, text, detector"):
        export_model(None, tmp_path / "onnx", checkpoint=NANO_FOLDER, parts=["text", "head"])
    assert not (tmp_path / "onnx").exists()
