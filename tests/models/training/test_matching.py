"""Assignment of queries to objects against all permutations, and the losses at known points."""

from itertools import permutations

import pytest
import torch

from models.common.boxes import cxcywh_to_xyxy, generalized_iou
from models.training.matching import dice_loss, focal_bce, match


def make_case(num_queries, counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(counts), num_queries, generator=generator)
    boxes = 0.1 + 0.4 * torch.rand(len(counts), num_queries, 4, generator=generator)
    targets = 0.1 + 0.4 * torch.rand(sum(counts), 4, generator=generator)
    return logits, boxes, targets


def cost(logits, boxes, targets, queries):
    """What assigning ``queries`` to the targets, one each, costs."""
    total = 0.0
    for query, target in zip(queries, targets, strict=True):
        overlap = generalized_iou(cxcywh_to_xyxy(boxes[query]), cxcywh_to_xyxy(target))
        distance = (boxes[query] - target).abs().sum()
        total += float(5 * distance - 2 * overlap - 2 * logits[query].sigmoid())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_assignment_costs_the_least_of_all(seed):
    logits, boxes, targets = make_case(5, [3], seed)
    found = match(logits, boxes, targets, [3], repeats=1)
    chosen = found.query[found.target.argsort()].tolist()
    least = min(cost(logits[0], boxes[0], targets, p) for p in permutations(range(5), 3))
    assert cost(logits[0], boxes[0], targets, chosen) == pytest.approx(least, abs=1e-4)


def test_objects_stay_with_their_pair():
    counts = [2, 0, 1]
    found = match(*make_case(6, counts), counts, repeats=1)
    assert sorted(zip(found.pair.tolist(), found.target.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (2, 2),
    ]


@pytest.mark.parametrize(("repeats", "times"), [(1, 1), (2, 2), (9, 3)])
def test_object_gets_its_repeats_and_no_query_twice(repeats, times):
    found = match(*make_case(6, [2]), [2], repeats=repeats)
    assert found.target.bincount().tolist() == [times, times]
    assert len(found.query.unique()) == len(found.query)


def test_nothing_to_match_gives_empty_indices():
    found = match(*make_case(4, [0, 0]), [0, 0], repeats=4)
    assert found.pair.shape == found.query.shape == found.target.shape == (0,)
    assert found.pair.dtype == torch.int64


def test_focal_loss_without_focus_is_half_of_cross_entropy():
    logits, targets = torch.randn(20), torch.randint(2, (20,)).float()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal_bce(logits, targets, gamma=0.0, alpha=0.5), plain / 2)


def test_focal_loss_spares_what_is_already_right():
    easy, hard = focal_bce(torch.tensor([4.0, -4.0]), torch.ones(2))
    assert easy < 1e-4 * hard


def test_dice_is_nought_for_equal_masks_and_one_for_disjoint():
    truth = torch.zeros(2, 8, 8)
    truth[:, :4] = 1
    logits = 40 * truth - 20
    logits[1] = -logits[1]
    same, disjoint = dice_loss(logits, truth)
    assert float(same) == pytest.approx(0.0, abs=1e-6)
    assert float(disjoint) == pytest.approx(1 - 1 / 65, abs=1e-6)
