"""What is wrong is told in one clear line each, and harms nothing else."""

import json
import re
import signal
import time

import av
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pipeline.cli.main import app
from tests.e2e.runs import ROOT, RUN_S, maskstream, run_to_end
from tests.media import write_video
from tests.servers import free_port, gst_rtsp_server

NUM_GOOD = 4
USER, PASSWORD, WRONG = "viewer", "right", "wr0ng"
STREAM = """\
  - id: {id}
    source: {source}
    concepts: [deer]
"""
TAIL = """\
sinks:
  - {{type: jsonl, folder: {folder}/out}}
  - {{type: video, path: "{folder}/out/{{stream_id}}.mp4", min_width: 0}}
"""


def write_config(folder, sources):
    streams = [STREAM.format(id=name, source=json.dumps(one)) for name, one in sources.items()]
    path = folder / "streams.yaml"
    path.write_text("streams:\n" + "".join(streams) + TAIL.format(folder=folder))
    return path


def write_sources(folder):
    """One good file and three that are bad in their own ways."""
    write_video(folder / "good.mp4", num_frames=NUM_GOOD, fps=5)
    (folder / "text.mp4").write_text("Dear diary, today I saw a deer.\n" * 50)
    cut = write_video(folder / "cut.mp4", options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mp4").write_bytes(cut[: len(cut) * 9 // 10])
    files = ("good", "missing", "text", "cut")
    return {name: {"type": "file", "path": str(folder / f"{name}.mp4")} for name in files}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Exit code, error lines and folder of one run over all of them."""
    folder = tmp_path_factory.mktemp("mixed")
    code = run_to_end("run", write_config(folder, write_sources(folder)), folder=folder)
    return code, (folder / "stderr").read_text(), folder / "out"


def errors_about(stderr, stream_id):
    return re.findall(rf"^error: .*stream '{stream_id}'.*$", stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("stream_id", "words"),
    [
        ("missing", ["missing.mp4", "accepted: "]),
        ("text", ["text.mp4", "accepted: "]),
        ("cut", ["cut.mp4", "frame ", "not whole"]),
    ],
)
def test_each_bad_stream_gets_one_line_with_place_and_reason(mixed, stream_id, words):
    _, stderr, _ = mixed
    [line] = errors_about(stderr, stream_id)
    assert [word for word in words if word not in line] == []


def test_bad_streams_are_code_1_without_a_traceback(mixed):
    code, stderr, _ = mixed
    assert code == 1
    assert "Traceback" not in stderr
    assert len(re.findall("^error: ", stderr, re.MULTILINE)) == 3


def frames_recorded(out, stream_id):
    records = [json.loads(line) for line in (out / "masklets.jsonl").read_text().splitlines()]
    return [one["frame_seq"] for one in records if one["stream_id"] == stream_id]


def frames_drawn(out, stream_id):
    with av.open(out / f"{stream_id}.mp4") as container:
        return sum(1 for _ in container.decode(video=0))


def test_good_stream_beside_bad_ones_is_whole(mixed):
    _, stderr, out = mixed
    assert frames_recorded(out, "good") == list(range(NUM_GOOD))
    assert frames_drawn(out, "good") == NUM_GOOD
    assert errors_about(stderr, "good") == []


def test_what_came_before_the_break_stays_readable(mixed):
    _, stderr, out = mixed
    numbers = frames_recorded(out, "cut")
    [line] = errors_about(stderr, "cut")
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) == frames_drawn(out, "cut") < 25
    assert f"frame {len(numbers)}" in line


def test_last_status_of_each_bad_stream_tells_the_same(mixed):
    _, _, out = mixed
    records = [json.loads(line) for line in (out / "status.jsonl").read_text().splitlines()]
    last = {record["stream_id"]: record for record in records}
    errors = {name: one["error"]["type"] for name, one in last.items() if one.get("error")}
    assert errors == {
        "missing": "NotFoundError",
        "text": "UnsupportedMediaError",
        "cut": "CorruptMediaError",
    }


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def run_until_stated(folder, path, error_type):
    """Run until a status record states an error, stop, return the code and all that was said."""
    status = folder / "out" / "status.jsonl"
    with maskstream("run", path, folder=folder) as process:
        deadline = time.monotonic() + RUN_S
        while not (status.exists() and error_type in status.read_text()):
            assert process.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
    told = [path.read_text() for path in (folder / "stderr", folder / "stdout", status)]
    return code, told[0], "".join(told)


def test_camera_that_is_away_is_tried_until_the_run_is_stopped(tmp_path):
    source = {"type": "rtsp", "url": f"rtsp://127.0.0.1:{free_port()}/camera"}
    path = write_config(tmp_path, {"away": source})
    code, stderr, told = run_until_stated(tmp_path, path, "UnreachableError")
    [line] = errors_about(stderr, "away")
    assert code == 1
    assert "rtsp://127.0.0.1:" in line
    assert "connection refused" in line
    assert '"state":"reconnecting"' in told


def test_wrong_password_is_refused_and_not_told(tmp_path, gstreamer, h264_file):
    with gst_rtsp_server(h264_file, user=USER, password=PASSWORD) as (url, _):
        address = url.replace("//", f"//{USER}:{WRONG}@")
        path = write_config(tmp_path, {"gate": {"type": "rtsp", "url": address}})
        code, stderr, told = run_until_stated(tmp_path, path, "UnauthorizedError")
    [line] = errors_about(stderr, "gate")
    assert code == 1
    assert "password" in line
    assert WRONG not in told


def test_unknown_key_is_told_with_file_line_and_field(tmp_path):
    path = write_config(tmp_path, {"good": {"type": "file", "path": "x.mp4", "lop": True}})
    code = run_to_end("run", path, folder=tmp_path)
    [line] = (tmp_path / "stderr").read_text().splitlines()
    assert code == 2
    assert line.startswith(f"error: {path}:3: streams[0].source.lop: unknown field")
    assert "did you mean 'loop'" in line


def test_broker_that_is_not_there_stops_nothing_and_its_records_are_kept(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    path = write_config(tmp_path, {"field": {"type": "world", "duration_s": 1}})
    sink = f"  - {{type: kafka, bootstrap: '{address}', connect_timeout_s: 1}}\n"
    path.write_text(path.read_text() + sink)
    path.write_text(f"{path.read_text()}state: {{folder: {tmp_path / 'state'}}}\n")
    done = call("run", path)
    assert done.exit_code == 0
    assert f"sink 'kafka://{address}'" in done.stderr
    assert f"records are kept in {tmp_path / 'state'}" in done.stdout.replace("\n", "")
    assert list((tmp_path / "state/log/alerts").iterdir())


@pytest.fixture
def weights():
    return load_file(ROOT / "models/sam3/nano/model.safetensors")


def run_with(weights, folder):
    path = folder / "model.safetensors"
    save_file(weights, path)
    (folder / "tokenizer.json").write_bytes((ROOT / "models/sam3/nano/tokenizer.json").read_bytes())
    done = call("run", "--source", "x.mp4", "--concept", "deer", "--checkpoint", path)
    *_, line = done.stderr.splitlines()
    assert done.exit_code == 2
    assert str(path) in line
    return line


def test_checkpoint_without_a_key_names_it(tmp_path, weights):
    gone = max(weights)
    del weights[gone]
    assert f"1 missing: {gone}" in run_with(weights, tmp_path)


def test_checkpoint_with_a_misshapen_key_names_both_shapes(tmp_path, weights):
    name = next(name for name, value in sorted(weights.items()) if value.ndim == 2)
    shape = tuple(weights[name].shape)
    weights[name] = weights[name].T.contiguous()[:-1]
    bad = tuple(weights[name].shape)
    assert f"{name} is {bad}, expected {shape}" in run_with(weights, tmp_path)
