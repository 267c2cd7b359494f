"""Records as a COCO dataset, read by pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from models.common.masks import RunLengths
from pipeline.records.coco import to_coco
from tests.contracts.surfaces import example_record, make_example

# pycocotools' decoder is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLACE = {"x": slice(2, 7), "y": slice(1, 4)}


def make_mask():
    mask = np.zeros((6, 8), np.bool_)
    mask[PLACE["y"], PLACE["x"]] = True
    return mask


def make_frame(number, *changes, **fields):
    """A frame whose objects are the example's, each with changes."""
    (thing,) = make_example("masklets").model_dump()["objects"]
    counts = RunLengths.of(make_mask()).counts
    plain = {**thing, "mask": {"size": (6, 8), "counts": counts}}
    objects = [plain | change for change in changes]
    return make_example("masklets", frame_seq=number, objects=objects, **fields)


def read(records):
    coco = COCO()
    coco.dataset = to_coco(records)
    coco.createIndex()
    return coco


def test_masks_boxes_and_areas_are_what_pycocotools_reads():
    coco = read([make_frame(7, {"score": 0.5})])
    (image,), (annotation,) = coco.dataset["images"], coco.dataset["annotations"]
    assert (image["width"], image["height"], image["frame_seq"]) == (8, 6, 7)
    assert np.array_equal(coco.annToMask(annotation), make_mask())
    assert annotation["area"] == coco_mask.area(coco.annToRLE(annotation)) == 15
    assert annotation["bbox"] == pytest.approx([2, 1, 5, 3], abs=1e-3)
    assert (annotation["score"], annotation["iscrowd"]) == (0.5, 0)


def test_images_are_frames_and_categories_concepts():
    cow = {"concept": "cow", "track_uid": "u-2"}
    ref = {"media": "a.mp4", "frame_index": 8}
    presence = {"tree": 0.0, "red deer": 0.9}
    frames = [
        make_frame(7, {}, cow, presence=presence),
        make_frame(8, cow, source_ref=ref),
        make_frame(9),
    ]
    status, _ = example_record("status")
    coco = read([frames[0], status, *frames[1:]])
    names = [image["file_name"] for image in coco.dataset["images"]]
    assert names == ["north gate/3/4/7", "a.mp4", "north gate/3/4/9"]
    assert [one["name"] for one in coco.dataset["categories"]] == ["tree", "red deer", "cow"]
    found = [
        (one["id"], one["image_id"], one["category_id"], one["track_id"])
        for one in coco.dataset["annotations"]
    ]
    assert found == [(1, 1, 2, 1), (2, 1, 3, 2), (3, 2, 3, 2)]


def test_what_cannot_be_seen_is_left_out_and_what_lost_its_mask_has_a_box():
    hidden = {"area": 0, "mask": None}
    coco = read([make_frame(7, hidden, {"mask": None})])
    (annotation,) = coco.dataset["annotations"]
    assert "segmentation" not in annotation
    assert (annotation["area"], len(annotation["bbox"])) == (15, 4)
