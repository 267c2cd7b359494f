"""The contrast is small for right answers, large for wrong ones, and defined for any batch."""

import torch

from models.training.dense_losses import dense_losses


def two_phrases():
    """Picture 0 shows phrase 0 on one place, picture 1 shows phrase 1; shape (2, 2, 2, 2)."""
    cover = torch.zeros(2, 2, 2, 2)
    cover[0, 0, 0, 0] = cover[1, 1, 1, 1] = 1.0
    return cover, torch.ones(2, 2, dtype=torch.bool)


def test_right_answers_cost_nothing_and_swapped_ones_much():
    cover, is_known = two_phrases()
    right = dense_losses(20 * cover - 10, cover, is_known)
    swapped = dense_losses(20 * cover.flip(1) - 10, cover, is_known)
    assert all(float(term) < 0.01 for term in right.values())
    assert all(float(term) > 5 for term in swapped.values())


def test_what_is_not_known_teaches_nothing():
    cover, is_known = two_phrases()
    logits = torch.zeros(2, 2, 2, 2, requires_grad=True)
    is_known[:, 1] = False
    sum(dense_losses(logits, cover, is_known).values()).backward()
    assert bool((logits.grad[:, 1] == 0).all())
    assert bool((logits.grad[:, 0] != 0).all())


def test_one_phrase_alone_has_nothing_to_be_told_from():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    terms = dense_losses(logits, torch.ones(1, 1, 2, 2), torch.ones(1, 1, dtype=torch.bool))
    sum(terms.values()).backward()
    assert float(terms["choice"].detach()) == 0.0
    assert bool(logits.grad.isfinite().all())
