"""What ``segment`` writes, read back with other people's tools."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from connectors.annotate.draw import Marks
from connectors.errors import NotWritableError
from models.common.masks import RunLengths
from pipeline.segment.outputs import ResultWriter
from pipeline.segment.results import Findings, FoundObject

# pycocotools' decoder is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = DEER, CAR = "deer", "car"


def found(mask, concept=DEER, score=0.9, **extras):
    return FoundObject(concept=concept, run_lengths=RunLengths.of(mask), score=score, **extras)


def square(height=40, width=60, *, left=10, top=5, side=20):
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def write(folder, *findings, pictures=None):
    """Write findings about grey pictures, and open the annotations as COCO's own tool does."""
    files = pictures or [Path(f"in/{number}.jpg") for number in range(len(findings))]
    with ResultWriter(folder, files, CATEGORIES) as writer:
        for file, finding in zip(files, findings, strict=True):
            size = finding.objects[0].mask.shape if finding.objects else (40, 60)
            writer.add(file, np.full((*size, 3), 90, np.uint8), finding, Marks())
    return COCO(folder / "annotations.json")


def test_masks_of_json_and_files_are_those_that_were_found(tmp_path):
    masks = [square(), square(left=30, side=8)]
    coco = write(tmp_path, Findings(objects=tuple(found(mask) for mask in masks)))
    for mask, annotation in zip(masks, coco.loadAnns(coco.getAnnIds()), strict=True):
        plane = np.asarray(Image.open(tmp_path / annotation["mask"]))
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert np.array_equal(plane, mask * 255)
        assert annotation["area"] == mask.sum()


def test_boxes_are_tight_and_scores_kept(tmp_path):
    objects = (found(square(), CAR, 0.5, presence_score=0.75, stability_score=0.9),)
    coco = write(tmp_path, Findings(objects=objects))
    [annotation] = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["car"])))
    assert annotation["bbox"] == [10, 5, 20, 20]
    assert (annotation["score"], annotation["presence_score"]) == (0.5, 0.75)
    assert annotation["stability_score"] == 0.9
    assert "predicted_iou" not in annotation


def test_numbers_run_on_over_pictures_and_empty_ones_are_kept(tmp_path):
    one = Findings(objects=(found(square()), found(square())))
    none = Findings(objects=(), presence_scores={"deer": 0.25, "car": 0.0})
    coco = write(tmp_path, one, none, one)
    assert [len(coco.getAnnIds(imgIds=[number])) for number in (1, 2, 3)] == [2, 0, 2]
    assert sorted(coco.getAnnIds()) == [1, 2, 3, 4]
    assert coco.imgs[2]["presence_scores"]["deer"] == 0.25


def test_pictures_of_the_same_name_do_not_overwrite_each_other(tmp_path):
    pictures = [Path("in/a.jpg"), Path("in/a.png"), Path("in/b/A.jpg")]
    coco = write(tmp_path, *[Findings(objects=(found(square()),))] * 3, pictures=pictures)
    assert [image["file_name"] for image in coco.imgs.values()] == ["a.jpg", "a.png", "b/A.jpg"]
    assert len(list((tmp_path / "masks").iterdir())) == 3
    assert len(list((tmp_path / "overlays").iterdir())) == 3


def test_drawing_shows_the_object_and_leaves_the_rest(tmp_path):
    write(tmp_path, Findings(objects=(found(square(200, 300, left=40, top=100, side=50)),)))
    drawn = np.asarray(Image.open(tmp_path / "overlays" / "0.jpg"), int)
    scale = drawn.shape[1] / 300
    assert scale == 4
    assert np.ptp(drawn[round(125 * scale), round(65 * scale)]) > 40
    assert np.abs(drawn[:, round(200 * scale) :] - 90).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (4320, 7680)])
def test_any_size_is_written(tmp_path, size):
    mask = np.zeros(size, bool)
    mask[-1, -1] = True
    coco = write(tmp_path, Findings(objects=(found(mask),)))
    assert coco.anns[1]["bbox"] == [size[1] - 1, size[0] - 1, 1, 1]
    with Image.open(tmp_path / "overlays" / "0.jpg") as drawn:
        assert max(drawn.size) <= 2048
    with Image.open(tmp_path / "masks" / "0_1.png") as plane:
        assert (plane.size, plane.mode) == (size[::-1], "L")


def test_hundreds_of_objects_are_written(tmp_path):
    objects = [found(square(left=number % 40, side=3)) for number in range(300)]
    coco = write(tmp_path, Findings(objects=tuple(objects)))
    assert len(coco.anns) == len(list((tmp_path / "masks").iterdir())) == 300


def test_masks_of_an_earlier_call_do_not_stay_beside_the_new_ones(tmp_path):
    many, one = (Findings(objects=(found(square()),) * number) for number in (3, 1))
    write(tmp_path, many, many)
    coco = write(tmp_path, one)
    assert {path.name for path in (tmp_path / "masks").glob("0_*.png")} == {"0_1.png"}
    assert len(list((tmp_path / "masks").glob("1_*.png"))) == 3
    assert [annotation["mask"] for annotation in coco.anns.values()] == ["masks/0_1.png"]


def test_an_error_leaves_what_was_found_before_it(tmp_path):
    findings = Findings(objects=(found(square()),))
    with pytest.raises(ValueError, match="shorter"):
        write(tmp_path, findings, pictures=[Path("a.jpg"), Path("b.jpg")])
    assert len(COCO(tmp_path / "annotations.json").anns) == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(NotWritableError, match="taken"):
        write(tmp_path / "taken", Findings(objects=()))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_run_lengths_of_any_mask_read_back(tmp_path_factory, height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    mask[0, 0] = True
    coco = write(tmp_path_factory.mktemp("out"), Findings(objects=(found(mask),)))
    assert np.array_equal(coco.annToMask(coco.anns[1]), mask)
