"""The distribution carries exactly our three packages, whole; nothing else claims their names."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "models", "connectors")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _files(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_top_level_is_our_three_packages(unpacked: Path) -> None:
    names = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert names == set(PACKAGES)


def test_wheel_holds_every_file_of_the_packages(unpacked: Path) -> None:
    assert _files(unpacked) == _files(ROOT)


@pytest.mark.parametrize(
    "name",
    [
        "connectors/world/atlas.png",
        "connectors/world/wide/atlas_wide.webp",
        "connectors/world/wide/concepts.csv",
        "models/sam3/nano/model.safetensors",
        "models/sam3/nano/tokenizer.json",
        *(f"{p}/py.typed" for p in PACKAGES),
    ],
)
def test_wheel_holds_data(unpacked: Path, name: str) -> None:
    assert (unpacked / name).is_file()


def test_unpacked_wheel_runs_outside_the_checkout(unpacked: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "schema", "masklets"]
    environ = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=unpacked, env=environ, check=True, capture_output=True)
    assert json.loads(done.stdout)["title"] == "MaskletsRecord"


def test_wheel_carries_the_licence(unpacked: Path) -> None:
    [licence] = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_imported_from_this_checkout(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


def _is_claimed_by(distribution: Distribution) -> bool:
    files = distribution.files or ()
    return any(file.parts[0] in PACKAGES for file in files)


def test_no_other_distribution_claims_our_names() -> None:
    others = {d.metadata["Name"] for d in distributions() if _is_claimed_by(d)}
    assert others <= {"maskstream"}
