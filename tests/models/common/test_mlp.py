"""Layers for few rows."""

import pytest
import torch
from torch import nn

from models.common.elementwise import elementwise
from models.common.mlp import NumberedMLP, RowLinear, StackedMLP


@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (2, 5, 64)])
def test_rows_are_those_of_an_ordinary_layer(shape):
    torch.manual_seed(0)
    layer, x = RowLinear(64, 48), torch.randn(shape)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("channels", [1, 4, 64, 256])
def test_a_row_does_not_depend_on_the_others(channels):
    torch.manual_seed(0)
    layer, x = RowLinear(64, channels), torch.randn(33, 64)
    whole = layer(x)
    for first in range(33):
        for last in range(first + 1, min(first + 9, 34)):
            assert torch.equal(layer(x[first:last].clone()), whole[first:last])


def test_all_layers_of_a_perceptron_are_of_the_kind_asked_for():
    numbered = NumberedMLP(4, 4, 2, 3, linear=RowLinear)
    stacked = StackedMLP(4, 4, 2, depth=3, linear=RowLinear)
    for model in (numbered, stacked):
        layers = [one for one in model.modules() if isinstance(one, nn.Linear)]
        assert {type(one) for one in layers} == {RowLinear}
        assert len(layers) == 3


@pytest.mark.parametrize("function", [torch.sigmoid, torch.log, torch.tanh])
def test_an_element_does_not_depend_on_how_many_there_are(function):
    x = torch.rand(300, generator=torch.Generator().manual_seed(0))
    whole = elementwise(function, x)
    torch.testing.assert_close(whole, function(x))
    for first in range(0, 300, 7):
        for count in (1, 15, 16, 17, 31, 33, 100):
            part = x[first : first + count].clone()
            assert torch.equal(elementwise(function, part), whole[first : first + count])


def test_elements_keep_their_shape():
    x = torch.rand(2, 3, 5)
    assert torch.equal(elementwise(torch.sigmoid, x[:, 1]), elementwise(torch.sigmoid, x)[:, 1])
