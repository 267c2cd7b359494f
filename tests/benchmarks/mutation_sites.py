"""Where a module can be mutated, and the mutants themselves."""

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from parso.tree import NodeOrLeaf

DELETE_CALL = "delete call"
SCALE_CONSTANT = "scale constant"
# VariableInserter and VariableReplacer need arguments; a removed decorator breaks at import; "is"
# for "==" and back mostly means the same.
_LEFT_OUT = re.compile(r"Variable|RemoveDecorator|ExceptionReplacer|_Is(Not)?(_|$)")
_KEPT = frozenset(
    {"core/ReplaceComparisonOperator_Is_IsNot", "core/ReplaceComparisonOperator_IsNot_Is"}
)
# Where "*" and "**" are no operation: f(a, *, b), {**d}. With another sign nothing is imported.
_BY_SYNTAX = frozenset({"parameters", "dictorsetmaker"})
_LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
# Of flags, which share no bit, these give the same number as "|".
_SAME_FOR_FLAGS = re.compile(r"BitOr_(Add|BitXor)$")
_NUMBER = "core/NumberReplacer"
_FORM = re.compile(r"^core/(Replace(?:Binary|Comparison|Unary)Operator_[A-Za-z]+|[A-Za-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place that can be changed in one way.

    Attributes:
        path: Module, from the root.
        line: Line of the place.
        column: Column of the place.
        operator: What is changed; of operators with many forms, all but the new form.
        forms: cosmic-ray's operators with the occurrence that lies here.
    """

    path: str
    line: int
    column: int
    operator: str
    forms: tuple[tuple[str, int], ...]


def find_sites(path: Path, root: Path) -> list[Site]:
    """Return all places of a module, annotations and log texts left out."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    skipped = _lines_without_behaviour(tree)
    constants = {(one.lineno, one.col_offset) for one in _tuning_constants(tree)}
    name = str(path.relative_to(root))
    found: dict[tuple[int, int, str], list[tuple[str, int]]] = {}
    nodes = list(ast_nodes(get_ast(text)))
    for operator_name in _operators():
        operator = get_operator(operator_name)()
        occurrence = 0
        kind = _kind(operator_name)
        for node in nodes:
            for (line, column), _ in operator.mutation_positions(node):
                is_scaled = operator_name == _NUMBER and (line, column) in constants
                if line not in skipped and not is_scaled and not _is_same(node, operator_name):
                    key = line, column, kind
                    found.setdefault(key, []).append((operator_name, occurrence))
                occurrence += 1
    sites = [
        Site(path=name, line=line, column=column, operator=kind, forms=tuple(forms))
        for (line, column, kind), forms in found.items()
    ]
    sites += [
        Site(path=name, line=node.lineno, column=node.col_offset, operator=DELETE_CALL, forms=())
        for node in _deletable_calls(tree)
        if node.lineno not in skipped
    ]
    sites += [
        Site(path=name, line=line, column=column, operator=SCALE_CONSTANT, forms=())
        for line, column in constants
    ]
    return sorted(sites, key=lambda site: (site.line, site.column, site.operator))


def mutate(text: str, site: Site, seed: int) -> str:
    """Return a module's text with one place changed; the form is drawn by seed and place."""
    if site.operator == DELETE_CALL:
        return _delete_call(text, site)
    draw = random.Random(f"{seed}/{site.path}/{site.line}/{site.column}")  # noqa: S311
    if site.operator == SCALE_CONSTANT:
        return _scale_constant(text, site, draw.choice((0, 100)))
    operator_name, occurrence = draw.choice(site.forms)
    return mutate_code(text, get_operator(operator_name)(), occurrence) or text


def _operators() -> list[str]:
    return [
        name for name in sorted(operator_names()) if name in _KEPT or not _LEFT_OUT.search(name)
    ]


def _kind(operator_name: str) -> str:
    found = _FORM.match(operator_name)
    return found[1] if found else operator_name


def _lines_without_behaviour(tree: ast.Module) -> set[int]:
    """Return lines of types, imports, class options and log calls.

    No test can tell, or all can: a union of types with another sign fails at import.
    """
    lines: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.ClassDef):
            parts += node.decorator_list  # @dataclass(frozen=True, slots=True)
            lines.update(keyword.value.lineno for keyword in node.keywords)  # A(Base, frozen=True)
        elif isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            parts += [node.returns, *(one.annotation for one in every)]
        elif (
            isinstance(node, ast.Import | ast.ImportFrom | ast.MatchOr)  # case A() | B()
            or (isinstance(node, ast.Assign) and _is_type(node.value))
            or _is_log_call(node)
        ):
            parts.append(node)
        for part in parts:
            if part is not None and not isinstance(part, ast.Constant | ast.Name):
                lines.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return lines


def _is_same(node: NodeOrLeaf, operator_name: str) -> bool:
    """Tell whether a change of a node changes nothing that a test could see."""
    above = list(_ancestors(node))
    types = [one.type for one in above]
    if types[0] in _BY_SYNTAX:
        return True
    if operator_name.endswith("TrueWithFalse"):
        # model_config = ConfigDict(frozen=True): like that of a dataclass, pyright's to hold.
        return types[0] == "argument" and above[0].get_code().strip() == "frozen=True"
    if operator_name == _NUMBER and node.get_code().strip() == "1000":
        # f(timeout_ms=round(_CLOSE_S * 1000)): a thousandth more or less of a longest wait.
        return types[0] == "term" and any(
            one.type == "argument" and one.get_code().strip().startswith("timeout_ms=")
            for one in above
        )
    if _SAME_FOR_FLAGS.search(operator_name):
        # os.O_WRONLY | os.O_CLOEXEC
        parts = above[0].get_code().split("|")
        return all(part.strip().startswith("os.O_") for part in parts)
    # raise ValueError(f"begins with {data[:4]!r}"): how much a text for people quotes.
    return {"subscript", "fstring_expr", "raise_stmt"} <= set(types) and (
        types.index("subscript") < types.index("fstring_expr")
    )


def _ancestors(node: NodeOrLeaf) -> Iterator[NodeOrLeaf]:
    while node.parent is not None:
        node = node.parent
        yield node


def _tuning_constants(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the numbers of private constants of a module: ``_CLOSE_S = 5.0``, ``_MAX = 1 << 16``.

    One more or less is as good by design, so these become nothing, or a hundred times as much.
    Zero has no such forms, and is changed like any other number.
    """
    for statement in tree.body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            continue
        name = statement.targets[0].id
        if name.startswith("_") and name.isupper():
            for node in ast.walk(statement.value):
                is_number = isinstance(node, ast.Constant) and type(node.value) in {int, float}
                if is_number and node.value:
                    yield node


def _is_type(node: ast.AST) -> bool:
    """Tell whether an expression is a type: a name, one with brackets, a union."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and _is_type(node.left) and _is_type(node.right)
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    return isinstance(node, ast.Name) and node.id[:1].isupper() and not node.id.isupper()


def _is_log_call(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
    return name.strip("_") in {"log", "logger"} and node.func.attr in _LEVELS


def _deletable_calls(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node


def _scale_constant(text: str, site: Site, factor: int) -> str:
    lines = text.splitlines(keepends=True)
    node = next(
        one
        for one in _tuning_constants(ast.parse(text))
        if (one.lineno, one.col_offset) == (site.line, site.column)
    )
    line = lines[node.lineno - 1]
    scaled = repr(ast.literal_eval(node) * factor)
    lines[node.lineno - 1] = f"{line[: node.col_offset]}{scaled}{line[node.end_col_offset :]}"
    return "".join(lines)


def _delete_call(text: str, site: Site) -> str:
    lines = text.splitlines(keepends=True)
    node = next(
        one
        for one in _deletable_calls(ast.parse(text))
        if (one.lineno, one.col_offset) == (site.line, site.column)
    )
    last = node.end_lineno or node.lineno
    body = [*lines[: node.lineno - 1], " " * node.col_offset + "pass\n", *lines[last:]]
    return "".join(body)
