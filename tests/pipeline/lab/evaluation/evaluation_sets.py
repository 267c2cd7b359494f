"""Small data sets in the published layouts, made from held-out worlds, and who knows them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.common.masks import RunLengths
from models.protocols import FrameInput, Prediction
from pipeline.lab.data.datasets.shapes import Shape
from pipeline.lab.evaluation.held_out import Question, is_counted
from pipeline.lab.evaluation.images import ImageSettings, draw_picture
from pipeline.lab.evaluation.video import VideoSettings, draw_clip
from tests.pipeline.lab.oracles import observe

SIDE = 96
PICTURES = ImageSettings(num_pictures=4, width=SIDE, height=SIDE, seed=4)
CLIPS = VideoSettings(num_clips=2, width=SIDE, height=SIDE, fps=2.0, duration_s=6.0, seed=3)
Mask = NDArray[np.bool_]
Json = dict[str, object]


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_saco(root: Path) -> Path:
    """SA-Co's layout for pictures; returns the annotation file."""
    images: list[Json] = []
    annotations: list[Json] = []
    for index in range(PICTURES.num_pictures):
        frame, questions = draw_picture(PICTURES, index)
        name = f"scenes/{index}.png"
        save(root / name, frame.pixels)
        for question in questions:
            images.append(
                {
                    "id": 1000 + len(images),
                    "file_name": name,
                    "text_input": question.phrase,
                    "height": SIDE,
                    "width": SIDE,
                    "is_instance_exhaustive": 1,
                }
            )
            annotations += [
                {
                    "id": len(annotations) + 1 + place,
                    "image_id": images[-1]["id"],
                    "segmentation": shape.mask.compressed(),
                    "bbox": [value / SIDE for value in shape.box_xywh],
                    "iscrowd": 0,
                }
                for place, shape in enumerate(
                    Shape.of(RunLengths.of(thing.visible_mask))
                    for thing in frame.objects
                    if thing.concept == question.concept and is_counted(thing)
                )
            ]
    return write_json(root / "gold_a.json", {"images": images, "annotations": annotations})


@cache
def clip_shapes(number: int) -> tuple[list[Question], dict[int, tuple[str, list[Shape | None]]]]:
    """What is asked of a clip, and each object's phrase and shapes."""
    world, questions = draw_clip(CLIPS, number)
    phrase_of = {question.concept: question.phrase for question in questions}
    found: dict[int, tuple[str, list[Shape | None]]] = {}
    for index in range(world.num_frames):
        for thing in filter(is_counted, world.render(index).objects):
            blank: list[Shape | None] = [None] * world.num_frames
            _, shapes = found.setdefault(thing.object_id, (phrase_of[thing.concept], blank))
            shapes[index] = Shape.of(RunLengths.of(thing.visible_mask))
    return questions, found


@cache
def clip_frames(number: int) -> tuple[NDArray[np.uint8], ...]:
    world, _ = draw_clip(CLIPS, number)
    return tuple(world.render(index).pixels for index in range(world.num_frames))


def write_veval(root: Path) -> Path:
    """SA-Co/VEval's layout; returns the annotation file."""
    content: dict[str, list[Json]] = {
        name: [] for name in ("videos", "annotations", "categories", "video_np_pairs")
    }
    for number in range(CLIPS.num_clips):
        names: list[str] = []
        for index, pixels in enumerate(clip_frames(number)):
            names.append(f"clip-{number}/{index:05d}.png")
            save(root / names[-1], pixels)
        content["videos"].append(
            {"id": number, "file_names": names, "height": SIDE, "width": SIDE, "length": len(names)}
        )
        questions, objects = clip_shapes(number)
        ids = {q.phrase: _category(content["categories"], q.phrase) for q in questions}
        content["video_np_pairs"] += [
            {"video_id": number, "category_id": category} for category in ids.values()
        ]
        content["annotations"] += [
            {
                "id": 100 * number + object_id + 1,
                "video_id": number,
                "category_id": ids[phrase],
                **shapes_to_json(shapes),
                "iscrowd": 0,
            }
            for object_id, (phrase, shapes) in objects.items()
        ]
    return write_json(root / "veval.json", content)


def write_burst(root: Path) -> Path:
    """BURST's layout, of all frames; returns the annotation file."""
    sequences: list[Json] = []
    categories: list[Json] = []
    for number in range(CLIPS.num_clips):
        names = [f"frame{index:04d}.png" for index in range(len(clip_frames(number)))]
        for name, pixels in zip(names, clip_frames(number), strict=True):
            save(root / "val" / "World" / f"clip-{number}" / name, pixels)
        questions, objects = clip_shapes(number)
        ids = {q.phrase: _category(categories, q.phrase.replace(" ", "_")) for q in questions}
        there = {phrase for phrase, _ in objects.values()}
        sequences.append(
            {
                "id": number,
                "seq_name": f"clip-{number}",
                "dataset": "World",
                "height": SIDE,
                "width": SIDE,
                "annotated_image_paths": names,
                "neg_category_ids": [ids[phrase] for phrase in ids if phrase not in there],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {str(one + 1): ids[p] for one, (p, _) in objects.items()},
                "segmentations": [
                    {
                        str(one + 1): {"rle": shape.mask.counts, "is_gt": True}
                        for one, (_, shapes) in objects.items()
                        if (shape := shapes[index]) is not None
                    }
                    for index in range(len(names))
                ],
            }
        )
    content = {"sequences": sequences, "categories": categories, "split": "val"}
    return write_json(root / "all_classes.json", content)


def shapes_to_json(shapes: Sequence[Shape | None]) -> Json:
    return {
        "segmentations": [shape and shape.mask.compressed() for shape in shapes],
        "bboxes": [None if shape is None else list(shape.box_xywh) for shape in shapes],
        "areas": [None if shape is None else shape.area for shape in shapes],
    }


def perfect_predictions(annotations: Path) -> list[Json]:
    """The truth of a file as predictions."""
    content = json.loads(annotations.read_text())
    return [{**one, "score": 0.9} for one in content["annotations"]]


def write_labels(
    root: Path, pictures: str, annotations: str, *, num_frames: int | None = None
) -> None:
    """DAVIS's layout, with clip 0 of the set: pictures and PNGs with object ids."""
    _, objects = clip_shapes(0)
    for index, pixels in enumerate(clip_frames(0)[:num_frames]):
        save(root / pictures / "clip" / f"{index:05d}.png", pixels)
        save(root / annotations / "clip" / f"{index:05d}.png", label_of(objects, index))


def write_object_files(root: Path) -> None:
    """SA-V's layout for validation, annotated on every second frame."""
    _, objects = clip_shapes(0)
    for index, pixels in enumerate(clip_frames(0)):
        save(root / "JPEGImages_24fps" / "clip" / f"{index:05d}.png", pixels)
        for place, (_, shapes) in enumerate(objects.values()) if index % 2 == 0 else ():
            mask = mask_of(shapes[index])
            path = root / "Annotations_6fps" / "clip" / f"{place:03d}" / f"{index:05d}.png"
            save(path, mask.astype(np.uint8) * 255)


def label_of(objects: dict[int, tuple[str, list[Shape | None]]], index: int) -> NDArray[np.uint8]:
    label = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for place, (_, shapes) in enumerate(objects.values(), start=1):
        label[mask_of(shapes[index])] = place
    return label


def mask_of(shape: Shape | None) -> Mask:
    return np.zeros((SIDE, SIDE), dtype=np.bool_) if shape is None else shape.mask.mask()


def _category(categories: list[Json], phrase: str) -> int:
    for one in categories:
        if one["name"] == phrase:
            return int(str(one["id"]))
    categories.append({"id": len(categories) + 1, "name": phrase})
    return len(categories)


@dataclass(kw_only=True)
class KnowingTracker:
    """Knows all clips of the set by their pictures; ``is_lost`` objects it does not find."""

    is_lost: Callable[[int, int], bool] = lambda object_id, index: False
    streams: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.truth = {
            pixels.tobytes(): (index, clip_shapes(number)[1])
            for number in range(CLIPS.num_clips)
            for index, pixels in enumerate(clip_frames(number))
        }

    def open_stream(self, stream_id: str, concepts: Sequence[str]) -> None:
        self.streams[stream_id] = tuple(concepts)

    def close_stream(self, stream_id: str) -> None:
        del self.streams[stream_id]

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        return [self._predict(given) for given in inputs]

    def _predict(self, given: FrameInput) -> Prediction:
        index, objects = self.truth[given.pixels.tobytes()]
        masklets = tuple(
            observe(object_id + 1, phrase, mask_of(shapes[index]))
            for object_id, (phrase, shapes) in objects.items()
            if phrase in self.streams[given.stream_id] and not self.is_lost(object_id, index)
        )
        return Prediction(stream_id=given.stream_id, masklets=masklets, ended=(), presence={})
