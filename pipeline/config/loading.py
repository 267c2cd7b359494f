"""YAML into the configuration models, with errors that say where and what.

``${NAME}`` in any value stands for an environment variable, ``${NAME:-default}`` for one that may
be unset. Values from the environment never appear in errors.
"""

import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connectors.errors import redact_url
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from pipeline.fields import LOOKS_AT_FILES, NAME_CHARACTERS, NAME_PATTERN

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")
_SECRET_NAME = re.compile(r"pass|secret|token|key|url|sha256", re.IGNORECASE)
_MAX_BYTES = 4 * 1024 * 1024

Loc = tuple[int | str, ...]
Root = TypeVar("Root", bound=BaseModel)


@dataclass(slots=True)
class _Document:
    """Plain data of a YAML file, with the line of each value by its path."""

    name: str
    environ: Mapping[str, str]
    root: type[BaseModel] = RunConfig
    lines: dict[Loc, int] = field(default_factory=dict[Loc, int])
    from_environ: set[Loc] = field(default_factory=set[Loc])
    problems: list[str] = field(default_factory=list[str])

    def at(self, loc: Loc, line: int | None = None) -> str:
        """Return ``file:line`` of a value, or of the nearest one around it."""
        while line is None:
            line = self.lines.get(loc, 1 if not loc else None)
            loc = loc[:-1]
        return f"{self.name}:{line}"


def load_config(path: Path, *, environ: Mapping[str, str] | None = None) -> RunConfig:
    """Read, resolve and check a configuration file.

    Args:
        path: A YAML file.
        environ: Variables for ``${NAME}``; the process's own by default.

    Raises:
        ConfigError: With one line per problem: file, line, field, what would be accepted.
    """
    return load_yaml(path, RunConfig, environ=environ)


def load_yaml(path: Path, root: type[Root], *, environ: Mapping[str, str] | None = None) -> Root:
    """Like :func:`load_config`, for a file of another kind."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (accepted: a YAML file)"]) from error
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{path}: is larger than {_MAX_BYTES} bytes (accepted: a YAML file)"])
    return _parse(text, root, name=str(path), environ=environ, looks_at_files=True)


def parse_config(
    text: str, *, name: str = "config", environ: Mapping[str, str] | None = None
) -> RunConfig:
    """Like :func:`load_config`, from text, and without looking whether files are there.

    ``name`` stands for the file in errors.
    """
    return _parse(text, RunConfig, name=name, environ=environ)


def _parse(
    text: str,
    root: type[Root],
    *,
    name: str,
    environ: Mapping[str, str] | None,
    looks_at_files: bool = False,
) -> Root:
    document = _Document(name=name, environ=os.environ if environ is None else environ, root=root)
    try:
        node = cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))
        data = None if node is None else _to_plain(document, node, (), frozenset())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = name if mark is None else f"{name}:{mark.line + 1}"
        raise ConfigError([f"{place}: is not YAML: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{name}: is not YAML: {str(error).splitlines()[0]}"]) from error
    if document.problems:
        raise ConfigError(document.problems)
    try:
        context = {LOOKS_AT_FILES: looks_at_files}
        return root.model_validate({} if data is None else data, context=context)
    except ValidationError as error:
        raise ConfigError([_explain(document, item) for item in _causes(error)]) from None


def explain_invalid(
    error: ValidationError, *, name: str, root: type[BaseModel] = RunConfig
) -> ConfigError:
    """Return the same clear lines for values of ``root`` that came from flags, not from a file."""
    document = _Document(name=name, environ={}, root=root)
    return ConfigError(
        [_explain(document, item).replace(f"{name}:1:", f"{name}:") for item in _causes(error)]
    )


def dotted_field(loc: Loc, root: type[BaseModel]) -> str:
    """Return ``streams[0].source.url`` for a place in a model that pydantic has named."""
    return _dotted(_follow(loc, root)[0])


def _to_plain(document: _Document, node: yaml.Node, loc: Loc, above: frozenset[int]) -> object:
    line = node.start_mark.line + 1
    document.lines[loc] = line
    if id(node) in above:
        document.problems.append(f"{document.at(loc)}: {_dotted(loc)}: refers to itself")
        return None
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, node, loc, above)
    if isinstance(node, yaml.SequenceNode):
        children = cast("list[yaml.Node]", node.value)
        return [_to_plain(document, item, (*loc, i), above) for i, item in enumerate(children)]
    return _scalar(document, cast("yaml.ScalarNode", node), loc)


def _mapping(
    document: _Document, node: yaml.MappingNode, loc: Loc, above: frozenset[int]
) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        key = str(cast("object", key_node.value))
        line = key_node.start_mark.line + 1
        if key in plain:
            document.problems.append(f"{document.name}:{line}: {_dotted((*loc, key))}: twice")
        plain[key] = _to_plain(document, value_node, (*loc, key), above)
        document.lines[(*loc, key)] = line
    return plain


def _scalar(document: _Document, node: yaml.ScalarNode, loc: Loc) -> object:
    text = str(node.value)
    if not _REFERENCE.search(text):
        loader = yaml.SafeLoader("")
        try:
            return cast("object", loader.construct_object(node))
        finally:
            loader.dispose()
    document.from_environ.add(loc)

    def resolve(match: re.Match[str]) -> str:
        name = match["name"]
        value = document.environ.get(name, cast("str | None", match["default"]))
        if value is None:
            document.problems.append(
                f"{document.at(loc)}: {_dotted(loc)}: environment variable {name} is not set "
                f"(accepted: set it, or write ${{{name}:-default}})"
            )
        return value or ""

    resolved = _REFERENCE.sub(resolve, text)
    # An empty default stands for "not given", so that optional secrets can be left out.
    return None if not resolved and not node.style else resolved


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors without those that only follow from others (too few valid items)."""
    items = error.errors()
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(_is_inside(other["loc"], item["loc"]) for other in items)
    ]


def _is_inside(loc: Loc, outer: Loc) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


def _explain(document: _Document, item: ErrorDetails) -> str:
    path, model = _follow(item["loc"], document.root)
    where = f"{document.at(path)}: {_dotted(path) or 'config'}"
    match item["type"]:
        case "extra_forbidden":
            names = sorted(model.model_fields) if model else []
            near = get_close_matches(str(path[-1]), names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"unknown field ({hint}accepted: {', '.join(names)})"
        case "missing":
            message = "is missing"
        case "model_type":
            message = "holds no fields (accepted: lines such as 'name: value')"
        case "union_tag_invalid":
            where += ".type"
            context = item.get("ctx", {})
            message = (
                f"unknown type {context.get('tag', '')!r} "
                f"(accepted: {context.get('expected_tags', '')})"
            )
        case "union_tag_not_found":
            message = "has no type (accepted: a field 'type' that says which kind it is)"
        case "string_pattern_mismatch" if item.get("ctx", {}).get("pattern") == NAME_PATTERN:
            message = f"accepted: {NAME_CHARACTERS}{_shown(document, path, item['input'])}"
        case "string_pattern_mismatch" if model and (accepted := _description(model, path)):
            message = f"{accepted}{_shown(document, path, item['input'])}"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            message = f"{redact_url(message)}{_shown(document, path, item['input'])}"
    return f"{where}: {message}"


def _description(model: type[BaseModel], path: Loc) -> str | None:
    """Return a field's description, which is clearer than its pattern."""
    info = model.model_fields.get(str(path[-1]))
    if info is None or info.description is None:
        return None
    return f"accepted: {' '.join(info.description.split())}"


def _shown(document: _Document, path: Loc, value: object) -> str:
    """Return the offending value for the message, unless it may be a secret."""
    is_secret = (
        any(path[: i + 1] in document.from_environ for i in range(len(path)))
        or (path and _SECRET_NAME.search(str(path[-1])))
        or not isinstance(value, str | int | float | bool | Path)
    )
    if is_secret:
        return ""
    text = repr(str(value) if isinstance(value, Path) else value)
    return f" (given: {text})" if len(text) <= 80 and "@" not in text else ""


def _dotted(loc: Sequence[int | str]) -> str:
    """Return ``streams[0].source.url``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def _follow(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[Loc, type[BaseModel] | None]:
    """Drop the union tags from a pydantic location, and find the model of its last field."""
    path: list[int | str] = []
    options: list[type[BaseModel]] = [root]
    owner: type[BaseModel] | None = None
    for part in loc:
        if isinstance(part, str) and len(options) > 1:
            tagged = [model for model in options if _tag(model) == part]
            if tagged:
                options = tagged
                continue
        path.append(part)
        if isinstance(part, int) or not options:
            continue
        owner = options[0]
        info = owner.model_fields.get(part)
        options = [] if info is None else list(_models_in(info.annotation))
    return tuple(path), owner


def _tag(model: type[BaseModel]) -> str | None:
    info = model.model_fields.get("type")
    values = typing.get_args(info.annotation) if info else ()
    return str(values[0]) if values else None


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    if typing.get_origin(annotation) is Literal:
        return
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)
