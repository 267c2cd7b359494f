"""The promises that ``make mutants`` breaks: each names a line that is there."""

from pathlib import Path

import pytest

from tests.benchmarks.guarantees import GUARANTEES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda one: one.promise)
def test_each_promise_names_a_line_and_tests_that_are_there(guarantee):
    original, broken = guarantee.break_in(ROOT)
    assert broken != original
    compile(broken, guarantee.path, "exec")
    assert all((ROOT / name).exists() for name in guarantee.tests)
