"""Fetching weights, against a server on this machine; each call in a process of its own.

The Hub's client reads its settings once, when it is imported.
"""

import os
import subprocess
import sys

import pytest

from tests.models.checkpoints.hub_server import COMMIT, serving

CALL = """
import sys
from pathlib import Path
from models.catalogue import MODELS
from models.checkpoints.hub import PullError, pull
try:
    done = pull(MODELS[sys.argv[1]], out=Path(sys.argv[2]), revision=sys.argv[3] or None)
except PullError as error:
    sys.exit(str(error))
sys.stdout.write(f"{done.folder}\\n{done.revision}")
"""
SECRET = "hf_secretsecretsecretsecret"  # noqa: S105 - nobody's


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    for name in ("config.json", "merges.txt", "README.md", "pytorch_model.bin"):
        (folder / name).write_text(f'{{"this is": "{name}"}}')
    (folder / "model.safetensors").write_bytes(os.urandom(300_000))
    with serving(folder) as server:
        yield server


@pytest.fixture
def fetch(hub, tmp_path):
    def call(model="sam3", *, revision="", out="out", **environment):
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **environment,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.run(
            [sys.executable, "-c", CALL, model, str(tmp_path / out), revision],
            env=kept | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def test_weights_and_what_belongs_to_them_are_fetched(fetch, hub, tmp_path):
    done = fetch(HF_TOKEN=SECRET)
    assert done.stdout == f"{tmp_path / 'out'}\n{COMMIT}", done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert names == {"config.json", "merges.txt", "model.safetensors"}
    whole = (hub.folder / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == whole
    assert hub.tokens == {SECRET}
    assert SECRET not in done.stdout + done.stderr


def test_download_goes_on_where_it_was_cut(fetch, hub, tmp_path):
    # The client writes what came in pieces of 10 MiB; less than that it has to ask for again.
    (hub.folder / "model.safetensors").write_bytes(os.urandom(24 * 2**20))
    hub.cut_after = 15 * 2**20
    first = fetch()
    if first.returncode:
        assert not (tmp_path / "out" / "model.safetensors").exists()
        assert fetch().returncode == 0
    whole = (hub.folder / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == whole
    assert any(start > 0 for start in hub.ranges)


def test_gated_weights_without_token_say_how_to_be_let_in(fetch, hub):
    hub.status, hub.error_code = 401, "GatedRepo"
    told = fetch().stderr
    assert "the Hub refuses facebook/sam3 (401): no token was sent" in told
    for step in ("huggingface.co/facebook/sam3", "agree to the licence", "HF_TOKEN", "pull sam3"):
        assert step in told


def test_account_without_access_is_told_from_no_token(fetch, hub):
    hub.status, hub.error_code = 403, "GatedRepo"
    told = fetch(HF_TOKEN=SECRET).stderr
    assert "(403): the token's account has not been granted access" in told
    assert SECRET not in told


def test_refusal_of_open_weights_does_not_speak_of_forms(fetch, hub):
    hub.status = 401
    told = fetch("sam1-b").stderr
    assert "the Hub refuses facebook/sam-vit-base (401)" in told
    assert "form" not in told


def test_unknown_revision_is_told(fetch, hub):
    hub.status, hub.error_code = 404, "RevisionNotFound"
    assert "facebook/sam3 has no revision 'v9'" in fetch(revision="v9").stderr


@pytest.mark.parametrize(
    "environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}]
)
def test_no_way_to_the_hub_is_told(fetch, environment):
    told = fetch(**environment).stderr
    assert "cannot reach the Hub for facebook/sam3" in told
    assert "give their folder as the checkpoint" in told


def test_folder_that_cannot_be_written_is_told(fetch, tmp_path):
    (tmp_path / "taken").write_text("a file")
    assert "cannot write to" in fetch(out="taken/below").stderr


def test_shipped_model_needs_no_fetching(fetch):
    assert "sam3-nano ships with the package" in fetch("sam3-nano").stderr
