"""Films of the synthetic world as a data set: pictures, a video, and truth that other tools read.

``annotations.json`` has the layout of SA-Co/VEval, which is that of YouTube-VIS with noun phrases:
``videos``, ``categories``, ``annotations`` with one run-length mask or null per frame, and
``video_np_pairs`` with every phrase that is asked of a video, also those that nothing answers.
``objects`` adds what the world knows beyond that: identities, looks, visibility and whole
silhouettes. ``instances.json`` has the same frames in COCO's layout for pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from connectors.annotate.encoder import VideoEncoder
from connectors.errors import NotWritableError
from connectors.files.writing import write_json
from connectors.pictures.stills import write_picture
from connectors.world.compose import WorldFrame, WorldObject
from connectors.world.concepts import ABSENT_PHRASES, CONCEPTS
from connectors.world.scene import WorldConfig
from connectors.world.source import WORLD_EPOCH, WorldSource
from connectors.world.wide.casting import pool_of
from connectors.world.wide.questions import View, draw_wide_questions
from connectors.world.wide.scene import WideConfig
from models.common.masks import RunLengths
from pipeline.lab.data.datasets.shapes import Shape
from pipeline.lab.evaluation.held_out import Gathering

ANNOTATIONS, INSTANCES = "annotations.json", "instances.json"
FRAMES, VIDEOS = "frames", "videos"


@dataclass(slots=True, kw_only=True)
class ObjectTruth:
    """One object of a film.

    Attributes:
        object_id: Its number in the film.
        best: Its truth on the frame that shows most of it.
        visible: What shows of it on each frame, ``None`` where it cannot be seen.
        full: Its silhouette on each frame, hidden parts included; ``None`` outside the frame.
        visibility: Visible share on each frame, 0 to 1.
    """

    object_id: int
    best: WorldObject
    visible: list[Shape | None]
    full: list[Shape | None]
    visibility: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film that is written, with its truth.

    Attributes:
        name: Its name in file names.
        height: Rows.
        width: Columns.
        file_names: Its pictures below the folder of frames, in order.
        objects: All objects that ever reach into the picture.
        questions: Phrases that are asked, each with the ids of all objects that it covers.
    """

    name: str
    height: int
    width: int
    file_names: tuple[str, ...]
    objects: tuple[ObjectTruth, ...]
    questions: Mapping[str, tuple[int, ...]]


def shoot(
    config: WorldConfig | WideConfig, *, name: str, folder: Path, questions: int, has_video: bool
) -> Film:
    """Write a scene's frames and video and gather its truth.

    Args:
        config: The scene.
        name: Name of the film.
        folder: Where the data set is.
        questions: How many phrases to ask, about half of them in vain.
        has_video: Whether an MP4 is written too.

    Raises:
        NotWritableError: If a file cannot be written.
    """
    video = _begin_video(folder / VIDEOS / f"{name}.mp4", config) if has_video else None
    files: list[str] = []
    truths: dict[int, ObjectTruth] = {}
    gathered = Gathering()
    with WorldSource(stream_id=name, config=config) as source:
        try:
            while (frame := source.read()) is not None:
                files.append(f"{name}/{frame.frame_seq:05d}.jpg")
                write_picture(folder / FRAMES / files[-1], frame.pixels)
                if video:
                    video.add(frame, frame.pixels)
                _note(truths, gathered, source.truth(frame.frame_seq))
        finally:
            if video:
                video.end()
    for truth in truths.values():
        _pad(truth, len(files))
    objects = tuple(truths[number] for number in sorted(truths))
    gathered.best = {truth.object_id: truth.best for truth in objects}
    return Film(
        name=name,
        height=config.height,
        width=config.width,
        file_names=tuple(files),
        objects=objects,
        questions=_ask(config, gathered.view(), questions),
    )


def _begin_video(path: Path, config: WorldConfig | WideConfig) -> VideoEncoder:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritableError(str(path), str(error.strerror)) from error
    height, width = config.height, config.width
    # The codec takes even sides only.
    return VideoEncoder.begin(path, (height - height % 2, width - width % 2), fps=config.fps)


def _note(truths: dict[int, ObjectTruth], gathered: Gathering, frame: WorldFrame) -> None:
    gathered.add(frame)
    for thing in frame.objects:
        truth = truths.get(thing.object_id)
        if truth is None:
            truth = ObjectTruth(
                object_id=thing.object_id, best=thing, visible=[], full=[], visibility=[]
            )
            truths[thing.object_id] = truth
        _pad(truth, frame.index)
        is_seen = thing.visibility > 0
        truth.visible.append(Shape.of(RunLengths.of(thing.visible_mask)) if is_seen else None)
        truth.full.append(Shape.of(RunLengths.of(thing.full_mask)))
        truth.visibility.append(round(thing.visibility, 4))
        truth.best = gathered.best[thing.object_id]


def _pad(truth: ObjectTruth, length: int) -> None:
    missing = length - len(truth.visible)
    truth.visible += [None] * missing
    truth.full += [None] * missing
    truth.visibility += [0.0] * missing


def _ask(config: WorldConfig | WideConfig, view: View, number: int) -> dict[str, tuple[int, ...]]:
    rng = np.random.default_rng((config.seed, number))
    if isinstance(config, WideConfig):
        asked = draw_wide_questions(rng, view, split=config.content.split, number=number)
        return {question.phrase.text: question.object_ids for question in asked}
    return _ask_of_meadow(rng, view, number)


def _ask_of_meadow(rng: np.random.Generator, view: View, number: int) -> dict[str, tuple[int, ...]]:
    """Ask for every concept by one of its names, then in vain."""
    questions: dict[str, tuple[int, ...]] = {}
    absent = list(ABSENT_PHRASES)
    present = {thing.concept for thing in view.present}
    for concept in CONCEPTS:
        covered = tuple(t.object_id for t in view.seen if t.concept == concept.name)
        if not covered:
            absent.append(concept.name)
        elif concept.name in present:
            names = (concept.name, *concept.synonyms)
            questions[names[int(rng.integers(len(names)))]] = covered
    rest = max(number - len(questions), len(questions), 1)
    for place in rng.permutation(len(absent))[:rest]:
        questions[absent[int(place)]] = ()
    return questions


@dataclass(slots=True, kw_only=True)
class _Numbers:
    """Ids of the phrases, in the order in which they come."""

    of_phrase: dict[str, int] = field(default_factory=dict[str, int])

    def get(self, phrase: str) -> int:
        return self.of_phrase.setdefault(phrase, len(self.of_phrase) + 1)


def write_annotations(films: Sequence[Film], folder: Path, *, description: str) -> None:
    """Write the truth of all films; the same films give the same bytes.

    Raises:
        NotWritableError: If a file cannot be written.
    """
    info = {"version": "v1", "date": WORLD_EPOCH.date().isoformat(), "description": description}
    numbers = _Numbers()
    pairs = list(_pairs(films, numbers))
    annotations = list(_annotations(films, numbers))
    categories = [{"id": number, "name": phrase} for phrase, number in numbers.of_phrase.items()]
    content = {
        "info": info,
        "videos": [_video(number, film) for number, film in enumerate(films)],
        "annotations": annotations,
        "categories": categories,
        "video_np_pairs": pairs,
        "objects": list(_objects(films)),
    }
    write_json(folder / ANNOTATIONS, content)
    write_json(folder / INSTANCES, {"info": info, **_instances(films)})


def _video(number: int, film: Film) -> dict[str, object]:
    return {
        "id": number,
        "video_name": film.name,
        "file_names": film.file_names,
        "height": film.height,
        "width": film.width,
        "length": len(film.file_names),
    }


def _pairs(films: Sequence[Film], numbers: _Numbers) -> Iterator[dict[str, object]]:
    count = 0
    for video, film in enumerate(films):
        for phrase, covered in film.questions.items():
            count += 1
            yield {
                "id": count,
                "video_id": video,
                "category_id": numbers.get(phrase),
                "noun_phrase": phrase,
                "num_masklets": len(covered),
            }


def _masklet(shapes: Sequence[Shape | None]) -> dict[str, object]:
    return {
        "segmentations": [shape and shape.mask.compressed() for shape in shapes],
        "bboxes": [shape and list(shape.box_xywh) for shape in shapes],
        "areas": [shape and float(shape.area) for shape in shapes],
    }


def _annotations(films: Sequence[Film], numbers: _Numbers) -> Iterator[dict[str, object]]:
    count = 0
    for video, film in enumerate(films):
        by_id = {truth.object_id: truth for truth in film.objects}
        for phrase, covered in film.questions.items():
            for object_id in covered:
                count += 1
                yield {
                    "id": count,
                    **_masklet(by_id[object_id].visible),
                    "iscrowd": 0,
                    "video_id": video,
                    "height": film.height,
                    "width": film.width,
                    "category_id": numbers.get(phrase),
                    "noun_phrase": phrase,
                    "object_id": object_id,
                }


def _objects(films: Sequence[Film]) -> Iterator[dict[str, object]]:
    for video, film in enumerate(films):
        for truth in film.objects:
            yield {
                "video_id": video,
                "object_id": truth.object_id,
                "concept": truth.best.concept,
                "attributes": truth.best.attributes,
                "visibilities": truth.visibility,
                "visible_segmentations": [s and s.mask.compressed() for s in truth.visible],
                "full_segmentations": [s and s.mask.compressed() for s in truth.full],
            }


def _instances(films: Sequence[Film]) -> dict[str, object]:
    """COCO's layout: one image per frame, one category per concept."""
    numbers = _Numbers()
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for film in films:
        for index, file_name in enumerate(film.file_names):
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": file_name,
                    "height": film.height,
                    "width": film.width,
                }
            )
            for truth in film.objects:
                shape = truth.visible[index]
                if shape is not None:
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": len(images),
                            "category_id": numbers.get(truth.best.concept),
                            "segmentation": shape.mask.compressed(),
                            "bbox": list(shape.box_xywh),
                            "area": float(shape.area),
                            "iscrowd": 0,
                        }
                    )
    categories = [{"id": number, "name": name} for name, number in numbers.of_phrase.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def concept_count(config: WorldConfig | WideConfig) -> int:
    """Return how many concepts a scene draws from."""
    if isinstance(config, WideConfig):
        return len(pool_of(config.content.split, config.content.concepts))
    return len(config.concepts)
