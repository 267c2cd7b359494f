"""The functions that :mod:`pipeline` offers to Python. Importing this costs next to nothing.

Each does what the command of its name does, by the same code; torch is imported once a model is
built.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.config.run import RunConfig
    from pipeline.engine.summary import RunSummary
    from pipeline.records.schema import AnyRecord
    from pipeline.segment.results import PictureResult

AnyPath = str | PathLike[str]
Box = tuple[float, float, float, float]
# x, y on the object; with False, off it.
Point = tuple[float, float] | tuple[float, float, bool]


def load_config(path: AnyPath, environ: Mapping[str, str] | None = None) -> "RunConfig":
    """Read and check a YAML configuration.

    Args:
        path: The file.
        environ: Variables for ``${NAME}`` in it; the process's own by default.

    Raises:
        pipeline.errors.ConfigError: One line per problem: file, line, field, what is accepted.

    Example:
        >>> config = load_config("configs/pipelines/demo.yaml")
        >>> [stream.id for stream in config.streams]
        ['meadow']
    """
    from pipeline.config import loading

    return loading.load_config(Path(path), environ=environ)


def run(config: "RunConfig | AnyPath") -> "RunSummary":
    """Watch all streams of a configuration until they end, and return what came of it.

    Args:
        config: A configuration, or the path of one.

    Raises:
        pipeline.errors.ConfigError: If it cannot be run as it is.
        connectors.errors.ConnectorError: If a sink cannot be opened.

    Example:
        >>> summary = run("configs/pipelines/demo.yaml")
        >>> print(summary.num_processed, [stream.events for stream in summary.streams])
    """
    from pipeline.app import open_app
    from pipeline.config.run import RunConfig

    resolved = config if isinstance(config, RunConfig) else load_config(config)
    with open_app(resolved) as app:
        return app.engine.run()


def read_records(source: "AnyPath | Iterable[str]") -> "Iterator[AnyRecord]":
    """Yield the records of a ``.jsonl`` file, a folder of them, or lines.

    Args:
        source: What a ``jsonl`` sink has written.

    Raises:
        pipeline.errors.RecordError: If a line is no record; names file and line.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     for one in record.objects:
        ...         print(one.track_no, one.concept, one.mask and one.mask.to_array().sum())
    """
    from pipeline.records import reading

    return reading.read_records(Path(source) if isinstance(source, PathLike) else source)


def segment(  # noqa: PLR0913 - one per way of asking
    pictures: "AnyPath | NDArray[np.uint8] | Sequence[AnyPath | NDArray[np.uint8]]",
    concepts: str | Sequence[str] = (),
    *,
    exemplars: Sequence[Box] = (),
    counterexamples: Sequence[Box] = (),
    points: Sequence[Point] = (),
    boxes: Sequence[Box] = (),
    mask: AnyPath | None = None,
    everything: bool = False,
    model: str | None = None,
    checkpoint: AnyPath | None = None,
    device: str = "auto",
    min_score: float | None = None,
) -> "Iterator[PictureResult]":
    """Segment pictures by phrases, examples, points, boxes or a mask, or everything on them.

    Boxes are x, y, width, height, points x, y; all in px of the upright picture.

    Args:
        pictures: Files, folders or patterns; or RGB arrays (H, W, 3), uint8.
        concepts: Phrases; all instances are found.
        exemplars: Boxes around what is meant.
        counterexamples: Boxes around what is not meant.
        points: On one object, or with a third value False off it.
        boxes: Each around an object.
        mask: A picture that is bright where the object roughly is.
        everything: Find whatever there is.
        model: Name of a model; the checkpoint's, or ``sam3-nano``, when left out.
        checkpoint: Weights; the shipped or downloaded ones when left out.
        device: auto, cpu, cuda, cuda:N or mps.
        min_score: Drop what scores less.

    Returns:
        An answer per picture. One that cannot be read has its ``error`` set, and the others go on.

    Raises:
        pipeline.errors.ConfigError: If the model cannot be used, or not for such prompts.

    Example:
        >>> for result in segment("photos/", ["deer", "person in a red jacket"]):
        ...     for found in result.objects:
        ...         print(result.path, found.concept, found.score, found.bbox, found.mask.shape)
    """
    from pipeline.segment.building import ModelChoice, build_finder
    from pipeline.segment.pictures import list_all, segment_each
    from pipeline.segment.prompts import BoxPrompt, PointPrompt, Prompts, check_prompts

    shown = [BoxPrompt.of(box) for box in exemplars]
    shown += [BoxPrompt.of(box, is_positive=False) for box in counterexamples]
    prompts = Prompts(
        concepts=(concepts,) if isinstance(concepts, str) else tuple(concepts),
        exemplars=tuple(shown),
        points=tuple(PointPrompt(x=p[0], y=p[1], is_positive=all(p[2:])) for p in points),
        boxes=tuple(BoxPrompt.of(box) for box in boxes),
        mask=None if mask is None else Path(mask),
        is_everything=everything,
    )
    check_prompts(prompts)
    weights = None if checkpoint is None else Path(checkpoint)
    choice = ModelChoice(name=model, checkpoint=weights, device=device, min_score=min_score)
    finder = build_finder(prompts, choice)
    is_one = isinstance(pictures, str | PathLike) or hasattr(pictures, "shape")
    listed = cast("Sequence[AnyPath | NDArray[np.uint8]]", [pictures] if is_one else pictures)
    found, failures = list_all(Path(p) if isinstance(p, str | PathLike) else p for p in listed)
    return chain(failures, segment_each(found, finder))
