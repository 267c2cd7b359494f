import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE, sam3_network
from models.sam3.network.model import Sam3
from pipeline.cli.evaluation_tables import show_evaluation
from pipeline.cli.main import app
from pipeline.lab.evaluation.report import Evaluation
from pipeline.lab.evaluation.video import VideoSettings, evaluate_video
from tests.pipeline.lab.evaluation.evaluation_sets import write_saco
from tests.pipeline.lab.oracles import OracleTracker


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the small size, as a checkpoint."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("untrained") / "model.safetensors"
    save_file(Sam3(sam3_network("sam3-nano")).state_dict(), path)
    shutil.copy(NANO_FOLDER / VOCABULARY_FILE, path.parent)
    return path


@pytest.mark.parametrize(
    ("kind", "flags", "measure"),
    [
        ("images", [], ("scores", "il_fpr")),
        ("video", ["--duration", "0.5"], ("counts", "truth_masks")),
    ],
)
def test_eval_runs_a_real_model_and_writes_one_line_of_json(
    untrained: Path, kind: str, flags: list[str], measure: tuple[str, str]
) -> None:
    given = ["eval", kind, "--checkpoint", str(untrained), "--samples", "1", "--size", "84"]
    result = CliRunner().invoke(app, [*given, *flags, "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    fields = json.loads(line)
    assert (fields["type"], fields["task"]) == ("evaluation", kind)
    assert fields[measure[0]][measure[1]] >= 0


@pytest.mark.parametrize("kind", ["images", "video"])
def test_flags_of_data_sets_are_refused_with_the_world(kind: str) -> None:
    given = ["eval", kind, "--samples", "1", "--root", "x", "--save-results", "r.json", "--json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert "--root, --save-results: not with --data world" in result.stderr
    assert json.loads(result.stdout)["type"] == "error"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("images --on-bad fail", "--on-bad: not with --data world (accepted: --data saco-gold, "),
        (
            "images --data saco-gold --world full --samples 200",
            "--samples: not with --data saco-go",
        ),
        ("images --data saco-silver --gallery a.png", "--gallery: not with --data saco-silver"),
        ("video --split val", "--split: not with --data world (accepted: --data davis, --data mo"),
        ("video --fps 6 --phrases-at-once 1", "--fps, --phrases-at-once: not with --data world"),
        ("video --data davis --seed 0 --size 168", "--seed, --size: not with --data davis"),
        ("video --data davis --annotations a.json", "--annotations: not with --data davis"),
        ("video --data mose --fps 6", "--fps: not with --data mose (accepted: --data saco-veval,"),
        ("video --data sa-v-auto --split val", "--split: not with --data sa-v-auto"),
        ("video --data ytvis --duration 10", "--duration: not with --data ytvis (accepted: --data"),
    ],
)
def test_flags_that_mean_nothing_are_refused_and_told_where_they_go(words: str, told: str) -> None:
    result = CliRunner().invoke(app, ["eval", *words.split()])
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    "wrong", [["--model", "sam9"], ["--device", "abacus"], ["--checkpoint", "none.safetensors"]]
)
@pytest.mark.parametrize("kind", ["images", "video"])
def test_eval_with_an_unusable_model_is_bad_usage(kind: str, wrong: list[str]) -> None:
    result = CliRunner().invoke(app, ["eval", kind, *wrong])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_tables_show_the_measures(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    settings = VideoSettings(num_clips=1, width=64, height=64, fps=2.0, duration_s=4.0, seed=3)
    report = evaluate_video(OracleTracker(settings=settings), settings)
    show_evaluation(Evaluation(model="oracle", checkpoint=None, report=report), Console(width=120))
    shown = capsys.readouterr().out
    assert "J&F" in shown
    assert "100.0" in shown


def test_command_module_loads_neither_torch_nor_the_world() -> None:
    code = (
        "import sys, pipeline.cli.evaluate as _;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'connectors.world.scene')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_eval_answers_a_picture_set_and_scores_its_own_file_alike(
    untrained: Path, tmp_path: Path
) -> None:
    annotations, answers = write_saco(tmp_path), tmp_path / "answers.json"
    given = ["eval", "images", "--data", "saco-gold", "--root", str(tmp_path)]
    given += ["--annotations", str(annotations), "--save-predictions", str(answers)]
    given += ["--checkpoint", str(untrained), "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    files = ["eval", "files", "--gt", str(annotations), "--pred", str(answers), "--json"]
    again = CliRunner().invoke(app, files)
    assert json.loads(again.stdout)["results"] == json.loads(result.stdout)["results"]


def test_eval_files_shows_measures_and_what_was_left_out(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "lab" / "evaluation" / "golden" / "veval"
    broken = tmp_path / "predictions.json"
    content = json.loads((folder / "predictions.json").read_text())
    broken.write_text(json.dumps([*content, {"video_id": 99}]))
    given = ["eval", "files", "--gt", str(folder / "truth.json"), "--pred", str(broken)]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 2
    assert f"prediction at place {len(content)}" in refused.stderr
    shown = CliRunner().invoke(app, [*given, "--on-bad", "skip"])
    assert shown.exit_code == 0
    for words in ("pHOTA", "TETA", "left out"):
        assert words in shown.stdout
