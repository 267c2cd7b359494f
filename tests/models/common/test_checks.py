"""Whatever is given in place of what is accepted is told by name, in one type of error."""

import numpy as np
import pytest
import torch

from models.build import build_image_predictor, build_tracker
from models.common.automatic_masks import AutomaticMaskOptions
from models.common.checks import (
    check_bool,
    check_integer,
    check_number,
    check_sequence,
    check_size,
    check_text,
)
from models.common.prompting import check_array
from models.protocols import ConceptQuery, ExemplarBox
from models.sam2.video import VideoOptions
from models.sam3.prompts import read_queries
from models.sam3.tracking.options import SessionOptions

WHOLE = (0.0, 0.0, 1.0, 1.0)


def read(*queries):
    return read_queries(queries, takes_points=False)


def test_what_is_accepted_comes_back():
    assert check_integer("x", np.int64(3), least=3) == 3
    assert check_number("x", np.float32(0.5), least=0, most=1) == 0.5
    assert check_bool("x", np.True_) is True
    assert check_text("x", "🦌") == "🦌"
    assert check_size("x", torch.Size([2, 3])) == (2, 3)
    assert check_sequence("x", [1], of="numbers") == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_integer("x", True), "x is True; accepted: an integer"),
        (lambda: check_integer("x", 1, least=2), "x is 1; accepted: at least 2"),
        (lambda: check_number("x", np.nan), "x is nan; accepted: a finite number"),
        (lambda: check_number("x", -1, least=0), "x is -1; accepted: at least 0"),
        (lambda: check_number("x", 2, least=0, most=1), "x is 2; accepted: 0 to 1"),
        (lambda: check_bool("x", "yes"), "x is 'yes'; accepted: True or False"),
        (lambda: check_text("x", b"a"), "x b'a' is a bytes; accepted: a string"),
        (lambda: check_text("x", "\ud800"), "has half a character"),
        (lambda: check_sequence("x", "ab", of="phrases"), "x is 'ab'; accepted: a sequence of"),
        (lambda: check_size("x", (0, 5)), "x is 0; accepted: at least 1"),
        (lambda: check_size("x", (1, 2, 3)), "accepted: height and width"),
        (lambda: check_array("x", torch.zeros(2, requires_grad=True), (2,)), "x is not numbers"),
    ],
)
def test_other_things_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AutomaticMaskOptions(points_per_side=2.5), "points_per_side is 2.5; accepted: an"),
        (lambda: AutomaticMaskOptions(pred_iou_thresh=np.nan), "pred_iou_thresh is nan"),
        (lambda: AutomaticMaskOptions(box_nms_thresh="x"), "box_nms_thresh is 'x'"),
        (lambda: AutomaticMaskOptions(crop_overlap_ratio=1.5), "overlap_ratio is 1.5; accepted: 0"),
        (lambda: VideoOptions(cached_frames=1.5), "cached_frames is 1.5; accepted: an integer"),
        (lambda: VideoOptions(memory_dtype=torch.int8), "memory_dtype is torch.int8; accepted"),
        (lambda: SessionOptions(nms_iou=None), "nms_iou is None; accepted: a finite number"),
        (lambda: SessionOptions(max_masklets=0), "max_masklets is 0; accepted: at least 1"),
        (lambda: SessionOptions(memory_maps=0), "memory_maps is 0; accepted: at least 1"),
        (lambda: build_tracker(["sam3"]), r"name \['sam3'\] is a list; accepted: a string"),
        (lambda: build_tracker("sam3-nano", device="warp"), "device 'warp' cannot be used"),
        (lambda: build_tracker("sam3-nano", checkpoint="x"), "checkpoint is 'x'; accepted: a path"),
        (lambda: build_image_predictor("sam3-nano", device=None), "device None is a NoneType"),
        (lambda: read_queries("deer", takes_points=False), "queries is 'deer'; accepted"),
        (lambda: read(ConceptQuery(phrase=5)), "phrase 5 is a int; accepted: a string"),
        (
            lambda: read(ConceptQuery(phrase="a", exemplars=None)),
            "exemplars is a NoneType; accepted",
        ),
        (
            lambda: read(ConceptQuery(exemplars=(ExemplarBox(box_xyxy=WHOLE, is_positive="no"),))),
            "is_positive is 'no'; accepted: True or False",
        ),
    ],
)
def test_wrong_options_and_names_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
