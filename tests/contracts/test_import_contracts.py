"""The import contracts hold (``make imports``), and each of them can break."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = [contract["name"] for contract in SETTINGS["tool"]["importlinter"]["contracts"]]
# One line that breaks each contract, and where it would stand.
BREACHES = {
    "pipeline stands on the two leaves": ("models/catalogue.py", "import pipeline.errors"),
    "each generation of models stands on the one before": (
        "models/sam2/config.py",
        "import models.sam3.prompts",
    ),
    "checkpoints are read below, recognised above, converted on top": (
        "models/checkpoints/weights.py",
        "import models.checkpoints.convert",
    ),
    "SAM 3's network knows neither sessions nor predictors": (
        "models/sam3/network/text.py",
        "import models.sam3.predictor",
    ),
    "rooms of the pipeline know only those below": (
        "pipeline/tracking/config.py",
        "import pipeline.config.run",
    ),
    "only the command line knows the lab": ("pipeline/app.py", "import pipeline.lab.detector"),
    "only the registry and the lab know the world": (
        "pipeline/segment/finders.py",
        "import connectors.world.still",
    ),
    "only the command line writes to terminals": ("pipeline/engine/engine.py", "import rich.text"),
    "streams are pure": ("pipeline/streams/__init__.py", "import threading"),
    "only app, the offline tools and pictures know the concrete": (
        "pipeline/engine/scheduler.py",
        "import models.build",
    ),
    "connectors carry no torch": ("connectors/frame.py", "import torch"),
    "models know no bytes": ("models/protocols.py", "import av"),
}


def lint(folder: Path) -> str:
    """Return what import-linter says of a folder with our packages and their settings."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report on a copy of the packages in which every contract is broken once."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("pipeline", "models", "connectors"):
        for path in (ROOT / package).rglob("*.py"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for file, line in BREACHES.values():
        with (folder / file).open("a", encoding="utf-8") as code:
            code.write(f"\n{line}\n")
    return lint(folder)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_breaks_when_a_module_imports_what_it_must_not(broken: str, contract: str):
    assert f"{contract} BROKEN" in broken


def test_every_contract_has_a_breach() -> None:
    assert set(BREACHES) == set(CONTRACTS)


def test_connectors_use_the_public_names_of_libraries_alone():
    paths = [path for path in (ROOT / "connectors").rglob("*.py") if "SLF001" in path.read_text()]
    assert paths == []  # ruff's rule is silenced nowhere: a patch release may rename the rest
