"""What runs without the extras, and what is said where one is needed."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from connectors.pictures.stills import write_picture
from connectors.world.still import StillConfig, render_still
from pipeline.cli.errors import EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# An import of a module that stands as None fails as that of one which is not installed.
WITHOUT = """
import runpy, sys
missing, sys.argv = sys.argv[1].split(","), ["maskstream", *sys.argv[2:]]
sys.modules.update(dict.fromkeys(missing))
runpy.run_module("pipeline", run_name="__main__")
"""


def call_without_extras(*words, extra: str = "lab", cwd: Path | None = None):
    missing = ",".join([*EXTRAS[extra], "pipeline.lab"] if cwd else EXTRAS[extra])
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize("extra", EXTRAS)
def test_modules_of_an_extra_are_those_of_its_distributions(extra):
    wanted = {Requirement(text).name for text in PROJECT["optional-dependencies"][extra]}
    installed = packages_distributions()
    assert {name for module in EXTRAS[extra] for name in installed[module]} == wanted


def test_no_extra_names_what_is_always_there():
    always = {Requirement(text).name for text in PROJECT["dependencies"]}
    for extra in EXTRAS:
        assert not always & {
            Requirement(text).name for text in PROJECT["optional-dependencies"][extra]
        }


def test_run_segment_and_check_do_without_lab(tmp_path):
    picture = tmp_path / "picture.png"
    pixels = render_still(np.random.default_rng(0), size=96, config=StillConfig())
    write_picture(picture, pixels.pixels)
    (tmp_path / "c.yaml").write_text(
        "streams: [{id: a, source: {type: world, width: 96, height: 96, fps: 5, duration_s: 0.4},"
        " concepts: [deer]}]\nsinks: [{type: jsonl, folder: out}]\n"
    )
    for words in (["run", "c.yaml"], ["check", "c.yaml"], ["segment", picture, "--concept", "bus"]):
        done = call_without_extras(*words, cwd=tmp_path)
        complaints = [line for line in done.stderr.splitlines() if " INFO " not in line]
        assert (done.returncode, complaints) == (0, [])
    assert (tmp_path / "out" / "masklets.jsonl").read_text()
    assert (tmp_path / "segment-out" / "annotations.json").exists()


def test_a_command_of_lab_names_the_extra_it_lacks(tmp_path):
    done = call_without_extras("eval", "study", "main", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == (
        "error: matplotlib is not installed (accepted: pip install 'maskstream[lab]')\n"
    )
    assert not (tmp_path / "out").exists()


def test_export_names_the_extra_it_lacks(tmp_path):
    done = call_without_extras("models", "export", "sam3-nano", tmp_path / "out", extra="export")
    assert done.returncode == 2
    assert done.stderr == (
        "error: onnx is not installed (accepted: pip install 'maskstream[export]')\n"
    )
    assert not (tmp_path / "out").exists()
