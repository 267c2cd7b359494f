"""``torch.compile`` takes every part whole, without graph breaks, and gives the eager numbers.

Inductor sums in another order and fuses, and layers of few rows are products of single rows where
nothing is compiled; 1e-4 is what a few layers make of fp32's 6e-8.
"""

import shutil

import pytest
import torch

from tests.models.graphs import find_graph, make_inputs, worst_error

PARTS = [
    ("sam1", "encoder"),
    ("sam1", "decoder"),
    ("sam2", "encoder"),
    ("sam2", "decoder"),
    ("sam2", "step"),
    ("sam3", "encoder"),
    ("sam3", "text"),
    ("sam3", "detector"),
]


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(1)
    torch.compiler.reset()
    with torch.no_grad():
        yield
    torch.compiler.reset()


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_part_is_one_graph(family, name):
    graph = find_graph(family, name)
    inputs = make_inputs(graph, objects=2, points=3).values()
    compiled = torch.compile(graph.module, fullgraph=True, backend="eager")
    assert worst_error(compiled(*inputs), graph.module(*inputs)) <= 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")  # of inductor's own making
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(("family", "name"), PARTS)
def test_inductor_gives_the_same_numbers(family, name):
    graph = find_graph(family, name)
    inputs = make_inputs(graph, objects=2, points=3).values()
    compiled = torch.compile(graph.module, fullgraph=True)
    assert worst_error(compiled(*inputs), graph.module(*inputs)) <= 1e-4
