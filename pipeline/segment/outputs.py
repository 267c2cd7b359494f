"""What ``segment`` leaves behind: COCO JSON, a mask per object, a drawing per picture.

::

    OUT/annotations.json                 COCO object detection, run-length masks
    OUT/masks/PICTURE_1.png              8 bit, 0 and 255, the picture's size
    OUT/overlays/PICTURE.jpg             the picture with everything found on it

PICTURE is the name of the picture's file without its ending. Sizes, boxes and masks are those of
the upright picture. Into the folder of an earlier call, a picture's files are written anew; those
of pictures that are not asked about stay.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from connectors.annotate.draw import Marks, Style, draw
from connectors.base import Overlay
from connectors.errors import NotWritableError
from connectors.files.writing import write_whole
from connectors.pictures.stills import write_picture
from pipeline.observe.metrics import package_version
from pipeline.records.coco import CocoAnnotation, CocoCategory, CocoImage, CocoModel, CocoRle
from pipeline.segment.results import Findings, FoundObject

ANNOTATIONS, MASKS, OVERLAYS = "annotations.json", "masks", "overlays"
_STYLE = Style(min_width=1000, max_factor=8, max_side=2048)
# More name plates than this hide the picture.
_MAX_PLATES = 40


class PictureImage(CocoImage):
    """One picture; ``file_name`` is relative to ``info.image_folder``."""

    presence_scores: dict[str, float] | None = None
    """By phrase: the probability that it is on the picture at all; beyond COCO."""


class FoundAnnotation(CocoAnnotation):
    """One object that was found on a picture."""

    mask: str
    """The file with the mask, relative to this one."""
    presence_score: float | None = None
    predicted_iou: float | None = None
    stability_score: float | None = None


class CocoInfo(CocoModel):
    """Where the file comes from."""

    description: str
    version: str
    image_folder: str


class CocoFile(CocoModel):
    """``annotations.json``."""

    info: CocoInfo
    licenses: tuple[str, ...] = ()
    images: list[PictureImage] = Field(default_factory=list[PictureImage])
    categories: list[CocoCategory]
    annotations: list[FoundAnnotation] = Field(default_factory=list[FoundAnnotation])


class ResultWriter:
    """Writes masks and drawings as they come, and the annotations at the end.

    Guarantee: every file is whole or not there; ``annotations.json`` appears when the block is
        left, also when it is left by an error, with what was added until then.
    """

    def __init__(self, folder: Path, pictures: Sequence[Path], categories: Sequence[str]) -> None:
        """Prepare to write about ``pictures``, which are told apart by their names."""
        self._folder = folder
        self._root, self._names = _root_of(pictures), _unique_stems(pictures)
        self._category_ids = {name: number for number, name in enumerate(categories, start=1)}
        self._coco = CocoFile(
            info=CocoInfo(
                description="maskstream segment",
                version=package_version(),
                image_folder=str(self._root),
            ),
            categories=[
                CocoCategory(id=number, name=name) for name, number in self._category_ids.items()
            ],
        )

    def __enter__(self) -> "ResultWriter":
        try:
            for name in (MASKS, OVERLAYS):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(str(self._folder), str(error.strerror)) from error
        return self

    def __exit__(self, *_error: object) -> None:
        text = self._coco.model_dump_json(exclude_none=True)
        write_whole(self._folder / ANNOTATIONS, text.encode())

    def add(
        self, picture: Path, pixels: NDArray[np.uint8], findings: Findings, marks: Marks
    ) -> None:
        """Write what was found on one picture.

        Raises:
            NotWritableError: If a file cannot be written.
        """
        name, image_id = self._names[picture], len(self._coco.images) + 1
        masks = [f"{MASKS}/{name}_{row}.png" for row in range(1, len(findings.objects) + 1)]
        for found, file in zip(findings.objects, masks, strict=True):
            plane = found.mask.astype(np.uint8) * np.uint8(255)
            write_picture(self._folder / file, plane)
        self._drop_older_masks(name, len(masks) + 1)
        drawn = draw(pixels, self._overlays(findings.objects), (), _STYLE, marks=marks)
        write_picture(self._folder / OVERLAYS / f"{name}.jpg", drawn)
        self._coco.images.append(
            PictureImage(
                id=image_id,
                file_name=picture.absolute().relative_to(self._root).as_posix(),
                width=pixels.shape[1],
                height=pixels.shape[0],
                presence_scores=findings.presence_scores,
            )
        )
        for found, file in zip(findings.objects, masks, strict=True):
            number = len(self._coco.annotations) + 1
            category_id = self._category_ids[found.concept]
            self._coco.annotations.append(_annotation(found, number, image_id, category_id, file))

    def _drop_older_masks(self, name: str, number: int) -> None:
        """Remove what a call before this one found on the picture beyond what is found now."""
        try:
            while (older := self._folder / MASKS / f"{name}_{number}.png").is_file():
                older.unlink()
                number += 1
        except OSError as error:
            raise NotWritableError(str(self._folder), str(error.strerror)) from error

    def _overlays(self, objects: Sequence[FoundObject]) -> Iterator[Overlay]:
        """Yield what is to be drawn, large objects first, so that small ones stay visible."""
        has_plates = len(objects) <= _MAX_PLATES
        for place in sorted(range(len(objects)), key=lambda place: -objects[place].area):
            found = objects[place]
            label = f"{found.concept} {found.score:.2f}" if has_plates else ""
            yield Overlay(number=place + 1, label=label, bits=found.mask)


def _annotation(
    found: FoundObject, number: int, image_id: int, category_id: int, file: str
) -> FoundAnnotation:
    return FoundAnnotation(
        id=number,
        image_id=image_id,
        category_id=category_id,
        segmentation=CocoRle(size=found.run_lengths.size_hw, counts=found.run_lengths.counts),
        bbox=found.bbox,
        area=found.area,
        score=found.score,
        mask=file,
        presence_score=found.presence_score,
        predicted_iou=found.predicted_iou,
        stability_score=found.stability_score,
    )


def _root_of(pictures: Sequence[Path]) -> Path:
    """Return the folder that holds all pictures, and from which COCO names them."""
    return Path(os.path.commonpath([picture.absolute().parent for picture in pictures]))


def _unique_stems(pictures: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each picture's files; those of equal stems are numbered from the second."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for picture in pictures:
        number, name = 1, picture.stem
        while name.casefold() in taken:
            number += 1
            name = f"{picture.stem}-{number}"
        taken.add(name.casefold())
        names[picture] = name
    return names
