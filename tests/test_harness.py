"""The tests' own promises: a failing test ends the run, whatever threads it leaves behind."""

import subprocess
import sys
from pathlib import Path

from tests import conftest

ROOT = Path(__file__).parents[1]
HELD = """
import threading

from tests import conftest
from tests.conftest import pytest_unconfigure

conftest._EXIT_S = 0.5


def test_leaves_a_thread_behind():
    threading.Thread(target=threading.Event().wait).start()
    raise AssertionError
"""


def test_a_failed_test_that_leaves_a_thread_ends_the_run(tmp_path):
    (tmp_path / "test_held.py").write_text(HELD)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_unconfigure\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    command += ["--rootdir", str(tmp_path), "-c", "/dev/null"]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert conftest._EXIT_S <= 30
