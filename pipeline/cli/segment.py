"""``maskstream segment``: masks for pictures. Heavy imports wait until it is run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.errors import ExitCode, report_error, reporting_errors
from pipeline.cli.flags import Checkpoint, Device, Json, ModelName
from pipeline.cli.output import progress_bar, write_line, write_warning
from pipeline.errors import MaskstreamError
from pipeline.segment.prompts import PromptFlags, Prompts, parse_prompts

if TYPE_CHECKING:
    from connectors.annotate.draw import Marks
    from pipeline.segment.building import ModelChoice
    from pipeline.segment.finders import Finder
    from pipeline.segment.outputs import ResultWriter

DEFAULT_OUT = Path("segment-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """How a call went.

    Attributes:
        num_pictures: Pictures that were answered.
        num_objects: Objects found on them.
        failures: One line for each picture, or path, that was not answered.
    """

    num_pictures: int
    num_objects: int
    failures: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Tally:
    json_lines: bool
    num_pictures: int = 0
    num_objects: int = 0
    failures: list[str]

    def found(self, picture: Path, counts: dict[str, int], wall_s: float) -> None:
        """Count and tell what was found on a picture."""
        self.num_pictures += 1
        self.num_objects += sum(counts.values())
        if self.json_lines:
            write_line("picture", file=picture, objects=counts, wall_s=round(wall_s, 3))
        else:
            listed = ", ".join(f"{number} x {name}" for name, number in counts.items())
            typer.echo(f"{picture}: {listed or 'nothing'} ({wall_s:.2f} s)")

    def failed(self, path: Path, reason: str) -> None:
        """Count and tell what went wrong with a picture."""
        self.failures.append(reason)
        report_error(reason, json_lines=self.json_lines, file=path)


def segment_pictures(
    pictures: Sequence[Path],
    prompts: Prompts,
    model: "ModelChoice",
    out: Path,
    *,
    json_lines: bool = False,
) -> SegmentReport:
    """Segment pictures, and write what is found to a folder; see :mod:`pipeline.segment.outputs`.

    A picture that cannot be read or answered is told, and the others go on.

    Args:
        pictures: Files, folders of pictures, or patterns.
        prompts: What is asked of each picture.
        model: What answers.
        out: Folder for the results.
        json_lines: JSON lines on stdout instead of lines for people.

    Raises:
        ConfigError: If the model cannot be used, or not for such prompts.
        connectors.errors.NotWritableError: If the results cannot be written.
    """
    from pipeline.segment.building import build_finder, warn_of_model
    from pipeline.segment.outputs import ANNOTATIONS, ResultWriter

    finder = build_finder(prompts, model)
    warning = None if model.known_name is None else warn_of_model(model.known_name, prompts)
    if warning is not None:
        write_warning(warning)
    tally = _Tally(json_lines=json_lines, failures=[])
    files = _list_all(pictures, tally)
    if files:
        writer = ResultWriter(out, files, finder.categories)
        with writer, progress_bar("pictures", least_steps=2) as on_total:
            on_progress = on_total(len(files))
            for file in files:
                _segment_one(file, finder, writer, _marks_of(prompts), tally)
                on_progress()
        if not json_lines:
            typer.echo(f"{tally.num_objects} objects: {out / ANNOTATIONS}")
    report = SegmentReport(
        num_pictures=tally.num_pictures,
        num_objects=tally.num_objects,
        failures=tuple(tally.failures),
    )
    if json_lines:
        write_line(
            "summary",
            pictures=report.num_pictures,
            failed=len(report.failures),
            objects=report.num_objects,
            out=out,
            ok=not report.failures,
        )
    return report


def _segment_one(
    file: Path, finder: "Finder", writer: "ResultWriter", marks: "Marks", tally: _Tally
) -> None:
    from connectors.errors import PictureError
    from connectors.pictures.stills import read_picture

    began_s = time.monotonic()
    try:
        pixels = read_picture(file)
        findings = finder.find(pixels)
    except PictureError as error:
        tally.failed(file, str(error))
        return
    # A ValueError is about the prompts on this picture; torch says with a RuntimeError that the
    # memory does not suffice for it. The next picture may be well.
    except (ValueError, MaskstreamError, RuntimeError, MemoryError) as error:
        tally.failed(file, f"picture {str(file)!r}: {error}")
        return
    writer.add(file, pixels, findings, marks)
    tally.found(file, writer.count(findings), time.monotonic() - began_s)


def _list_all(paths: Sequence[Path], tally: _Tally) -> list[Path]:
    """Return every picture once, in the order given; a path without any is told."""
    from connectors.pictures.stills import PICTURE_SUFFIXES, list_pictures

    files: dict[Path, None] = {}
    for path in paths:
        found = list_pictures(path)
        if not found:
            accepted = f"a picture, a folder or a pattern of {', '.join(sorted(PICTURE_SUFFIXES))}"
            tally.failed(path, f"no picture at {str(path)!r} (accepted: {accepted})")
        files |= dict.fromkeys(found)
    return list(files)


def _marks_of(prompts: Prompts) -> "Marks":
    from connectors.annotate.draw import Marks

    return Marks(
        points=tuple((point.x, point.y, point.is_positive) for point in prompts.points),
        boxes=tuple(
            (box.x, box.y, box.width, box.height, box.is_positive)
            for box in (*prompts.exemplars, *prompts.boxes)
        ),
    )


def segment(  # noqa: PLR0913 - one parameter per flag
    images: Annotated[
        list[Path], typer.Argument(help="Pictures, folders of them, or quoted patterns.")
    ],
    *,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="Find all instances of a phrase; may be given again."),
    ] = None,
    exemplar: Annotated[
        list[str] | None,
        typer.Option(
            help="Find all that look like this: x,y,w,h in px, or x,y,w,h,neg; may be given again."
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(help="On the object: x,y in px; off it: x,y,neg; may be given again."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="Around an object: x,y,w,h in px; each one given is an object."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A picture that is bright where the object roughly is.")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Whatever there is.")] = False,
    model: ModelName[str | None] = None,
    checkpoint: Checkpoint = None,
    device: Device[str] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = DEFAULT_OUT,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Drop what scores less; 0.5 for concepts, 0.88 for --everything."
        ),
    ] = None,
    json_lines: Json = False,
) -> None:
    """Segment pictures by phrases, examples, points, boxes or a mask, or everything on them.

    Writes COCO JSON, a mask per object and a drawing per picture.
    """
    with reporting_errors(json_lines=json_lines):
        prompts = parse_prompts(
            PromptFlags(
                concepts=concept or (),
                exemplars=exemplar or (),
                points=point or (),
                boxes=box or (),
                mask=mask,
                is_everything=everything,
            )
        )
        from pipeline.segment.building import ModelChoice

        choice = ModelChoice(name=model, checkpoint=checkpoint, device=device, min_score=min_score)
        report = segment_pictures(images, prompts, choice, out, json_lines=json_lines)
        if report.failures:
            raise typer.Exit(ExitCode.FAILED)
