"""Loss that aligns places with phrases before there is a decoder (dense contrast, small scale).

SAM 3 starts from a backbone that was trained on pictures with captions (section 4); this does the
same in small, where masks are at hand: each place of the picture learns which phrases cover it,
among all the phrases of the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE = 12.0
BIAS = -4.0
# A place belongs to a phrase that covers so much of it, a picture to one that covers such a place.
PLACE_SHARE, PICTURE_SHARE = 0.1, 0.3
# A logit that counts for nothing; infinity would leave no gradient where all are masked.
NEVER = -1e4


def dense_logits(places: Tensor, phrases: Tensor) -> Tensor:
    """Likeness of every place to every phrase.

    Args:
        places: Features, shape (N, D, G, G).
        phrases: Embeddings, shape (P, D).

    Returns:
        Logits, shape (N, P, G, G).
    """
    likeness = torch.einsum(
        "ndhw,pd->nphw", F.normalize(places, dim=1), F.normalize(phrases, dim=1)
    )
    return SCALE * likeness + BIAS


def dense_losses(logits: Tensor, cover: Tensor, is_known: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms.

    Args:
        logits: Shape (N, P, G, G).
        cover: Share of each place that the phrase covers, shape (N, P, G, G), 0 to 1.
        is_known: Whether the truth for this phrase on this picture is known, shape (N, P), bool.

    Returns:
        ``place``: is the phrase here; ``picture``: is it anywhere at all; ``choice``: is it rather
        this phrase than all that are wrong here.
    """
    known = is_known.to(logits.dtype)
    is_here = (cover > PLACE_SHARE) & is_known[..., None, None]
    highest = logits.flatten(2).amax(-1)
    is_there = (cover.flatten(2).amax(-1) > PICTURE_SHARE).to(logits.dtype)
    return {
        "place": 2 * _per_positive(logits, cover, is_here, known[..., None, None]),
        "picture": _per_positive(highest, is_there, is_there > 0, known),
        "choice": _choice(logits, is_here, (cover == 0) & is_known[..., None, None]),
    }


def _choice(logits: Tensor, is_right: Tensor, is_wrong: Tensor) -> Tensor:
    """Cross entropy of each right phrase of a place against all the wrong ones (InfoNCE)."""
    against = logits.masked_fill(~is_wrong, NEVER).logsumexp(1, keepdim=True)
    loss = F.softplus(against - logits)
    return torch.where(is_right, loss, 0.0).sum() / is_right.sum().clamp(min=1)


def _per_positive(logits: Tensor, truth: Tensor, is_positive: Tensor, known: Tensor) -> Tensor:
    """Cross entropy over the number of positives.

    Nearly all pairs are negative, and most of them easily told: those fade out as they are learned.
    """
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    emphasis = torch.where(is_positive, 1.0, logits.detach().sigmoid()) * known
    return (loss * emphasis).sum() / (is_positive * known).sum().clamp(min=1)
