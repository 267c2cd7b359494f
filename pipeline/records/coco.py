"""COCO's annotation format, and records in it."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.common.masks import Box, RunLengths
from pipeline.records.schema import AnyRecord, MaskletsRecord, ObjectRecord


class CocoModel(BaseModel):
    """Part of a COCO file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class CocoRle(CocoModel):
    """A mask as COCO's compressed run lengths."""

    size: tuple[int, int]
    """Height and width."""
    counts: str


class CocoImage(CocoModel):
    """One picture."""

    id: int
    file_name: str
    width: int
    height: int


class CocoCategory(CocoModel):
    """One phrase, or "object" where no phrase was given."""

    id: int
    name: str
    supercategory: str = ""


class CocoAnnotation(CocoModel):
    """One object. ``score`` and all after it are beyond COCO's detection format."""

    id: int
    image_id: int
    category_id: int
    segmentation: CocoRle | None = None
    bbox: Box
    """x, y, width, height of the mask in px."""
    area: int
    """Of the mask in px."""
    iscrowd: int = 0
    score: float


class FrameImage(CocoImage):
    """One frame of a stream; all but COCO's fields are those of its record."""

    stream_id: str
    stream_epoch: int
    frame_seq: int
    capture_time: str


class TrackAnnotation(CocoAnnotation):
    """One object of a frame, with its identity."""

    track_id: int
    """The same for all annotations of one track, from 1."""
    track_uid: str


def to_coco(records: Iterable[AnyRecord]) -> dict[str, Any]:
    """Return masklets records as a COCO dataset: an image per frame, a category per concept.

    Objects that cannot be seen are left out. An object without its mask, because the record was too
    large, has its box alone. Records of other kinds are passed over.

    Args:
        records: As ``read_records`` yields them.

    Example:
        >>> coco = COCO()
        >>> coco.dataset = to_coco(read_records("demo-out"))
        >>> coco.createIndex()
    """
    images: list[FrameImage] = []
    annotations: list[TrackAnnotation] = []
    category_ids: dict[str, int] = {}
    track_ids: dict[str, int] = {}
    for record in records:
        if not isinstance(record, MaskletsRecord):
            continue
        images.append(_image(record, len(images) + 1))
        for name in record.presence:
            category_ids.setdefault(name, len(category_ids) + 1)
        for one in visible_objects(record):
            annotation = _annotation(
                one,
                record,
                id=len(annotations) + 1,
                image_id=len(images),
                category_id=category_ids.setdefault(one.concept, len(category_ids) + 1),
                track_id=track_ids.setdefault(one.track_uid, len(track_ids) + 1),
            )
            annotations.append(annotation)
    categories = [CocoCategory(id=number, name=name) for name, number in category_ids.items()]
    return {
        "info": {"description": "maskstream"},
        "licenses": [],
        "images": [one.model_dump(mode="json") for one in images],
        "categories": [one.model_dump(mode="json") for one in categories],
        "annotations": [one.model_dump(mode="json", exclude_none=True) for one in annotations],
    }


def visible_objects(record: MaskletsRecord) -> list[ObjectRecord]:
    """Return the objects that can be seen on the frame, with or without their masks."""
    return [one for one in record.objects if one.area > 0]


def box_in_px(one: ObjectRecord, record: MaskletsRecord) -> Box:
    """Return an object's x, y, width and height in px of the frame."""
    x, y, width, height = one.bbox
    frame = record.frame
    return x * frame.width, y * frame.height, width * frame.width, height * frame.height


def _image(record: MaskletsRecord, number: int) -> FrameImage:
    ref = record.source_ref
    place = f"{record.stream_id}/{record.stream_epoch}/{record.frame_seq}"
    return FrameImage(
        id=number,
        file_name=ref.media if ref is not None and ref.media else place,
        width=record.frame.width,
        height=record.frame.height,
        stream_id=record.stream_id,
        stream_epoch=record.stream_epoch,
        frame_seq=record.frame_seq,
        capture_time=record.model_dump(mode="json", include={"capture_time"})["capture_time"],
    )


def _annotation(one: ObjectRecord, record: MaskletsRecord, **ids: int) -> TrackAnnotation:
    mask, frame = one.mask, record.frame
    if mask is None:
        segmentation, area = None, round(one.area * frame.width * frame.height)
    else:
        segmentation = CocoRle(size=mask.size, counts=mask.counts)
        area = RunLengths.from_counts(mask.counts, mask.size).area
    return TrackAnnotation.model_validate(
        {
            **ids,
            "segmentation": segmentation,
            "bbox": box_in_px(one, record),
            "area": area,
            "score": one.score,
            "track_uid": one.track_uid,
        }
    )
