"""Records as supervision's detections."""

import sys

import numpy as np
import pytest
import supervision

from pipeline.records.supervision import to_supervision
from tests.pipeline.records.test_coco import make_frame, make_mask


def test_detections_hold_what_the_record_says():
    cow = {"concept": "cow", "track_no": 5, "track_uid": "u-2", "score": 0.5}
    detections = to_supervision(make_frame(7, {}, cow, presence={"tree": 0, "red deer": 0.9}))
    assert isinstance(detections, supervision.Detections)
    assert np.array_equal(detections.mask, [make_mask()] * 2)
    assert detections.xyxy == pytest.approx(np.array([[2, 1, 7, 4]] * 2), abs=1e-3)
    assert detections.confidence.tolist() == [0.91, 0.5]
    assert (detections.class_id.tolist(), detections.tracker_id.tolist()) == ([1, 2], [3, 5])
    assert detections["class_name"].tolist() == ["red deer", "cow"]
    assert detections["track_uid"][1] == "u-2"


def test_supervision_draws_and_counts_them():
    detections = to_supervision(make_frame(7, {}))
    drawn = supervision.MaskAnnotator(opacity=1).annotate(np.zeros((6, 8, 3), np.uint8), detections)
    assert np.array_equal(drawn.any(axis=2), make_mask())
    zone = supervision.PolygonZone(np.array([[0, 0], [7, 0], [7, 5], [0, 5]]))
    assert zone.trigger(detections).tolist() == [True]


def test_objects_out_of_sight_are_no_detections():
    assert len(to_supervision(make_frame(7, {"area": 0, "mask": None}))) == 0
    assert len(to_supervision(make_frame(7))) == 0


def test_boxes_without_masks_are_detections_without_masks():
    detections = to_supervision(make_frame(7, {}, {"mask": None}))
    assert (detections.mask, len(detections)) == (None, 2)


def test_without_supervision_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'maskstream\[supervision\]'"):
        to_supervision(make_frame(7, {}))
