import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import ConfigError
from pipeline.lab.studies.registry import ALL, STUDIES, chosen_studies

OF_CLIPS = {"tracking", "memory", "occlusion"}
OF_PICTURES = [entry.name for entry in STUDIES if entry.name not in OF_CLIPS]


@pytest.mark.parametrize("name", OF_PICTURES)
def test_study_of_the_shipped_model_writes_three_files(name: str, tmp_path: Path) -> None:
    given = ["--samples", "1", "--seeds", "3,5", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, ["eval", "study", name, "--out", str(tmp_path), *given])
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert (fields["type"], fields["study"]) == ("study", name)
    assert written["points"] == fields["points"]
    assert {point["seed"] for point in written["points"]} <= {3, 5}
    assert "| ---" in (tmp_path / f"{name}.md").read_text()
    picture = cv2.imread(str(tmp_path / f"{name}.png"))
    assert picture is not None
    assert picture.std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for kind in ("json", "md", "png")
    ]


def test_table_is_shown_to_people(tmp_path: Path) -> None:
    given = ["--samples", "1", "--seeds", "0", "--world", "plain", "--device", "cpu"]
    result = CliRunner().invoke(app, ["eval", "study", "main", "--out", str(tmp_path), *given])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "main.md").read_text() in result.stdout
    assert str(tmp_path / "main.png") in result.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["sizes", "main"], "study 'sizes' (accepted: main, presence"),
        (["main", "--seeds", "1,1"], "--seeds '1,1' (accepted: different numbers from 0"),
        (["main", "--seeds", "one"], "--seeds 'one'"),
        (["main", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["main", "--model", "sam9"], "sam9"),
    ],
)
def test_what_cannot_be_studied_is_bad_usage(given, told, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "study", *given, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_missing_matplotlib_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["eval", "study", "main", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "maskstream[lab]" in result.stderr


def test_all_studies_are_there_once_and_can_be_run() -> None:
    assert chosen_studies((ALL,)) == STUDIES
    assert [entry.name for entry in chosen_studies(("size", "main", "size"))] == ["size", "main"]
    assert len({entry.name for entry in STUDIES}) == len(STUDIES)
    assert all(callable(entry.load()) and entry.summary for entry in STUDIES)
    with pytest.raises(ConfigError, match="accepted: main"):
        chosen_studies(())


def test_listing_studies_loads_neither_torch_nor_matplotlib() -> None:
    loaded = "{'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    code = f"import sys; from pipeline.cli import study; print({loaded})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
