"""``make mutants``: how many small faults in the middle of the code the tests find.

A seeded sample of one-line mutants (cosmic-ray's operators, and deleted calls) is drawn from the
modules in :data:`SUBJECTS`; for each, the tests that execute its line are run in a copy of the
tree. A mutant dies when a test fails or does not come to its end. Before them each of
:data:`GUARANTEES` is broken; all of those must die.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import IO, TypeVar

from rich.console import Console

from tests.benchmarks.guarantees import GUARANTEES, Guarantee
from tests.benchmarks.mutation_sites import Site, find_sites, mutate

ROOT = Path(__file__).parents[2]
SUBJECTS = (
    "pipeline/engine",
    "pipeline/streams",
    "pipeline/tracking",
    "pipeline/events",
    "pipeline/records",
    "connectors/kafka",
)
# What the subjects' tests are; others run too long to be run once a mutant.
TESTS = tuple(f"tests/{subject}" for subject in SUBJECTS)
# Holds each default and bound of configuration and records against the schemas in the tree.
_SCHEMA_TEST = "tests/contracts/test_frozen_surfaces.py::test_schema_files_are_what_the_models_say"
_MOST_TESTS = 80  # of one mutant
_TIMEOUT_S = 120.0
_FAILING = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_MOST_FAILING = 3
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one mutant.

    Attributes:
        path: Module, from the root.
        line: Its line.
        operator: What was changed.
        before: The line as it is.
        after: The mutated line.
        num_tests: Tests that execute the line.
        is_killed: Whether a test failed.
        seconds: How long that took.
    """

    path: str
    line: int
    operator: str
    before: str
    after: str
    num_tests: int
    is_killed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which tests execute what.

    Attributes:
        tests: By file and line.
        breadth: Number of lines that each test executes.
    """

    tests: dict[tuple[str, int], list[str]]
    breadth: Counter[str]


def main() -> None:
    """Break the guarantees, draw mutants, run their tests, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=400, help="mutants to try; 0: guarantees alone"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    # Most tests that take long wait for brokers and cameras: two of them share a core.
    workers = 2 * (os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=workers, help="copies of the tree")
    parser.add_argument("--only", default="", help="modules whose path holds this")
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    began = perf_counter()
    sites = [
        site
        for subject in SUBJECTS
        for path in sorted((ROOT / subject).rglob("*.py"))
        if options.only in str(path.relative_to(ROOT))
        for site in find_sites(path, ROOT)
    ]
    # One fault a place and kind, so that an operator of many forms is not drawn more often.
    chosen = random.Random(options.seed).sample(sites, min(options.samples, len(sites)))  # noqa: S311
    with TemporaryDirectory() as folder:
        copies = [copy_tree(Path(folder) / str(number)) for number in range(options.workers)]
        break_guarantees(console, copies)
        if not options.samples:
            return
        coverage = measure_coverage(console, copies[0])
        verdicts: list[Verdict] = []
        judge = partial(judge_in, coverage=coverage, seed=options.seed)
        for verdict in over(copies, judge, chosen):
            verdicts.append(verdict)
            if options.json:
                console.print(json.dumps(asdict(verdict)))
            elif not verdict.is_killed:
                place = f"{verdict.path}:{verdict.line} ({verdict.operator})"
                console.print(f"SURVIVED {place}\n  - {verdict.before}\n  + {verdict.after}")
    killed = sum(verdict.is_killed for verdict in verdicts)
    console.print(
        f"{killed} of {len(verdicts)} mutants died ({100 * killed / max(len(verdicts), 1):.1f} %; "
        f"{len(sites)} places, seed {options.seed}, {perf_counter() - began:.0f} s)"
    )


def break_guarantees(console: Console, copies: Sequence[Path]) -> None:
    """Break each guarantee and print those whose tests do not notice."""
    noticed = list(over(copies, break_guarantee, GUARANTEES))
    for guarantee, has_died in zip(GUARANTEES, noticed, strict=True):
        if not has_died:
            console.print(f"NOT WATCHED {guarantee.path}: {guarantee.promise}")
    console.print(f"{sum(noticed)} of {len(noticed)} broken guarantees were noticed")


def copy_tree(target: Path) -> Path:
    """Copy all files that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    return target


def measure_coverage(console: Console, tree: Path) -> Coverage:
    """Run the subjects' tests once; return which tests execute which line.

    One that fails without a mutant tells nothing of one, and is left out.
    """
    from coverage import CoverageData

    sources = [f"--cov={subject}" for subject in SUBJECTS]
    command = ["-n", "2", "--dist", "loadfile", "--cov-context=test", "--cov-report=", *sources]
    report = tree / "report.txt"
    with report.open("w") as output:
        done = run_pytest(tree, ["-rfE", *command, *existing(tree)], timeout_s=1800, output=output)
    text = report.read_text(encoding="utf-8")
    failing = {match[1] for match in _FAILING.finditer(text)}
    for name in sorted(failing):
        console.print(f"FAILS WITHOUT A MUTANT {name}")
    is_told = done == 1 and 0 < len(failing) <= _MOST_FAILING
    if done != 0 and not is_told:
        raise SystemExit(f"the tests fail without a mutant (pytest ended with {done}):\n{text}")
    data = CoverageData(str(tree / ".coverage"))
    data.read()
    covered: dict[tuple[str, int], list[str]] = {}
    for file in data.measured_files():
        name = str(Path(file).relative_to(tree))
        for line, contexts in data.contexts_by_lineno(file).items():
            tests = sorted({name.partition("|")[0] for name in contexts if name} - failing)
            covered[name, line] = tests
    return Coverage(covered, Counter(name for names in covered.values() for name in names))


def existing(tree: Path) -> list[str]:
    """Return the test folders that are there."""
    return [folder for folder in TESTS if (tree / folder).is_dir()]


def over(
    copies: Sequence[Path], judge: Callable[[Path, _Item], _Answer], items: Sequence[_Item]
) -> Iterator[_Answer]:
    """Yield what ``judge`` says of each item; each copy of the tree holds one at a time."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def in_a_copy(item: _Item) -> _Answer:
        tree = free.get()
        try:
            return judge(tree, item)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(in_a_copy, items)


def tests_of(site: Site, coverage: Coverage) -> list[str]:
    """Return the tests that execute a site: those of its own module, of its subject, others.

    Of those equally far, first the ones that execute the least: they are about it, and quick.
    """
    own = f"test_{Path(site.path).stem}.py"
    (subject,) = (f"tests/{name}/" for name in SUBJECTS if site.path.startswith(f"{name}/"))
    tests = coverage.tests.get((site.path, site.line), [])
    first: list[str] = []
    if not tests:  # executed at import: by every test of the module
        lines = [names for (path, _), names in coverage.tests.items() if path == site.path]
        tests = sorted({name for names in lines for name in names})
        first = [_SCHEMA_TEST]

    def distance(name: str) -> tuple[bool, bool, int]:
        return own not in name, not name.startswith(subject), coverage.breadth[name]

    return [*first, *sorted(tests, key=distance)][:_MOST_TESTS]


def judge_in(tree: Path, site: Site, coverage: Coverage, seed: int) -> Verdict:
    """Put a mutant into a copy of the tree, run its tests, and take it out again."""
    tests = tests_of(site, coverage)
    original = (tree / site.path).read_text(encoding="utf-8")
    mutated = mutate(original, site, seed)
    began = perf_counter()
    is_killed = is_noticed(tree, site.path, original, mutated, tests)
    before, after = changed_lines(original, mutated)
    return Verdict(
        path=site.path,
        line=site.line,
        operator=site.operator,
        before=before,
        after=after,
        num_tests=len(tests),
        is_killed=is_killed,
        seconds=round(perf_counter() - began, 1),
    )


def break_guarantee(tree: Path, guarantee: Guarantee) -> bool:
    """Return whether the tests notice that a guarantee is broken."""
    original, broken = guarantee.break_in(tree)
    return is_noticed(tree, guarantee.path, original, broken, guarantee.tests)


def is_noticed(tree: Path, path: str, original: str, changed: str, tests: Sequence[str]) -> bool:
    """Change a module in a copy of the tree, run tests, and change it back."""
    if not tests or changed == original:
        return False
    (tree / path).write_text(changed, encoding="utf-8")
    try:
        return run_pytest(tree, ["-x", *tests], timeout_s=_TIMEOUT_S) != 0
    finally:
        (tree / path).write_text(original, encoding="utf-8")


def run_pytest(
    tree: Path, words: Sequence[str], *, timeout_s: float, output: IO[str] | None = None
) -> int:
    """Run pytest in a tree; a run that does not end counts as failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=output or subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return 1
        finally:
            _end_group(process.pid)


def _end_group(group: int) -> None:
    """End what a run has left behind: servers of a test that was cut short."""
    try:
        os.killpg(group, 9)
    except ProcessLookupError:
        return


def changed_lines(original: str, mutated: str) -> tuple[str, str]:
    """Return the first line that differs, before and after."""
    for before, after in zip(original.splitlines(), mutated.splitlines(), strict=False):
        if before != after:
            return before.strip(), after.strip()
    return "", ""


if __name__ == "__main__":
    main()
