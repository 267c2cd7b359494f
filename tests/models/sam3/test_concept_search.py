"""Which of what is found is kept."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.sam3.concept_search import suppress_overlaps

share = st.floats(0, 1, width=32)


@st.composite
def candidates(draw):
    """Overlap among D candidates, symmetric with ones on the diagonal, and their scores."""
    num = draw(st.integers(0, 7))
    half = draw(arrays(np.float32, (num, num), elements=share))
    iou = np.maximum(half, half.T)
    np.fill_diagonal(iou, 1.0)
    return iou, draw(arrays(np.float32, num, elements=share))


@given(candidates(), share)
@settings(max_examples=100, deadline=None)
def test_suppression_keeps_the_best_and_only_drops_what_overlaps(case, threshold):
    iou, scores = case
    kept = suppress_overlaps(iou, scores, threshold).tolist()
    if len(scores):
        assert scores[kept[0]] == scores.max()
    for a in kept:
        assert all(a == b or iou[a, b] <= threshold for b in kept)
    for dropped in set(range(len(scores))) - set(kept):
        assert any(iou[dropped, k] > threshold and scores[k] >= scores[dropped] for k in kept)
