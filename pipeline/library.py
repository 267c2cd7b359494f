"""The functions that :mod:`pipeline` offers to Python. Importing this costs next to nothing.

Each does what the command of its name does, by the same code; torch is imported once a model is
built.
"""

import atexit
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    import numpy as np
    import supervision
    from numpy.typing import NDArray

    from connectors.config import BaseSourceConfig
    from pipeline.config.run import RunConfig
    from pipeline.engine.summary import RunSummary
    from pipeline.records.reading import Message
    from pipeline.records.schema import AnyRecord, EventRecord, MaskletsRecord
    from pipeline.segment.results import PictureResult
    from pipeline.streams.result import FrameResult

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
    from pipeline import arguments
    from pipeline.config import loading

    variables = arguments.ENVIRON.check("environ", environ)
    return loading.load_config(Path(arguments.PATH.check("path", path)), environ=variables)


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
    from pipeline import arguments
    from pipeline.api.running import open_app
    from pipeline.config.run import RunConfig

    is_read = isinstance(config, RunConfig)
    resolved = config if is_read else load_config(arguments.CONFIG.check("config", config))
    with open_app(resolved) as app:
        return app.engine.run()


def track(
    source: "AnyPath | BaseSourceConfig",
    concepts: str | Sequence[str],
    *,
    model: str = "sam3-nano",
    checkpoint: AnyPath | None = None,
    device: str = "auto",
    options: Mapping[str, bool | float | str] | None = None,
    max_fps: float | None = None,
) -> "Generator[FrameResult]":
    """Follow all instances of some phrases through one source, frame by frame.

    Frames of files wait for the caller; live cameras go on, and the oldest frames are dropped.
    Leave the loop, or close the generator, to stop.

    Args:
        source: ``rtsp://…``, a file or folder, ``world://demo``, … as ``maskstream run --source``.
        concepts: What to look for.
        model: Name of a model that finds phrases.
        checkpoint: Weights; the shipped or downloaded ones when left out.
        device: auto, cpu, cuda, cuda:N or mps.
        options: How the model decides, as in a configuration.
        max_fps: Look at no more frames a second.

    Returns:
        A result per frame, in order, with its ``tracks``: each has ``uid``, ``no``, ``concept``,
        ``score``, ``bbox``, and ``mask``, whose ``full()`` is an array of the frame's size. A last
        result without tracks says in ``changes`` which tracks ended with the source.

    Raises:
        pipeline.errors.ConfigError: If something is not accepted.
        pipeline.errors.RunError: Once the source has ended, if it gave no frame at all.

    Example:
        >>> for result in track("world://demo", ["deer", "car"], max_fps=1):
        ...     for one in result.tracks:
        ...         print(result.stamp.frame_seq, one.no, one.concept, one.score, one.bbox)
    """
    from pipeline import arguments
    from pipeline.config.one_stream import OneStream

    stream = OneStream(
        source=_source_config(source),
        concepts=arguments.PHRASES.check("concepts", concepts),
        rules=(),
        max_fps=max_fps,
        model=_model_section(model, checkpoint, device, options),
    )
    return _follow(stream.to_config(name="track"))


def events(  # noqa: PLR0913 - all but the first two may be left out
    source: "AnyPath | BaseSourceConfig",
    concepts: str | Sequence[str],
    rules: Sequence[str | Mapping[str, object]] | None = None,
    *,
    zones: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    model: str = "sam3-nano",
    checkpoint: AnyPath | None = None,
    device: str = "auto",
    options: Mapping[str, bool | float | str] | None = None,
    max_fps: float | None = None,
) -> "Generator[EventRecord]":
    """Yield what happens on one source, by rules such as appear, enter or dwell.

    Arguments and errors not named here are those of :func:`track`.

    Args:
        source: As :func:`track` takes it.
        concepts: What to look for.
        rules: Each the type of a rule, or a mapping as in a configuration; when left out, appear
            and disappear, and enter and leave each zone.
        zones: Corners by name, 0 to 1 of the frame.
        model: Name of a model that finds phrases.
        checkpoint: Weights.
        device: auto, cpu, cuda, cuda:N or mps.
        options: How the model decides.
        max_fps: Look at no more frames a second.

    Example:
        >>> left = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
        >>> for event in events("world://demo", "deer", zones={"left": left}, max_fps=1):
        ...     print(event.capture_time, event.phase, event.rule, event.concept, event.track_no)
    """
    from pipeline import arguments
    from pipeline.config.one_stream import OneStream

    stream = OneStream(
        source=_source_config(source),
        concepts=arguments.PHRASES.check("concepts", concepts),
        zones=tuple((arguments.ZONES.check("zones", zones) or {}).items()),
        rules=_rules(rules),
        max_fps=max_fps,
        model=_model_section(model, checkpoint, device, options),
    )
    return _events_of(_follow(stream.to_config(name="events")))


def read_records(source: "AnyPath | Iterable[str | Message]") -> "Iterator[AnyRecord]":
    """Yield the records of a ``.jsonl`` file, a folder of them, lines, or Kafka messages.

    Args:
        source: What a ``jsonl`` sink has written, or pairs of the headers and the value of messages
            that a ``kafka`` sink has.

    Raises:
        pipeline.errors.RecordError: If a line is no record; names file and line.
        OSError: If a file cannot be read.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     for one in record.objects:
        ...         print(one.track_no, one.concept, one.mask and one.mask.to_array().sum())
    """
    from pipeline.records import reading

    return reading.read_records(Path(source) if isinstance(source, PathLike) else source)


def to_coco(records: "Iterable[AnyRecord]") -> "dict[str, Any]":
    """Return masklets records as a COCO dataset; see :func:`pipeline.records.coco.to_coco`.

    Example:
        >>> dataset = to_coco(read_records("demo-out/masklets.jsonl"))
        >>> [image["file_name"] for image in dataset["images"]]
        ['meadow/0/0', 'meadow/0/1', 'meadow/0/2']
    """
    from pipeline.records import coco

    return coco.to_coco(records)


def to_supervision(record: "MaskletsRecord") -> "supervision.Detections":
    """Return the objects of a frame; see :func:`pipeline.records.supervision.to_supervision`.

    Raises:
        ModuleNotFoundError: If supervision is not installed.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     print(record.frame_seq, to_supervision(record).tracker_id)
    """
    from pipeline.records import supervision

    return supervision.to_supervision(record)


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
    from pipeline import arguments
    from pipeline.segment.building import ModelChoice, build_finder
    from pipeline.segment.pictures import list_all, segment_each
    from pipeline.segment.prompts import BoxPrompt, PointPrompt, Prompts, check_prompts

    listed = arguments.PICTURES.check("pictures", pictures)
    meant = arguments.BOXES.check("exemplars", exemplars)
    not_meant = arguments.BOXES.check("counterexamples", counterexamples)
    dots = arguments.POINTS.check("points", points)
    prompts = Prompts(
        concepts=arguments.PHRASES.check("concepts", concepts),
        exemplars=(
            *map(BoxPrompt.of, meant),
            *(BoxPrompt.of(box, is_positive=False) for box in not_meant),
        ),
        points=tuple(PointPrompt(x=p[0], y=p[1], is_positive=all(p[2:])) for p in dots),
        boxes=tuple(map(BoxPrompt.of, arguments.BOXES.check("boxes", boxes))),
        mask=_file("mask", mask),
        is_everything=arguments.FLAG.check("everything", everything),
    )
    check_prompts(prompts)
    choice = ModelChoice(
        name=model,
        checkpoint=_file("checkpoint", checkpoint),
        device=device,
        min_score=arguments.SCORE.check("min_score", min_score),
    )
    found, failures = list_all(listed)
    return chain(failures, segment_each(found, build_finder(prompts, choice)))


def _file(name: str, path: AnyPath | None) -> Path | None:
    from pipeline import arguments

    checked = arguments.FILE.check(name, path)
    return None if checked is None else Path(checked)


def _model_section(
    name: str,
    checkpoint: AnyPath | None,
    device: str,
    options: Mapping[str, bool | float | str] | None,
) -> dict[str, object]:
    return {
        "name": name,
        "checkpoint": _file("checkpoint", checkpoint),
        "device": device,
        "options": {} if options is None else options,
    }


def _source_config(source: "AnyPath | BaseSourceConfig") -> "BaseSourceConfig":
    from connectors.config import BaseSourceConfig
    from connectors.registry import source_from_url
    from pipeline import arguments
    from pipeline.config.one_stream import parse_short_form

    if isinstance(source, BaseSourceConfig):
        return source
    text = arguments.SOURCE.check("source", source)
    return parse_short_form("source", source_from_url, text)


def _rules(rules: Sequence[str | Mapping[str, object]] | None) -> list[dict[str, object]] | None:
    from pipeline import arguments

    checked = arguments.RULES.check("rules", rules)
    if checked is None:
        return None
    return [{"type": one} if isinstance(one, str) else one for one in checked]


# Closed at the program's end: later, when Python takes its objects apart, no thread moves any more
# that a generator could wait for.
_unfinished: "WeakSet[Generator[FrameResult]]" = WeakSet()


@atexit.register
def _close_unfinished() -> None:
    for results in list(_unfinished):
        # One that another thread is in cannot be closed.
        with suppress(ValueError):
            results.close()


def _follow(config: "RunConfig") -> "Generator[FrameResult]":
    """Run the engine in the caller's time, and yield its results."""
    results = _results_of(config)
    _unfinished.add(results)
    return results


def _results_of(config: "RunConfig") -> "Generator[FrameResult]":
    from pipeline.api.running import open_app
    from pipeline.errors import RunError

    results: deque[FrameResult] = deque()
    with open_app(config, on_result=results.append) as app:
        with closing(app.engine.iterate()) as turns:
            for _ in turns:
                while results:
                    yield results.popleft()
        # The end of the source ends tracks and events.
        yield from results
        summary = app.engine.summary()
    if summary.exit_code():
        raise RunError("\n".join(summary.errors))


def _events_of(results: "Generator[FrameResult]") -> "Generator[EventRecord]":
    from pipeline.records.schema import EventRecord
    from pipeline.records.translate import to_models

    with closing(results):
        for result in results:
            yield from (one for one in to_models(result) if isinstance(one, EventRecord))
