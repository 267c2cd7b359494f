"""``maskstream segment``: masks for pictures. Heavy imports wait until it is run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.errors import report_error, reporting_errors
from pipeline.cli.flags import Checkpoint, Device, Json, ModelName, Strict
from pipeline.cli.output import progress_bar, write_line, write_warning
from pipeline.errors import choose_exit_code
from pipeline.segment.prompts import PromptFlags, Prompts, parse_prompts

if TYPE_CHECKING:
    from connectors.annotate.draw import Marks
    from pipeline.segment.building import ModelChoice
    from pipeline.segment.results import PictureResult

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
    failures: list[str] = field(default_factory=list[str])

    def add(self, result: "PictureResult") -> None:
        """Count an answer, or a failure, and show it."""
        if result.error is not None:
            self.failures.append(result.error)
            report_error(result.error, json_lines=self.json_lines, file=result.path)
            return
        counts, wall_s = result.findings.count(), result.wall_s
        self.num_pictures += 1
        self.num_objects += sum(counts.values())
        if self.json_lines:
            write_line("picture", file=result.path, objects=counts, wall_s=round(wall_s, 3))
        else:
            listed = ", ".join(f"{number} x {name}" for name, number in counts.items())
            typer.echo(f"{result.path}: {listed or 'nothing'} ({wall_s:.2f} s)")

    def show_total(self, out: Path) -> None:
        """Show the last line: what was found, what failed and where the results are."""
        from pipeline.segment.outputs import ANNOTATIONS

        num_failed = len(self.failures)
        if self.json_lines:
            write_line(
                "summary",
                pictures=self.num_pictures,
                failed=num_failed,
                objects=self.num_objects,
                out=out,
                ok=not num_failed,
            )
            return
        failed = f", {num_failed} failed" if num_failed else ""
        where = f": {out / ANNOTATIONS}" if self.num_pictures else ""
        typer.echo(f"{self.num_objects} objects on {self.num_pictures} pictures{failed}{where}")


def segment_pictures(
    pictures: Sequence[Path],
    prompts: Prompts,
    model: "ModelChoice",
    out: Path,
    *,
    json_lines: bool = False,
) -> SegmentReport:
    """Segment pictures, and write what is found to a folder; see :mod:`pipeline.segment.outputs`.

    A picture that cannot be read or answered is reported, and the others go on.

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
    from pipeline.segment.outputs import ResultWriter
    from pipeline.segment.pictures import list_all, segment_each

    finder = build_finder(prompts, model)
    warning = None if model.known_name is None else warn_of_model(model.known_name, prompts)
    if warning is not None:
        write_warning(warning)
    tally = _Tally(json_lines=json_lines)
    found, failures = list_all(pictures)
    files = [one for one in found if isinstance(one, Path)]
    for failure in failures:
        tally.add(failure)
    if files:
        marks = _marks_of(prompts)
        with (
            ResultWriter(out, files, finder.categories) as writer,
            progress_bar("pictures", least_steps=2) as on_total,
        ):
            on_progress = on_total(len(files))
            for result in segment_each(files, finder):
                if result.path is not None and result.error is None:
                    writer.add(result.path, result.pixels, result.findings, marks)
                tally.add(result)
                on_progress()
    tally.show_total(out)
    return SegmentReport(
        num_pictures=tally.num_pictures,
        num_objects=tally.num_objects,
        failures=tuple(tally.failures),
    )


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
    strict: Strict = False,
    json_lines: Json = False,
) -> None:
    """Segment pictures by phrases, examples, points, boxes or a mask, or everything on them.

    Writes COCO JSON, a mask per object and a drawing per picture.
    """
    with reporting_errors(json_lines=json_lines):
        flags = PromptFlags(
            concepts=concept or (),
            exemplars=exemplar or (),
            points=point or (),
            boxes=box or (),
            mask=mask,
            is_everything=everything,
        )
        from pipeline.segment.building import ModelChoice

        choice = ModelChoice(name=model, checkpoint=checkpoint, device=device, min_score=min_score)
        prompts = parse_prompts(flags)
        report = segment_pictures(images, prompts, choice, out, json_lines=json_lines)
        end_with(report, is_strict=strict)


def end_with(report: SegmentReport, *, is_strict: bool) -> None:
    """End the command by the one exit rule, if that is not well."""
    num_failed = len(report.failures)
    code = choose_exit_code(
        has_nothing=not report.num_pictures, num_failed=num_failed, is_strict=is_strict
    )
    if code:
        raise typer.Exit(code)
