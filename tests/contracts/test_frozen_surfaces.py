"""What users build on. A change here is a change for them: update the file on purpose.

``python -m tests.contracts.write_surfaces`` writes the generated files anew.
"""

import re
import subprocess
import sys

import jsonschema
import pytest
import yaml

from pipeline.cli.demo import demo_config
from pipeline.cli.schema import all_schemas, schema_files
from pipeline.config.loading import load_config
from pipeline.observe.metrics import FrameCollector, Metrics
from tests.contracts.surfaces import CONFIGS, cli_options

ENVIRON = {"GATE_HOST": "gate", "YARD_HOST": "yard", "KAFKA_BOOTSTRAP": "localhost:9092"}
REFERENCE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
EXAMPLES = sorted((CONFIGS / "pipelines").glob("*.yaml"))

CLI = {
    "": ["--debug", "--version"],
    "run": ["--checkpoint", "--concept", "--device", "--json", "--max-fps", "--metrics-port",
            "--model", "--sink", "--source", "--stream-id", "--strict", "--zone", "config"],
    "demo": ["--checkpoint", "--device", "--json", "--out"],
    "check": ["--json", "config"],
    "schema": ["--out", "--register", "--topics-of", "name"],
    "segment": ["--box", "--checkpoint", "--concept", "--device", "--everything", "--exemplar",
                "--json", "--mask", "--min-score", "--model", "--out", "--point", "--strict",
                "images"],
    "train": ["--curves", "--device", "--json", "--out", "recipe"],
    "world": ["--duration", "--films", "--fps", "--height", "--json", "--max-objects", "--night",
              "--out", "--phrases", "--seed", "--split", "--style", "--video", "--width"],
    "eval images": ["--annotations", "--checkpoint", "--data", "--device", "--gallery", "--json",
                    "--model", "--on-bad", "--root", "--samples", "--save-predictions",
                    "--save-results", "--seed", "--size", "--world"],
    "eval video": ["--annotations", "--checkpoint", "--data", "--device", "--duration", "--fps",
                   "--json", "--model", "--on-bad", "--phrases-at-once", "--root", "--samples",
                   "--save-predictions", "--save-results", "--seed", "--size", "--split",
                   "--world"],
    "eval files": ["--gt", "--json", "--on-bad", "--pred", "--save-results"],
    "eval study": ["--checkpoint", "--device", "--json", "--model", "--out", "--samples", "--seeds",
                   "--world", "names"],
    "models list": ["--json"],
    "models convert": ["--dtype", "--json", "--layout", "source", "target"],
    "models export": ["--checkpoint", "--json", "--part", "model", "target"],
    "models inspect": ["--checkpoint", "--json", "model"],
    "models pull": ["--json", "--out", "--revision", "model"],
}  # fmt: skip

METRICS = {
    "maskstream_batch_frames": ("histogram", ()),
    "maskstream_build_info": ("gauge", ("version",)),
    "maskstream_capture_to_result_seconds": ("histogram", ("stream",)),
    "maskstream_clock_reanchors": ("counter", ("stream",)),
    "maskstream_events": ("counter", ("stream", "rule", "phase")),
    "maskstream_frames_dropped": ("counter", ("stream", "cause")),
    "maskstream_frames_gated": ("counter", ("stream",)),
    "maskstream_frames_processed": ("counter", ("stream",)),
    "maskstream_frames_received": ("counter", ("stream",)),
    "maskstream_frames_waiting": ("gauge", ("stream",)),
    "maskstream_model_errors": ("counter", ("stream",)),
    "maskstream_model_resets": ("counter", ("stream",)),
    "maskstream_rule_errors": ("counter", ("stream", "rule")),
    "maskstream_session_errors": ("counter", ("stream",)),
    "maskstream_snapshots": ("counter", ("stream",)),
    "maskstream_snapshot_errors": ("counter", ("stream",)),
    "maskstream_reconnects": ("counter", ("stream",)),
    "maskstream_log_corrupt": ("counter", ("kind",)),
    "maskstream_records_delivered": ("counter", ("sink", "topic")),
    "maskstream_records_refused": ("counter", ("sink",)),
    "maskstream_shed": ("counter", ("sink", "kind")),
    "maskstream_sink_errors": ("counter", ("sink",)),
    "maskstream_sink_oldest_record_seconds": ("gauge", ("sink",)),
    "maskstream_sink_state": ("gauge", ("sink", "state")),
    "maskstream_sink_waiting": ("gauge", ("sink",)),
    "maskstream_stage_seconds": ("histogram", ("stage",)),
    "maskstream_stream_state": ("gauge", ("stream", "state")),
    "maskstream_track_changes": ("counter", ("stream", "kind")),
    "maskstream_tracks": ("gauge", ("stream", "state")),
}


def test_commands_and_options_are_these():
    assert cli_options() == CLI


def test_metric_names_and_labels_are_these():
    made = [value for value in vars(Metrics(tuple)).values() if hasattr(value, "_labelnames")]
    found = {metric._name: (metric._type, metric._labelnames) for metric in made}
    for family in FrameCollector(tuple).describe():
        found[family.name] = (family.type, family._labelnames)
    found["maskstream_build_info"] = ("gauge", ("version",))
    assert found == METRICS


@pytest.mark.parametrize("name", schema_files())
def test_schema_files_are_what_the_models_say(name):
    place, text = schema_files()[name]
    assert (CONFIGS / place).read_text() == text


@pytest.mark.parametrize("name", all_schemas())
def test_schemas_are_valid_2020_12(name):
    jsonschema.Draft202012Validator.check_schema(all_schemas()[name])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_accepted_by_the_program_and_its_schema(path):
    config = load_config(path, environ=ENVIRON)
    assert config.streams
    text = REFERENCE.sub(lambda found: ENVIRON.get(found[1]) or found[2] or "", path.read_text())
    jsonschema.validate(yaml.safe_load(text), all_schemas()["config"])


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {
        "demo", "rtsp-to-kafka", "clips", "kafka-to-kafka"
    }  # fmt: skip


def test_the_demo_file_is_what_the_demo_command_runs(tmp_path):
    text = (CONFIGS / "pipelines" / "demo.yaml").read_text().replace("demo-out", str(tmp_path))
    (tmp_path / "demo.yaml").write_text(text)
    assert load_config(tmp_path / "demo.yaml") == demo_config(tmp_path)


def test_help_and_check_load_no_model_and_no_connector(tmp_path):
    heavy = ["torch", "av", "kafka", "cv2", "models.build", "connectors.world.scene"]
    code = (
        "import sys, runpy; sys.argv = ['maskstream', *sys.argv[1:]]\n"
        "try: runpy.run_module('pipeline', run_name='__main__')\n"
        f"except SystemExit as end: print([m for m in {heavy} if m in sys.modules], end.code)"
    )
    for words in (["--help"], ["check", str(CONFIGS / "pipelines" / "demo.yaml")]):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[] 0"
