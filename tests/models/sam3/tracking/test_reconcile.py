"""What a detection does to the masklet that it overlaps."""

from dataclasses import replace

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
NOTHING = torch.full((16, 16), -SURE_LOGIT)
SQUARE = NOTHING.clone()
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
    masklet = begin_masklet(stream, MemoryBank(TRACKER), concept_id="deer", score=0.9)
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
        Reconciler(options, TRACKER).match(stream, [item], "deer", FOUND, 0.25)
        assert item.is_matched
        prompted.append(item.is_prompted)
    assert prompted == expected


def square(x, y):
    """Logits of a square around a place."""
    logits = NOTHING.clone()
    logits[int(16 * y) - 2 : int(16 * y) + 2, int(16 * x) - 2 : int(16 * x) + 2] = SURE_LOGIT
    return logits


def found_at(*places, scores):
    return replace(
        FOUND,
        scores=np.array(scores, np.float32),
        boxes_cxcywh=torch.zeros(len(places), 4),
        mask_logits=torch.stack([square(*place) for place in places]),
    )


class Sought:
    """Masklets last seen in a row, a second before frames went on; options are the published."""

    def __init__(self, *xs, is_sought=True):
        self.stream = Stream(stream_id="a", concepts=(), time_s=0.0)
        self.reconciler = Reconciler(SessionOptions(), TRACKER)
        self.masklets = []
        for x in xs:
            bank = MemoryBank(TRACKER)
            bank.write_conditioning(0, torch.zeros(1), torch.zeros(1))
            masklet = begin_masklet(self.stream, bank, concept_id="deer", score=0.9)
            masklet.on_seen(x, 0.5, 0.0)
            masklet.is_sought = is_sought
            self.masklets.append(masklet)

    def see(self, found, *, shown=False, time_s=1.0, object_logit=2.9):
        """What becomes of the masklets, which the tracker shows where they were or not at all."""
        self.stream.time_s = time_s
        tracked = [
            Tracked(
                masklet=masklet,
                mask_logits=square(masklet.place.x, 0.5) if shown else NOTHING,
                object_logit=object_logit,
                pointer=None,
                quality=1.0,
            )
            for masklet in self.masklets
        ]
        self.reconciler.match(self.stream, tracked, "deer", found, 0.1)
        return tracked


def test_sought_masklet_is_hidden_and_remembers_nothing_until_it_is_confirmed():
    sought = Sought(0.25)
    elsewhere = found_at((0.9, 0.5), scores=[0.9])
    item, new = sought.see(elsewhere, shown=True)
    assert item.is_empty
    assert item.is_withheld
    assert item.masklet.is_sought
    assert item.masklet.unmatched_s == 0.0
    assert new.is_new
    (item,) = sought.see(found_at((0.25, 0.5), scores=[0.5]), shown=True, time_s=1.1)
    assert item.is_matched
    assert not (item.is_empty)
    assert not item.is_withheld
    assert not item.masklet.is_sought


def test_sought_masklet_that_the_tracker_is_sure_of_goes_on():
    sought = Sought(0.25)
    item, _ = sought.see(found_at((0.9, 0.5), scores=[0.9]), shown=True, object_logit=3.1)
    assert torch.equal(item.mask_logits, square(0.25, 0.5))
    assert not item.is_withheld
    assert not item.masklet.is_sought
    assert not item.is_matched
    (item,) = Sought(0.25).see(found_at((0.6, 0.5), scores=[0.9]), object_logit=3.1)
    assert torch.equal(item.mask_logits, square(0.6, 0.5))  # of nothing it cannot be sure


def test_sought_masklet_is_found_again_by_a_detection_that_could_begin_none():
    sought = Sought(0.25)
    (item,) = sought.see(found_at((0.6, 0.5), scores=[0.55]))
    assert item.is_matched
    assert item.is_prompted
    assert not item.is_withheld
    assert not item.masklet.is_sought
    assert torch.equal(item.mask_logits, square(0.6, 0.5))
    assert item.masklet.score == pytest.approx(0.55)
    assert item.masklet.last_conditioned_s == 1.0


def test_weak_detection_brings_back_nobody_who_is_not_sought():
    hidden = Sought(0.25, is_sought=False)
    (item,) = hidden.see(found_at((0.3, 0.5), scores=[0.55]))
    assert not item.is_matched


def test_of_two_detections_the_sure_one_is_the_sought_masklet():
    sought = Sought(0.25)
    item, *others = sought.see(found_at((0.3, 0.5), (0.6, 0.5), scores=[0.55, 0.9]))
    assert torch.equal(item.mask_logits, square(0.6, 0.5))
    assert others == []


def test_what_nobody_sought_is_new():
    sought = Sought(0.25)
    found = found_at((0.4, 0.5), (0.7, 0.5), (0.9, 0.5), scores=[0.9, 0.8, 0.55])
    item, new = sought.see(found)
    assert torch.equal(item.mask_logits, square(0.4, 0.5))
    assert torch.equal(new.mask_logits, square(0.7, 0.5))
    assert new.is_new


def test_masklet_that_is_not_looked_for_is_sought_no_more_where_the_tracker_shows_it():
    sought = Sought(0.25)
    sought.see(None)
    assert sought.masklets[0].is_sought
    sought.see(None, shown=True)
    assert not sought.masklets[0].is_sought
    assert sought.masklets[0].last_matched_s == 1.0
