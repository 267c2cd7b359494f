"""Tracker properties that hold for any weights."""

import pytest
import torch

from models.catalogue import sam3_network
from models.sam2.memory_bank import MemoryBank
from models.sam2.tracker import ABSENT_LOGIT, MemoryTracker

CONFIG = sam3_network("sam3-nano").tracker


@pytest.fixture(scope="module")
def tracker():
    torch.manual_seed(0)
    return MemoryTracker(CONFIG).eval()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def features_of(tracker, grid, frames=1):
    sides = (4 * grid, 2 * grid, grid)
    return tracker.prepare_features(
        tuple(torch.randn(frames, CONFIG.hidden_dim, s, s) for s in sides)
    )


def bank_with(tracked, grid, conditioning=1):
    bank = MemoryBank(CONFIG)
    for t in range(conditioning + tracked):
        write = bank.write_conditioning if t < conditioning else bank.write
        write(t, torch.randn(CONFIG.memory_dim, grid, grid), torch.randn(CONFIG.hidden_dim))
    return bank


@pytest.mark.parametrize("grid", [8, 12])
def test_a_batch_equals_its_objects_one_by_one(tracker, grid):
    features, frames = features_of(tracker, grid, 2), torch.tensor([1, 0, 0, 1])
    banks = [bank_with(n, grid, c) for n, c in ((0, 1), (3, 1), (20, 4), (1, 2))]
    with torch.no_grad():
        batch = tracker.track(features, frames, banks)
        alone = [tracker.track(features, frames[i : i + 1], banks[i : i + 1]) for i in range(4)]
    for name in ("all_mask_logits", "pointer", "object_score_logits", "all_ious"):
        single = torch.cat([getattr(out, name) for out in alone])
        torch.testing.assert_close(getattr(batch, name), single, rtol=1e-5, atol=1e-5)


# A clip from a given mask uses no points, no step without memory, and not the single mask.
IDLE_IN_A_CLIP = (
    "mask_decoder.output_hypernetworks_mlps.0",
    "no_memory_",
    "prompt_encoder.point_embed",
)


def test_gradients_reach_all_the_clip_uses_through_memory(tracker):
    frame, features, bank = torch.tensor([0]), features_of(tracker, 8), MemoryBank(CONFIG)
    out = tracker.condition_on_mask(features, frame, torch.rand(1, 1, 50, 50))
    loss = torch.zeros(())
    for t in range(4):
        visible = torch.tensor([t != 2])
        score, given = torch.where(visible, 1.0, -1.0)[None], torch.tensor([t == 0])
        spatial = tracker.encode_memory(features, frame, out.mask_logits, score, binarize=given)
        (bank.write_conditioning if t == 0 else bank.write)(t, spatial[0], out.pointer[0])
        out = tracker.track(features, frame, [bank], is_visible=torch.tensor([t != 1]))
        loss = (
            loss + out.all_mask_logits.mean() + out.all_ious.mean() + out.object_score_logits.sum()
        )
    loss.backward()
    idle = [n for n, p in tracker.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in idle if not n.startswith(IDLE_IN_A_CLIP)] == []


def test_an_absent_object_has_no_mask_and_the_learned_pointer(tracker):
    features, banks = features_of(tracker, 8), [bank_with(2, 8)]
    out = tracker.track(features, torch.tensor([0]), banks, is_visible=torch.tensor([False]))
    assert bool((out.mask_logits == ABSENT_LOGIT).all())
    torch.testing.assert_close(out.pointer, tracker.no_object_pointer)


def test_an_empty_given_mask_means_absent(tracker):
    masks = torch.zeros(2, 1, 30, 40, dtype=torch.bool)
    masks[1, :, 5:20, 5:20] = True
    out = tracker.condition_on_mask(features_of(tracker, 8), torch.tensor([0, 0]), masks)
    assert out.object_score_logits[:, 0].tolist() == [-10.0, 10.0]
    assert out.quality.tolist() == pytest.approx([0.0, 1.0], abs=1e-3)
    torch.testing.assert_close(out.pointer[:1], tracker.no_object_pointer)


def test_a_given_mask_comes_back_at_four_times_the_grid(tracker):
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 16:48, 8:40] = True
    out = tracker.condition_on_mask(features_of(tracker, 8), torch.tensor([0]), mask)
    torch.testing.assert_close(out.mask_logits > 0, mask[..., ::2, ::2])


def test_a_box_is_two_points_and_asks_for_one_mask(tracker):
    features, frame = features_of(tracker, 8), torch.tensor([0])
    box = tracker.prompt(features, frame, boxes=torch.tensor([[0.2, 0.2, 0.6, 0.6]]))
    point = tracker.prompt(features, frame, points=torch.tensor([[[0.4, 0.4]]]))
    assert bool(torch.isin(point.predicted_iou, point.all_ious).all())
    assert box.mask_logits.shape == point.mask_logits.shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="points or boxes"):
        tracker.prompt(features, frame)


def test_positions_made_while_serving_can_be_trained_with(tracker):
    grid, frame = 5, torch.tensor([0])  # a grid that no other test uses
    with torch.inference_mode():
        tracker.track(features_of(tracker, grid), frame, [bank_with(1, grid)])
    out = tracker.track(features_of(tracker, grid), frame, [bank_with(1, grid)])
    out.object_score_logits.sum().backward()
    assert tracker.memory_attention.layers[0].linear1.weight.grad is not None


def test_a_pyramid_of_wrong_sides_is_refused(tracker):
    with pytest.raises(ValueError, match="sides"):
        tracker.prepare_features(tuple(torch.randn(1, CONFIG.hidden_dim, 8, 8) for _ in range(3)))
