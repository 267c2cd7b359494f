"""What the README shows is what the program takes."""

import re
from pathlib import Path

import pytest

from connectors.config import sink_from_url, source_from_url
from pipeline.loading import parse_config

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


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", TEXT))))
def test_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", TEXT)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_stays_short() -> None:
    assert len(TEXT.splitlines()) <= 200
