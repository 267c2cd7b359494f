"""Loss that aligns places with phrases before there is a decoder (dense contrast, small scale).

SAM 3 starts from a backbone that was trained on pictures with captions (section 4); this does the
same in small, where masks are at hand: each place of the picture learns which phrases cover it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE = 12.0
BIAS = -4.0


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


def dense_losses(logits: Tensor, cover: Tensor, is_asked: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms.

    Args:
        logits: Shape (N, P, G, G).
        cover: Share of each place that the phrase covers, shape (N, P, G, G), 0 to 1.
        is_asked: Whether the truth for this phrase on this picture is known, shape (N, P), bool.

    Returns:
        ``place``: is the phrase here; ``picture``: is it anywhere at all.
    """
    known = is_asked[..., None, None].to(logits.dtype)
    place = F.binary_cross_entropy_with_logits(logits, cover, reduction="none")
    # Most places show nothing that is asked for; what is there must still count.
    emphasis = torch.where(cover > 0.1, 1.0, 0.25) * known
    highest = logits.flatten(2).amax(-1)
    is_there = (cover.flatten(2).amax(-1) > 0.3).to(logits.dtype)
    anywhere = F.binary_cross_entropy_with_logits(highest, is_there, reduction="none")
    share = is_asked.to(logits.dtype)
    return {
        "place": 10 * (place * emphasis).sum() / emphasis.sum().clamp(min=1),
        "picture": (anywhere * share).sum() / share.sum().clamp(min=1),
    }
