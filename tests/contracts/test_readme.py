"""What the README shows is what the program takes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from connectors.registry import sink_from_url, source_from_url
from pipeline.config.loading import parse_config
from tests.media import write_video

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_configuration_is_accepted() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    config = parse_config(example, environ={"CAMERA_PASSWORD": "secret"})
    assert [stream.id for stream in config.streams] == ["north-gate"]


@pytest.mark.parametrize("url", re.findall(r"--source (\S+)", TEXT))
def test_sources_are_known(url: str) -> None:
    assert source_from_url(url).type == "rtsp"


@pytest.mark.parametrize("url", re.findall(r"--sink (\S+)", TEXT))
def test_sinks_are_known(url: str) -> None:
    assert sink_from_url(url).type in {"kafka", "console"}


def table_of(flag: str) -> list[str]:
    """Return the short forms in the column about a flag."""
    [header, rows] = re.findall(r"(\| `--source` .*)\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT)[0]
    column = [cell.strip() for cell in header.split("|")].index(f"`{flag}`")
    forms = [
        form for row in rows.splitlines() for form in re.findall(r"`(.+?)`", row.split("|")[column])
    ]
    return [form.replace("…", "camera/1").replace(":port", ":9092") for form in forms]


@pytest.mark.parametrize(
    ("flag", "parse", "types"),
    [
        ("--source", source_from_url, "rtsp rtsp file webcam kafka world world"),
        ("--sink", sink_from_url, "kafka jsonl video picture frames console"),
    ],
)
def test_short_forms_in_tables_mean_what_is_told(
    flag: str, parse: Callable[[str], BaseModel], types: str
) -> None:
    assert [parse(url).model_dump()["type"] for url in table_of(flag)] == types.split()


def test_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from connectors.pictures.stills import write_picture
    from connectors.world.config import WorldSourceConfig
    from connectors.world.source import open_world

    [code] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    world = open_world(WorldSourceConfig(seed=3, width=480, height=360).to_world())
    write_picture(tmp_path / "photo.jpg", world.render(5).pixels)
    write_video(tmp_path / "clip.mp4", num_frames=3)
    stream = {
        "id": "clip",
        "source": {"type": "file", "path": "clip.mp4"},
        "concepts": ["deer"],
    }
    config = {"streams": [stream], "sinks": [{"type": "jsonl", "folder": "out"}]}
    (tmp_path / "pipeline.yaml").write_text(json.dumps(config))
    exec(code, {})  # noqa: S102 - what readers would run
    assert "clip 1.0" in capsys.readouterr().out


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", TEXT))))
def test_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", TEXT)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_stays_short() -> None:
    assert len(TEXT.splitlines()) <= 150
