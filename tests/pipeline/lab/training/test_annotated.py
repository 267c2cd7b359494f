"""Fine-tuning data of one's own: read, cut, asked about; and refused or skipped where broken."""

import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from connectors.pictures.stills import write_picture
from pipeline.errors import ConfigError
from pipeline.lab.training.annotated import (
    AnnotatedClips,
    PictureFiles,
    frames_of,
    read_clips_of,
    read_coco_pictures,
)
from pipeline.lab.training.build import build_run
from pipeline.lab.training.pictures import make_batch
from pipeline.lab.training.recipe import CocoData, YtvisData
from tests.pipeline.lab.training.runs import ALONE, recipe, run, stage

HEIGHT, WIDTH = 60, 80
SQUARE = [[20, 10, 60, 10, 60, 50, 20, 50]]


def runs(rows, columns):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[rows, columns] = 1
    encoded = coco_mask.encode(mask)
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def coco(tmp_path, *annotations, images=2, names=("red_box", "deer"), **first):
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels[10:50, 20:60] = (200, 30, 30)
    for number in range(1, images + 1):
        write_picture(tmp_path / f"{number}.png", pixels)
    listed = [
        {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
        for n in range(1, images + 1)
    ]
    if first:
        listed[0] |= first
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    content = {"images": listed, "categories": categories, "annotations": list(annotations)}
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


def square(side, left=0, top=0):
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_a_crop_that_nothing_can_be_asked_of_is_drawn_again(tmp_path):
    small = annotation(segmentation=square(9, left=2, top=2))
    source = read_coco_pictures(coco(tmp_path, small, images=1, names=["speck"]))
    plan = stage(images=1)
    asked = [bool(source.draw(np.random.default_rng(n), 56, plan)[0].questions) for n in range(20)]
    assert {True, False} == set(asked)
    for n in range(20):
        assert make_batch(np.random.default_rng(n), source, plan, places=4).phrases


def test_objects_that_are_always_too_small_are_an_error(tmp_path):
    speck = annotation(segmentation=square(3, left=38, top=28))
    source = read_coco_pictures(coco(tmp_path, speck, images=1, names=["speck"]))
    with pytest.raises(ConfigError, match=r"nothing could be asked .*larger image_size"):
        make_batch(np.random.default_rng(0), source, stage(images=1), places=4)


def test_objects_are_shown_from_nearby(tmp_path):
    found = annotation(segmentation=square(12, 8, 8)), annotation(2, segmentation=square(8, 60, 40))
    source = read_coco_pictures(coco(tmp_path, *found, images=1))
    near = source.draw(np.random.default_rng(3), 56, stage(close_ups=1, max_objects=5))
    assert [one.questions[0].phrase for one in near] == ["red box"] * 2
    assert all(one.pixels.shape == (56, 56, 3) for one in near)
    assert all(one.questions[0].masks[0].mean() > 1 / 25 for one in near)
    one = source.draw(np.random.default_rng(3), 56, stage(close_ups=1, max_objects=1))
    assert len(one) == 1


def test_a_picture_stored_in_another_size_is_brought_to_its_masks(tmp_path):
    data = coco(tmp_path, annotation(), images=1)
    pixels = np.full((HEIGHT // 2, WIDTH // 2, 3), 90, np.uint8)
    pixels[5:25, 10:30] = (200, 30, 30)
    write_picture(tmp_path / "1.png", pixels)
    (drawn,) = read_coco_pictures(data).draw(np.random.default_rng(1), 56, stage())
    is_red = drawn.pixels[..., 0] > 150
    mask = drawn.questions[0].masks[0]
    assert (is_red & mask).sum() / (is_red | mask).sum() > 0.85


def draws(source):
    return [source.draw(np.random.default_rng(seed), 56, stage()) for seed in range(8)]


def _damage(path):
    path.write_bytes(path.read_bytes()[:60])


def _turn(path):
    write_picture(path, np.zeros((WIDTH, HEIGHT, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(_damage, r"1\.png"), (_turn, "1.png: 60 x 80 px, but annotated as 80 x 60")],
)
def test_files_that_cannot_be_used_are_told_once_and_passed_over(tmp_path, caplog, spoil, told):
    data = coco(tmp_path, annotation(), annotation(2, image_id=2, segmentation=square(40)))
    spoil(tmp_path / "1.png")
    source = read_coco_pictures(data)
    assert all(map(len, draws(source)))
    (message,) = caplog.messages
    assert re.search(told, message)
    strict = read_coco_pictures(data.model_copy(update={"on_bad": "fail"}))
    with pytest.raises(ConfigError, match=told):
        draws(strict)
    spoil(tmp_path / "2.png")
    with pytest.raises(ConfigError, match="none of 2 pictures is usable"):
        read_coco_pictures(data).draw(np.random.default_rng(0), 56, stage())


def test_categories_of_one_name_are_one_phrase(tmp_path):
    found = annotation(), annotation(2, category_id=2, segmentation=square(20))
    (picture, other) = read_coco_pictures(coco(tmp_path, *found, names=["deer", "deer"])).pictures
    assert (len(picture.objects["deer"]), picture.absent) == (2, ())
    assert (other.objects, other.absent) == ({}, ("deer",))


def test_entries_of_one_file_are_one_picture(tmp_path):
    data = coco(tmp_path, annotation(), annotation(2, image_id=2, category_id=2), file_name="2.png")
    (picture,) = read_coco_pictures(data).pictures
    assert (set(picture.objects), picture.absent) == ({"red box", "deer"}, ())


@pytest.mark.parametrize("fields", [{"iscrowd": 1}, {"bbox": [70, 50, 60, 60]}])
@pytest.mark.parametrize("names", [("deer", "deer", "fox"), ("deer", "fox")])
def test_what_is_not_known_is_not_absent_by_another_entry(tmp_path, fields, names):
    data = coco(tmp_path, annotation(**fields), names=names, file_name="2.png")
    (picture,) = read_coco_pictures(data).pictures
    assert (picture.objects, picture.absent) == ({}, ("fox",))


def test_entries_of_one_file_in_two_sizes_are_told_once_and_leave_nothing_absent(tmp_path, caplog):
    data = coco(tmp_path, annotation(), file_name="2.png", height=HEIGHT * 2, width=WIDTH * 2)
    (picture,) = read_coco_pictures(data).pictures
    assert (picture.objects, picture.absent) == ({}, ())
    (message,) = caplog.messages
    assert "picture '2.png': annotated as 160 x 120 and 80 x 60 px (accepted: one size)" in message


@pytest.mark.parametrize("odd", [[2], {"a": 1}, True, "two", None])
def test_ids_and_names_of_any_kind_are_told_and_not_stumbled_over(tmp_path, odd, caplog):
    data = coco(tmp_path, annotation(2, image_id="0001"))
    content = json.loads(data.annotations.read_text())
    content["images"][1]["id"] = odd
    content["images"][0]["id"] = "0001"
    content["categories"][1] |= {"supercategory": odd, "name": odd}
    content["categories"].append({"id": odd, "name": "red_box", "supercategory": odd})
    data.annotations.write_text(json.dumps(content))
    (picture,) = read_coco_pictures(data).pictures
    assert "red box" in picture.objects
    assert "image at place 1: id" in caplog.text


def test_a_sliver_on_a_close_up_is_not_asked_for(tmp_path):
    small = annotation(segmentation=square(12, 4, 20))
    large = annotation(2, category_id=2, segmentation=[[18, 2, 78, 2, 78, 58, 18, 58]])
    source = read_coco_pictures(coco(tmp_path, small, large, images=1))
    plan = stage(close_ups=1, max_objects=2)
    shares = [
        question.masks[0].mean()
        for n in range(40)
        for one in source.draw(np.random.default_rng(n), 56, plan)
        for question in one.questions
        if question.phrase == "deer" and question.masks
    ]
    # No close-up is larger than the picture is high.
    assert min(shares) >= 0.15 * (60 * 56) / HEIGHT**2


def test_a_category_that_only_holds_others_is_not_asked(tmp_path):
    data = coco(tmp_path, annotation(category_id=2), names=["animals", "deer", "animals_too"])
    content = json.loads(data.annotations.read_text())
    content["categories"][1]["supercategory"] = "animals"
    data.annotations.write_text(json.dumps(content))
    assert read_coco_pictures(data).pictures[1].absent == ("deer", "animals too")


def test_annotations_of_no_image_are_told(tmp_path, caplog):
    read_coco_pictures(coco(tmp_path, annotation(), annotation(2, image_id=0)))
    assert "annotation 2: image_id 0 (accepted: the id of an image)" in caplog.text


def test_a_crowd_is_neither_there_nor_absent(tmp_path):
    data = clips(tmp_path)
    content = json.loads(data.annotations.read_text())
    content["annotations"][0]["iscrowd"] = 1
    data.annotations.write_text(json.dumps(content))
    (picture, *_) = frames_of(read_clips_of(data), data.images, PictureFiles()).pictures
    assert (picture.objects, picture.absent) == ({}, ())


def test_a_crowd_in_a_question_leaves_it_out(tmp_path):
    data = coco(tmp_path, images=1)
    image = {"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}
    asked = [
        image | {"id": n, "text_input": f"deer {n}", "is_instance_exhaustive": 1} for n in (1, 2)
    ]
    crowd = {"id": 1, "image_id": 1, "iscrowd": 1, "segmentation": runs(slice(5, 9), slice(5, 9))}
    data.annotations.write_text(json.dumps({"images": asked, "annotations": [crowd]}))
    (picture,) = read_coco_pictures(data).pictures
    assert picture.absent == ("deer 2",)


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
    content = {
        "videos": [video],
        "categories": [{"id": 1, "name": "red_box"}],
        "annotations": [found],
    }
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
    source = frames_of(read_clips_of(data), data.images, PictureFiles())
    assert [len(picture.objects["red box"]) for picture in source.pictures] == [1] * 5
    (question,) = source.draw(np.random.default_rng(2), 56, stage())[0].questions
    assert (question.phrase, question.masks[0].any()) == ("red box", True)


def own_recipe(data, *tasks):
    return recipe(*(stage(task, task=task) for task in tasks), data=(data,), start="shipped")


def test_annotations_for_pictures_and_clips_are_read_once(tmp_path, caplog):
    data = clips(tmp_path)
    content = json.loads(data.annotations.read_text())
    content["videos"].append({"id": 2, "file_names": ["b.png"], "height": 6, "width": 8})
    data.annotations.write_text(json.dumps(content))
    build_run(own_recipe(data, "detector", "tracker"), out=tmp_path, group=ALONE)
    (told,) = caplog.messages
    assert "video 2: 1 pictures missing" in told


def test_data_that_no_stage_needs_is_not_asked_for(tmp_path):
    pictures_only = coco(tmp_path, annotation())
    build_run(own_recipe(pictures_only, "backbone", "detector"), out=tmp_path, group=ALONE)
    with pytest.raises(ConfigError, match="only pictures, but a stage trains the tracker"):
        build_run(own_recipe(pictures_only, "tracker"), out=tmp_path, group=ALONE)


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
    from pipeline.lab.training.detector_task import DetectorTask
    from tests.pipeline.lab.training import runs as small

    source = read_coco_pictures(coco(tmp_path, annotation(), annotation(2, image_id=2)))
    monkeypatch.setitem(small.TASKS, "detector", DetectorTask(source=source, patch_size=14))
    run(recipe(stage(train=("detector_model.detr_",))), tmp_path / "out", is_fresh=False)
    assert (tmp_path / "out" / "model.safetensors").is_file()
