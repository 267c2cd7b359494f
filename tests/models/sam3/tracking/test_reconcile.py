"""What a detection does to the masklet that it overlaps."""

import numpy as np
import pytest
import torch

from models.catalogue import sam3_network
from models.sam2.memory_bank import MemoryBank
from models.sam3.concept_search import Found
from models.sam3.tracking.options import LifeRules, SessionOptions
from models.sam3.tracking.reconcile import Reconciler, begin_masklet
from models.sam3.tracking.stream import SURE_LOGIT, Stream, Tracked

TRACKER = sam3_network("sam3-nano").tracker
SQUARE = torch.full((16, 16), -SURE_LOGIT)
SQUARE[4:12, 4:12] = SURE_LOGIT
FOUND = Found(
    scores=np.array([0.9], np.float32),
    boxes_cxcywh=torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
    mask_logits=SQUARE[None],
    semantic_logits=SQUARE,
    presence=1.0,
)


@pytest.mark.parametrize(
    ("object_logit", "expected"), [(0.9, [False, True, False, True, False]), (0.8, [False] * 5)]
)
def test_a_masklet_is_prompted_again_once_an_interval_while_the_tracker_is_sure(
    object_logit, expected
):
    options = SessionOptions(life=LifeRules(recondition_s=0.5), recondition_logit=0.8)
    stream = Stream(stream_id="a", concepts=(), time_s=0.0)
    masklet = begin_masklet(stream, MemoryBank(TRACKER), concept=0, score=0.9)
    prompted = []
    for time_s in (0.25, 0.5, 0.75, 1.0, 1.25):
        stream.time_s = time_s
        item = Tracked(
            masklet=masklet,
            mask_logits=SQUARE,
            object_logit=object_logit,
            pointer=None,
            quality=1.0,
        )
        Reconciler(options, TRACKER).match(stream, [item], 0, FOUND, 0.25)
        assert item.is_matched
        prompted.append(item.is_prompted)
    assert prompted == expected
