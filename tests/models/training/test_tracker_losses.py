import pytest
import torch

from models.sam2.outputs import TrackOutput
from models.training.tracker_losses import (
    TrackerLossWeights,
    TrackerTargets,
    clip_losses,
    mask_iou,
)

WEIGHTS = TrackerLossWeights()


def step(masks, ious, score):
    return TrackOutput(
        mask_logits=masks[:, :1],
        object_score_logits=score,
        predicted_iou=ious[:, 0],
        pointer=torch.zeros(len(masks), 4),
        all_mask_logits=masks,
        all_ious=ious,
    )


def square(batch=1):
    mask = torch.zeros(batch, 8, 8)
    mask[:, 2:6, 2:6] = 1
    return mask


def test_a_perfect_step_costs_next_to_nothing():
    logits = (square()[:, None] * 40 - 20).expand(1, 3, 8, 8)
    output = step(logits, torch.ones(1, 3), torch.full((1, 1), 20.0))
    target = TrackerTargets(masks=square(), is_visible=torch.tensor([True]))
    losses = clip_losses([output], [target], WEIGHTS)
    assert float(sum(losses.values())) == pytest.approx(0, abs=1e-3)


def test_only_the_closest_mask_learns_the_mask():
    logits = torch.randn(1, 3, 8, 8)
    logits[:, 1] = square() * 8 - 4
    logits.requires_grad_()
    output = step(logits, torch.rand(1, 3), torch.zeros(1, 1))
    target = TrackerTargets(masks=square(), is_visible=torch.tensor([True]))
    sum(clip_losses([output], [target], WEIGHTS).values()).backward()
    assert [bool(g.any()) for g in logits.grad[0]] == [False, True, False]


def test_an_absent_object_teaches_only_its_absence():
    logits, ious = torch.randn(2, 3, 8, 8, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    score = torch.zeros(2, 1, requires_grad=True)
    target = TrackerTargets(masks=square(2), is_visible=torch.tensor([True, False]))
    sum(clip_losses([step(logits, ious, score)], [target], WEIGHTS).values()).backward()
    assert not logits.grad[1].any()
    assert not ious.grad[1].any()
    assert score.grad[1] > 0 > score.grad[0]


def test_iou_counts_pixels():
    truth = square()[0]
    shifted = torch.roll(truth, 2, dims=0) - 0.5
    assert float(mask_iou(shifted, truth)) == pytest.approx(8 / 24)
    assert float(mask_iou(-torch.ones(8, 8), torch.zeros(8, 8))) == 1.0


def test_frames_and_targets_must_pair_up():
    with pytest.raises(ValueError, match="no frames"):
        clip_losses([], [], WEIGHTS)
