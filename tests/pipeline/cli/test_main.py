"""The command line: what people type, what they read, exit codes."""

import io
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app, main
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer, RecordLog
from tests.pipeline.engine.log.logs import make_records

WORLD = """\
streams:
  - id: field
    source: {{type: world, seed: 3, width: 96, height: 96, fps: 5, duration_s: {seconds}}}
    concepts: [deer, car]
    rules:
      - {{type: appear, name: seen, accepts: tentative}}
sinks:
  - {{type: jsonl, folder: {folder}}}
"""


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def write_config(folder, *, seconds=0.6, more=""):
    path = folder / "c.yaml"
    path.write_text(WORLD.format(seconds=seconds, folder=folder / "out") + more)
    return path


def test_check_accepts_a_good_file(tmp_path):
    done = call("check", write_config(tmp_path))
    assert (done.exit_code, done.stdout.split(": ")[1]) == (0, "good")


@pytest.mark.parametrize("json_lines", [False, True])
def test_check_refuses_a_bad_file_with_code_2(tmp_path, json_lines):
    path = write_config(tmp_path, more="engine: {max_bach: 2}\n")
    done = call("check", path, *(["--json"] if json_lines else []))
    assert done.exit_code == 2
    assert f"{path}:9: engine.max_bach" in done.stderr
    assert (json.loads(done.stdout)["ok"] is False) if json_lines else not done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "either a configuration file or --source"),
        (["run", "c.yaml", "--concept", "deer"], "not with a configuration (accepted: --source)"),
        (["run", "c.yaml", "--source", "x.mp4"], "either"),
        (["run", "--source", "x.mp4"], "--concept: is missing"),
        (["run", "--source", "gopher://x", "--concept", "deer"], "unknown source"),
        (["run", "--source", "x.mp4", "--concept", "deer", "--sink", "x.gif"], "unknown sink"),
        (["run", "--source", "x.mp4", "--concept", "deer", "--zone", "gate"], "bad zone"),
        (["run", "--source", "x.mp4", "--concept", "deer", "--zone", "g=0,0 1,0 1,7"], "polygon"),
        (["run", "--source", "x.mp4", "--concept", "deer", "--model", "yolo"], "sam3-nano"),
        (
            ["run", "--source", "x.mp4", "--concept", "deer", "--device", "tpu"],
            "accepted: auto, cpu, ",
        ),
        (["run", "--source", "x.mp4", "--concept", "deer", "--max-fps", "-1"], "max_fps"),
        (["check", "none.yaml"], "cannot be read"),
        (["schema", "frames"], "masklets"),
        (["models", "inspect", "yolo"], "sam3-nano"),
        (["demo", "--checkpoint", "none.safetensors"], "none.safetensors"),
    ],
)
def test_bad_usage_is_one_clear_line_and_code_2(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    done = call(*words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_passwords_in_flags_are_not_shown_again():
    done = call("run", "--source", "rtsp://bob:hunter2@host:99999/1", "--concept", "deer")
    assert done.exit_code == 2
    assert "hunter2" not in done.output


def test_models_are_listed():
    lines = call("models", "list", "--json").stdout.splitlines()
    assert "sam3-nano" in {json.loads(line)["name"] for line in lines}


def test_version_is_shown():
    assert call("--version").stdout.startswith("maskstream ")


def test_run_gives_files_a_summary_and_code_0(tmp_path):
    done = call("run", write_config(tmp_path), "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    lines = (tmp_path / "out" / "masklets.jsonl").read_text().splitlines()
    assert done.exit_code == 0
    assert summary["streams"][0]["counts"]["processed"] == len(lines) == 3
    assert str(tmp_path / "out" / "masklets.jsonl") in summary["files"]


def test_run_of_a_missing_file_is_code_1_and_says_so(tmp_path):
    done = call("run", "--source", tmp_path / "none.mp4", "--concept", "deer")
    assert done.exit_code == 1
    assert "none.mp4" in done.stderr


def test_port_in_use_is_reported_before_the_model_is_loaded(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = "--metrics-port", port, "--checkpoint", broken
        done = call("run", write_config(tmp_path), *flags)
    assert done.exit_code == 2
    assert f"observe.port: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert str(broken) not in done.stderr


@pytest.fixture
def call_unread(monkeypatch):
    """A command whose output nobody reads, not even its errors: returns its exit code."""
    reader, writer = os.pipe()
    os.close(reader)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["maskstream", *map(str, words)])
        for name in ("stdout", "stderr"):
            binary = open(writer, "wb", closefd=False)  # noqa: SIM115 - as Python opens its own
            monkeypatch.setattr(sys, name, io.TextIOWrapper(binary, "utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    yield call
    os.close(writer)  # still open: no other file may get the number of stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["schema"], 0),
        (["schema", "clips"], 2),
        (["models", "list"], 0),
        (["models", "list", "--json"], 0),
        (["check", "none.yaml", "--json"], 2),
    ],
)
def test_a_reader_that_leaves_changes_no_exit_code(words, code, call_unread):
    assert call_unread(*words) == code


@pytest.mark.parametrize("words", [[], ["--json"], ["--strict"]])
def test_a_run_goes_on_when_its_reader_leaves(words, call_unread, tmp_path):
    path = write_config(tmp_path, more="  - {type: console}\n")
    assert call_unread("run", path, *words) == 0
    assert len((tmp_path / "out" / "masklets.jsonl").read_text().splitlines()) == 3


def with_state(folder):
    return f'  - {{type: kafka, bootstrap: "127.0.0.1:9"}}\nstate: {{folder: {folder}}}\n'


def assert_refused(done, told):
    """It ends before any model is loaded, in one line."""
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_second_process_on_a_state_folder_is_refused_and_harms_nothing(tmp_path):
    state = tmp_path / "state"
    kafka = Consumer(name="kafka", uses_log=True)
    log = RecordLog(state, [kafka], log_bytes=10**6, memory_bytes=10**6)
    log.append(Kind.ALERTS, make_records(1, 5))
    log.sync()
    done = call("run", write_config(tmp_path, more=with_state(state)))
    assert_refused(done, f"in use by process {os.getpid()} (accepted: a folder of its own")
    log.close()
    again = RecordLog(state, [kafka], log_bytes=10**6, memory_bytes=10**6)
    assert again.num_waiting("kafka") == 5
    again.close()


def test_state_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = call("run", write_config(tmp_path, more=with_state(tmp_path / "file" / "state")))
    assert done.exit_code == 2
    assert "state.folder" in done.stderr
    assert str(tmp_path / "file") in done.stderr


@pytest.fixture
def _without_nohup():
    """Ignore no SIGHUP: a run that inherits that keeps to it, as it should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_without_nohup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(tmp_path, number):
    path = write_config(tmp_path, seconds=600)
    # A shell without job control lets what it starts behind & ignore SIGINT.
    ignoring = ["bash", "-c", 'trap "" INT; exec "$@"', "bash"]
    done = subprocess.Popen(
        [*ignoring, sys.executable, "-m", "pipeline", "run", str(path), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with done:
        told = (json.loads(line) for line in done.stdout)
        first = next(line for line in told if line.get("frames"))
        done.send_signal(number)
        *_, last = told
    counts = last["streams"][0]["counts"]
    lines = (tmp_path / "out" / "masklets.jsonl").read_text().splitlines()
    assert (first["type"], last["type"], done.returncode) == ("progress", "summary", 0)
    assert 0 < counts["processed"] == len(lines) < 3000
    assert counts["received"] == counts["processed"] + counts["dropped"].get("stopped", 0)
    assert [json.loads(line)["frame_seq"] for line in lines] == list(range(len(lines)))


@pytest.mark.usefixtures("_without_nohup")
def test_a_hangup_has_the_file_read_again(tmp_path):
    path = write_config(tmp_path, seconds=600)
    running = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(path), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with running:
        assert any("connected" in line for line in running.stderr)
        path.write_text(path.read_text().replace("concepts: [deer", "concepts: [cow, deer"))
        running.send_signal(signal.SIGHUP)
        assert any("reload by SIGHUP: done" in line for line in running.stderr)
        running.terminate()
        running.stderr.read()
    assert running.returncode == 0
    concepts = [
        set(json.loads(line)["presence"])
        for line in (tmp_path / "out" / "masklets.jsonl").read_text().splitlines()
    ]
    assert "cow" in concepts[-1] - concepts[0]


@pytest.mark.usefixtures("_without_nohup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_is_one_line_and_a_code(tmp_path, number):
    path = write_config(tmp_path, seconds=600)
    script = (
        "import os, sys, pipeline.api.running as app\n"
        f"app.open_app = lambda *_, **__: os.kill(os.getpid(), {int(number)})\n"
        "from pipeline.cli.main import main\n"
        f"sys.argv = ['maskstream', 'run', {str(path)!r}, '--json']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    assert "stopped before the run began" in json.loads(line).values()
    assert done.stderr.count("\n") == 1
