"""Fine-tuning data of one's own: read, cut, asked about; and refused or skipped where broken."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from connectors.stills import write_picture
from pipeline.errors import ConfigError
from pipeline.training.annotated import AnnotatedClips, frames_of, read_clips_of, read_coco_pictures
from pipeline.training.build import build_run
from pipeline.training.recipe import CocoData, YtvisData
from tests.pipeline.training.runs import ALONE, recipe, run, stage

HEIGHT, WIDTH = 60, 80
SQUARE = [[20, 10, 60, 10, 60, 50, 20, 50]]


def runs(rows, columns):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[rows, columns] = 1
    encoded = coco_mask.encode(mask)
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def coco(tmp_path, *annotations, images=2):
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels[10:50, 20:60] = (200, 30, 30)
    for number in range(1, images + 1):
        write_picture(tmp_path / f"{number}.png", pixels)
    listed = [
        {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
        for n in range(1, images + 1)
    ]
    names = [{"id": 1, "name": "red_box"}, {"id": 2, "name": "deer"}]
    content = {"images": listed, "categories": names, "annotations": list(annotations)}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    return CocoData(type="coco", images=tmp_path, annotations=path)


def annotation(number=1, **fields):
    return {"id": number, "image_id": 1, "category_id": 1, "segmentation": SQUARE} | fields


def test_what_is_there_and_what_is_not_is_asked(tmp_path):
    source = read_coco_pictures(coco(tmp_path, annotation(), annotation(2, image_id=2)))
    for seed in range(5):
        (drawn,) = source.draw(np.random.default_rng(seed), 56, stage())
        there, absent = drawn.questions
        assert (there.phrase, absent.phrase, absent.masks) == ("red box", "deer", [])
        assert [drawn.covered(p) for p in ("deer", "zebra")] == [[], None]
        is_red = drawn.pixels[..., 0] > 150
        overlap = (is_red & there.masks[0]).sum() / (is_red | there.masks[0]).sum()
        assert overlap > 0.9


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 7: segmentation"),
        ({"segmentation": {"size": [9, 9], "counts": "0"}}, "annotation 7: mask of size"),
        ({"bbox": [70, 50, 60, 60]}, "annotation 7: box"),
        ({"category_id": 9}, "annotation 7: category_id 9"),
    ],
)
def test_broken_annotations_are_told_by_file_and_id(tmp_path, fields, told):
    data = coco(tmp_path, annotation(), annotation(7, image_id=2, **fields))
    with pytest.raises(ConfigError, match=rf"coco\.json: {told}"):
        read_coco_pictures(data.model_copy(update={"on_bad": "fail"}))
    pictures = read_coco_pictures(data).pictures
    assert "red box" in pictures[0].objects


def test_missing_pictures_and_repeated_ids_are_skipped_and_told(tmp_path, caplog):
    data = coco(tmp_path, annotation(), annotation(), images=3)
    (tmp_path / "3.png").unlink()
    source = read_coco_pictures(data)
    assert [picture.path.name for picture in source.pictures] == ["1.png", "2.png"]
    assert "image 3: no picture" in caplog.text
    assert "annotation 1: its id was there before" in caplog.text


def test_a_set_of_which_nothing_is_left_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing in it can be used"):
        read_coco_pictures(coco(tmp_path, images=0))


def clips(tmp_path, num_frames=5):
    names = [f"a/{t}.png" for t in range(num_frames)]
    (tmp_path / "a").mkdir()
    masks = []
    for t, name in enumerate(names):
        pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        pixels[10:40, 10 + 4 * t : 40 + 4 * t] = 220
        write_picture(tmp_path / name, pixels)
        masks.append(runs(slice(10, 40), slice(10 + 4 * t, 40 + 4 * t)))
    video = {"id": 1, "file_names": names, "height": HEIGHT, "width": WIDTH}
    found = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": masks}
    path = tmp_path / "ytvis.json"
    content = {"videos": [video], "categories": [{"id": 1, "name": "box"}], "annotations": [found]}
    path.write_text(json.dumps(content))
    return YtvisData(type="ytvis", images=tmp_path, annotations=path)


def clip_source(data):
    return AnnotatedClips(clips=read_clips_of(data).clips, root=data.images)


def test_clips_follow_the_masks_of_their_frames(tmp_path):
    clip = clip_source(clips(tmp_path)).draw(np.random.default_rng(4), stage(frames=3))
    assert clip.pixels.shape == (3, 56, 56, 3)
    assert clip.masks[0][0].any()


def test_clips_that_are_too_short_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="longer clips"):
        clip_source(clips(tmp_path, 2)).draw(np.random.default_rng(0), stage(frames=4))


def test_frames_of_clips_are_pictures_too(tmp_path):
    data = clips(tmp_path)
    source = frames_of(read_clips_of(data), data.images)
    assert [len(picture.objects["box"]) for picture in source.pictures] == [1] * 5
    (question,) = source.draw(np.random.default_rng(2), 56, stage())[0].questions
    assert (question.phrase, question.masks[0].any()) == ("box", True)


def own_recipe(data, *tasks):
    return recipe(*(stage(task, task=task) for task in tasks), data=(data,), start="shipped")


def test_annotations_for_pictures_and_clips_are_read_once(tmp_path, caplog):
    data = clips(tmp_path)
    content = json.loads(data.annotations.read_text())
    content["videos"].append({"id": 2, "file_names": ["b.png"], "height": 6, "width": 8})
    data.annotations.write_text(json.dumps(content))
    build_run(own_recipe(data, "detector", "tracker"), out=tmp_path, fleet=ALONE)
    (told,) = caplog.messages
    assert "video 2: 1 pictures missing" in told


def test_data_that_no_stage_needs_is_not_asked_for(tmp_path):
    pictures_only = coco(tmp_path, annotation())
    build_run(own_recipe(pictures_only, "backbone", "detector"), out=tmp_path, fleet=ALONE)
    with pytest.raises(ConfigError, match="only pictures, but a stage trains the tracker"):
        build_run(own_recipe(pictures_only, "tracker"), out=tmp_path, fleet=ALONE)


def test_pictures_of_a_stretch_with_nothing_to_follow_are_not_read(tmp_path):
    data = clips(tmp_path, 3)
    content = json.loads(data.annotations.read_text())
    content["annotations"][0]["segmentations"][0] = None
    data.annotations.write_text(json.dumps(content))
    for picture in (tmp_path / "a").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="began with no object"):
        clip_source(data).draw(np.random.default_rng(0), stage(frames=3))


def test_a_model_is_fine_tuned_on_pictures_of_ones_own(tmp_path, monkeypatch):
    from pipeline.training.detector_task import DetectorTask
    from tests.pipeline.training import runs as small

    source = read_coco_pictures(coco(tmp_path, annotation(), annotation(2, image_id=2)))
    monkeypatch.setitem(small.TASKS, "detector", DetectorTask(source=source, patch_size=14))
    run(recipe(stage(train=("detector_model.detr_",))), tmp_path / "out", is_fresh=False)
    assert (tmp_path / "out" / "model.safetensors").is_file()
