"""The commands ``maskstream models …``. Importing this costs no torch."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.catalogue import MODELS, ModelSize, local_folder
from models.checkpoints.metadata import lines_of_metadata
from pipeline.cli.errors import reporting_errors
from pipeline.cli.flags import Checkpoint, Json
from pipeline.cli.output import write_line, write_warning
from pipeline.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from models.build import ModelDescription

models_app = typer.Typer(help="List, look into, fetch and convert models.", no_args_is_help=True)


class LayoutName(StrEnum):
    """Whose names to write."""

    TRANSFORMERS = "transformers"
    OFFICIAL = "official"
    MASKSTREAM = "maskstream"


class DtypeName(StrEnum):
    """Type of the weights to write."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@models_app.command("list")
def list_models(*, json_lines: Json = False) -> None:
    """List the models that can be named, and which are on this machine."""
    if json_lines:
        for size in MODELS.values():
            write_line("model", **_row_of(size))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    for column in ("parameters", "px"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("what it is")
    for size in MODELS.values():
        table.add_row(
            size.name,
            f"{size.num_parameters / 1e6:.1f} M",
            str(size.image_size),
            _presence(size),
            size.summary,
        )
    Console(highlight=False).print(table)


def _row_of(size: ModelSize) -> dict[str, object]:
    return {
        "name": size.name,
        "summary": size.summary,
        "family": size.family,
        "num_parameters": size.num_parameters,
        "image_size": size.image_size,
        "licence": size.licence,
        "folder": local_folder(size),
        "hub_id": size.hub_id,
        "is_gated": size.is_gated,
        "cpu_threads": size.cpu_threads,
        "knows_clicks": size.knows_clicks,
    }


def _presence(size: ModelSize) -> str:
    if size.folder is not None:
        return "ships"
    if local_folder(size) is not None:
        return "yes"
    return "pull, on request" if size.is_gated else "pull"


@models_app.command("inspect")
def inspect_model(
    model: Annotated[str, typer.Argument(help="Name of a model, or a checkpoint.")],
    *,
    checkpoint: Checkpoint = None,
    json_lines: Json = False,
) -> None:
    """Show what a model or a checkpoint is, what it holds and what it lacks."""
    with reporting_errors(json_lines=json_lines), _weight_errors():
        name, path = _name_or_path(model, checkpoint)
        from models.build import describe

        description = describe(name, checkpoint=path)
        if json_lines:
            write_line("model", **asdict(description))
        else:
            _show_description(description)


def _name_or_path(model: str, checkpoint: Path | None) -> tuple[str | None, Path | None]:
    if model in MODELS:
        return model, checkpoint
    if checkpoint is None and Path(model).exists():
        return None, Path(model)
    accepted = ", ".join(MODELS)
    raise ConfigError([f"unknown model {model!r} (accepted: {accepted}, or a checkpoint's path)"])


def _show_description(description: "ModelDescription") -> None:
    console = Console(highlight=False, soft_wrap=True)
    rows = {
        "name": description.name,
        "what it is": description.summary,
        "picture": f"{description.image_size} x {description.image_size} px",
        "licence": description.licence,
        "on the Hub": description.hub_id or "no",
        "checkpoint": description.checkpoint or "none here",
        "layout": description.layout,
        "holds": description.part,
        "files": None if description.num_bytes is None else _megabytes(description.num_bytes),
        "types": ", ".join(f"{kind} {count:,}" for kind, count in description.dtypes.items()),
        "parameters": f"{description.num_parameters:,}",
        **{f"  {part}": f"{count:,}" for part, count in description.components.items()},
        **{
            f"says {key}": lines_of_metadata(key, value)
            for key, value in description.metadata.items()
        },
    }
    width = max(map(len, rows))
    for key, value in rows.items():
        lines = value if isinstance(value, list) else [value] if value else []
        for head, line in zip((key, *[""] * len(lines)), lines, strict=False):
            console.print(f"{head:<{width}} {line}", markup=False)
    _warn_of_faults(description)


def _warn_of_faults(description: "ModelDescription") -> None:
    for fault in description.missing:
        write_warning(f"fault: {fault}")


@models_app.command("pull")
def pull_model(
    model: Annotated[str, typer.Argument(help="Name of a model.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; left out, where models look.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    json_lines: Json = False,
) -> None:
    """Fetch a model's weights from the Hugging Face Hub, with your token (HF_TOKEN or login)."""
    with reporting_errors(json_lines=json_lines), _weight_errors():
        if model not in MODELS:
            accepted = ", ".join(MODELS)
            raise ConfigError([f"unknown model {model!r} (accepted: {accepted})"])
        from models.build import describe
        from models.checkpoints.hub import pull

        size = MODELS[model]
        pulled = pull(size, out=out, revision=revision, shows_progress=not json_lines)
        description = describe(model, checkpoint=pulled.folder)
        _warn_of_faults(description)
        if json_lines:
            write_line(
                "pulled",
                name=model,
                folder=pulled.folder,
                revision=pulled.revision,
                num_bytes=description.num_bytes,
                missing=description.missing,
            )
        else:
            typer.echo(f"{model} is in {pulled.folder} ({_megabytes(description.num_bytes or 0)})")


@models_app.command("convert")
def convert_model(
    source: Annotated[Path, typer.Argument(help="A checkpoint: a file or a folder.")],
    target: Annotated[
        Path, typer.Argument(help="A folder to write; for the official layout a .pt file.")
    ],
    *,
    layout: Annotated[
        LayoutName, typer.Option(help="Whose names to write.")
    ] = LayoutName.TRANSFORMERS,
    dtype: Annotated[
        DtypeName | None, typer.Option(help="Type of the weights; left out, as they are.")
    ] = None,
    json_lines: Json = False,
) -> None:
    """Write a checkpoint in another layout or type."""
    with reporting_errors(json_lines=json_lines), _weight_errors():
        problem = _target_problem(target, layout)
        if problem is not None:
            raise ConfigError([problem])
        from models.checkpoints.convert import convert_file

        done = convert_file(
            source, target, layout=layout.value, dtype=None if dtype is None else dtype.value
        )
        if done.left_out:
            write_warning(
                f"left out, as {layout} has no place for them: {', '.join(done.left_out)}"
            )
        if done.lacks_points:
            write_warning(
                "the source has no weights for point exemplars, so the official code will miss them"
            )
        if json_lines:
            write_line("converted", files=done.files, left_out=done.left_out)
            return
        for file in done.files:
            typer.echo(f"{file} ({_megabytes(file.stat().st_size)})")


@models_app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(help="Name of a model, or a checkpoint.")],
    target: Annotated[Path, typer.Argument(help="A folder to write ONNX files to.")],
    *,
    checkpoint: Checkpoint = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="encoder or decoder; of SAM 3 encoder, text or detector. May be given again; "
            "left out, all."
        ),
    ] = None,
    json_lines: Json = False,
) -> None:
    """Write a model as ONNX graphs, for other programs to run."""
    with reporting_errors(json_lines=json_lines), _weight_errors():
        name, path = _name_or_path(model, checkpoint)
        from models.export import export_model as export

        for done in export(name, target, checkpoint=path, parts=part or ()):
            if json_lines:
                write_line(
                    "exported",
                    part=done.name,
                    file=done.file,
                    inputs=done.inputs,
                    outputs=done.outputs,
                )
            else:
                typer.echo(f"{done.file}: {', '.join(done.inputs)} to {', '.join(done.outputs)}")


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _target_problem(target: Path, layout: LayoutName) -> str | None:
    if layout is LayoutName.OFFICIAL:
        if target.suffix not in {".pt", ".pth"}:
            return f"target {str(target)!r} (accepted with --layout official: a .pt or .pth file)"
    elif target.is_file() or target.suffix in {".pt", ".pth", ".safetensors"}:
        return f"target {str(target)!r} (accepted with --layout {layout}: a folder)"
    return None


@contextmanager
def _weight_errors() -> Generator[None]:
    """Turn errors about weights, names and vocabularies into a :class:`WeightsError`."""
    from models.checkpoints.hub import PullError

    try:
        yield
    # Of checkpoints, vocabularies and names alike.
    except (ValueError, PullError) as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        file = "a file" if error.filename is None else repr(str(error.filename))
        reason = error.strerror or str(error)
        raise WeightsError(f"{file} cannot be read or written: {reason}") from error
