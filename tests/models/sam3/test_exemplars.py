"""Exemplar tokens of SAM 3, points among them: transformers has no oracle for those."""

import math
from dataclasses import replace

import pytest
import torch

from models.common.positional import sine_grid
from models.sam3.network.exemplars import ExemplarEncoder, Exemplars, PointExemplars
from tests.parity.closeness import relative_error
from tests.parity.sam3_reference import SMALL

DIM, GRID = SMALL.detector.dim, 6


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    module = ExemplarEncoder(replace(SMALL.detector, point_exemplars=True)).eval()
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return module.requires_grad_(False)


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, DIM, GRID, GRID, generator=torch.Generator().manual_seed(1))


def sine(value):
    """Formula of the paper's position code for one coordinate, written out."""
    angles = [value * 2 * math.pi / 10000 ** (2 * (i // 2) / (DIM // 2)) for i in range(DIM // 2)]
    return torch.tensor([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)])


def bilinear(cells, x, y):
    """Sample (D, G, G) at normalised x, y; a cell's centre is at half a cell, outside is zero."""
    column, row = x * GRID - 0.5, y * GRID - 0.5
    left, top = math.floor(column), math.floor(row)
    total = torch.zeros(DIM)
    for r in (top, top + 1):
        for c in (left, left + 1):
            if 0 <= r < GRID and 0 <= c < GRID:
                total += (1 - abs(row - r)) * (1 - abs(column - c)) * cells[:, r, c]
    return total


def token_of_point(encoder, image, x, y, label):
    normed = encoder.vision_layer_norm(image.permute(1, 2, 0)).permute(2, 0, 1)
    return (
        encoder.points_direct_project(torch.tensor([x, y]))
        + encoder.points_pool_project(bilinear(normed, x, y))
        + encoder.points_pos_enc_project(torch.cat((sine(x), sine(y))))
        + encoder.label_embed.weight[label]
    )


def make_exemplars(points, labels, boxes=None):
    valid = torch.ones(labels.shape, dtype=torch.bool)
    boxes = torch.zeros(len(points), 0, 4) if boxes is None else boxes
    is_positive = torch.ones(boxes.shape[:2], dtype=torch.bool)
    return Exemplars(
        boxes_cxcywh=boxes,
        is_positive=is_positive,
        is_valid=is_positive,
        points=PointExemplars(xy=points, is_positive=labels, is_valid=valid),
    )


# In the middle, at the very corners (half of the samples are outside), on a cell's edge.
PLACES = [(0.41, 0.73, 1), (0.0, 0.0, 0), (1.0, 1.0, 1), (0.5, 1 / 3, 0)]


def test_points_are_the_sum_of_place_content_sine_and_label(encoder, image):
    points = torch.tensor([[p[:2] for p in PLACES]] * 2)
    labels = torch.tensor([[bool(p[2]) for p in PLACES]] * 2)
    normed = encoder.vision_layer_norm(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    tokens = encoder._encode_points(make_exemplars(points, labels).points, normed)
    for b in range(2):
        for k, place in enumerate(PLACES):
            expected = token_of_point(encoder, image[b], *place)
            assert relative_error(tokens[b, k], expected) < 1e-5


def test_points_come_first_then_boxes_and_the_picture_token_last(encoder, image):
    points, box = torch.tensor([[[0.4, 0.7]]] * 2), torch.tensor([[[0.5, 0.5, 0.2, 0.4]]] * 2)
    exemplars = make_exemplars(points, torch.tensor([[True]] * 2), box)
    seen = []
    handle = encoder.final_proj.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    tokens, is_valid = encoder(exemplars, image, sine_grid(GRID, GRID, DIM, image.device))
    handle.remove()
    assert tokens.shape == (2, 3, DIM)
    assert is_valid.all()
    assert relative_error(seen[0][1, 0], token_of_point(encoder, image[1], 0.4, 0.7, 1)) < 1e-5
    assert torch.equal(seen[0][:, 2], encoder.cls_embed.weight.expand(2, -1))


def test_padding_points_change_nothing(encoder, image):
    place = sine_grid(GRID, GRID, DIM, image.device)
    points, labels = torch.rand(2, 3, 2), torch.tensor([[True, False, True]] * 2)
    padded = make_exemplars(points, labels)
    padded.points.is_valid[:, 1:] = False
    alone, _ = encoder(make_exemplars(points[:, :1], labels[:, :1]), image, place)
    tokens, is_valid = encoder(padded, image, place)
    assert relative_error(tokens[is_valid], alone.flatten(0, 1)) < 1e-5


def test_published_size_of_the_point_weights():
    with torch.device("meta"):
        plain, full = (
            ExemplarEncoder(replace(SMALL.detector, dim=256, num_heads=8, point_exemplars=flag))
            for flag in (False, True)
        )
    names = set(full.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[0] for name in names} == {
        f"points_{kind}_project" for kind in ("direct", "pool", "pos_enc")
    }
    assert sum(full.state_dict()[name].numel() for name in names) == 132_352
