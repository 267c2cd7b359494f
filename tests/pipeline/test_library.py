"""The public face in Python: few names, nothing heavy until needed, examples that run."""

import doctest
import subprocess
import sys
import threading

import numpy as np
import pytest

import pipeline
from connectors.pictures.stills import write_picture
from connectors.world.config import WorldSourceConfig
from connectors.world.still import StillConfig, render_still
from pipeline.errors import ConfigError, RecordError, RunError
from pipeline.records.schema import EventRecord

CONFIG = """\
streams:
  - id: meadow
    source: {type: world, seed: 3, width: 96, height: 96, fps: 5, duration_s: 0.6}
    concepts: [deer]
sinks: [{type: jsonl, folder: demo-out}]
"""
BUS = StillConfig(
    concepts=("bus",), max_objects=1, empty_probability=0, night_probability=0, prop_probability=0
)


@pytest.fixture(scope="module")
def pixels():
    return render_still(np.random.default_rng(0), size=168, config=BUS).pixels


@pytest.fixture
def folder(tmp_path, monkeypatch, pixels):
    """A folder in which the examples find what they name."""
    (tmp_path / "configs" / "pipelines").mkdir(parents=True)
    (tmp_path / "configs" / "pipelines" / "demo.yaml").write_text(CONFIG)
    write_picture(tmp_path / "photos" / "bus.png", pixels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example_of(name):
    return doctest.DocTestParser().get_examples(getattr(pipeline, name).__doc__)


def test_the_public_names_are_sorted_and_all_there():
    functions = {name for name, value in vars(pipeline).items() if callable(value)}
    assert pipeline.__all__ == sorted(functions - {"import_module"})


@pytest.mark.parametrize("first", ["pipeline", "pipeline.events.zones", "pipeline.cli.segment"])
def test_names_are_functions_whatever_was_imported_before(first):
    code = f"import {first}\nfrom pipeline import *\nprint(segment.__module__, events.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pipeline.library pipeline.library"


def test_importing_loads_nothing_heavy():
    heavy = {"torch", "numpy", "pydantic", "av", "cv2", "kafka", "yaml"}
    code = f"import sys; from pipeline import *; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_examples_run(folder, capsys):
    names = {name: getattr(pipeline, name) for name in pipeline.__all__}
    order = ["run", *(name for name in pipeline.__all__ if name != "run")]
    for name in order:
        examples = example_of(name)
        assert 1 <= len(examples) <= 3
        for example in examples:
            exec(compile(example.source, name, "single"), names)  # noqa: S102 - our own docstring
    shown = capsys.readouterr().out
    assert "['meadow']" in shown
    assert "['meadow/0/0', 'meadow/0/1', 'meadow/0/2']" in shown
    assert "bus" not in shown or "photos" in shown


def test_pictures_are_answered_with_masks_as_arrays(folder, pixels):
    [of_file] = pipeline.segment("photos", "bus")
    [of_array] = pipeline.segment(pixels, ["bus"])
    [one], [other] = of_file.objects, of_array.objects
    assert (of_file.path.name, of_array.path) == ("bus.png", None)
    assert np.array_equal(one.mask, other.mask)
    assert (one.mask.shape, one.mask.dtype, one.concept) == ((168, 168), np.bool_, "bus")
    x, y, width, height = one.bbox
    assert one.mask[y : y + height, x : x + width].sum() == one.mask.sum() == one.area > 0


def test_a_picture_that_cannot_be_read_has_an_error_and_the_others_go_on(folder, pixels):
    (folder / "photos" / "a.png").write_bytes(b"")
    bad, good, missing = [
        *pipeline.segment(["photos", pixels[..., 0]], "bus"),
    ]
    assert "a.png" in bad.error
    assert good.error is None
    assert "accepted: RGB of shape (H, W, 3), uint8" in missing.error


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "nothing is asked"),
        ({"concepts": "deer", "everything": True}, "cannot be answered at once"),
        ({"concepts": "deer", "model": "yolo"}, "unknown model"),
        ({"concepts": "deer", "model": "sam1-b"}, "knows no concepts"),
    ],
)
def test_what_cannot_be_asked_is_refused(pixels, asked, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.segment(pixels, **asked)


def test_a_run_gives_a_summary_and_its_records_can_be_read(folder):
    config = pipeline.load_config("configs/pipelines/demo.yaml")
    assert pipeline.run(config).num_processed == 3
    assert [record.frame_seq for record in pipeline.read_records("demo-out/masklets.jsonl")] == [
        0, 1, 2
    ]  # fmt: skip


# A cow stands in it, which the shipped model finds.
WORLD = WorldSourceConfig(seed=2, width=168, height=168, fps=5, duration_s=1.0, max_objects=3)


def test_tracks_come_frame_by_frame_with_masks():
    results = list(pipeline.track(WORLD, ["cow"]))
    frames = [result for result in results if result.frame is not None]
    assert [result.stamp.frame_seq for result in frames] == [0, 1, 2, 3, 4]
    seen = [one for result in frames for one in result.tracks if one.mask is not None]
    assert seen
    assert {one.mask.full().shape for one in seen} == {(168, 168)}
    assert [change.reason for change in results[-1].changes] == ["stream_ended"]


def threads():
    """All threads but those that models share for good."""
    return {one for one in threading.enumerate() if not one.name.startswith("maskstream-model")}


def test_leaving_the_loop_stops_everything():
    before = threads()
    results = pipeline.track(WORLD.model_copy(update={"duration_s": 600.0}), "deer")
    assert next(results).stamp.frame_seq == 0
    results.close()
    assert threads() == before


def test_events_are_those_of_the_rules():
    rules = ["appear", {"type": "appear", "name": "at once", "accepts": "tentative"}]
    found = list(pipeline.events(WORLD, ["cow"], rules))
    assert {type(event) for event in found} == {EventRecord}
    assert "at once" in {event.rule for event in found} <= {"appear", "at once"}
    assert all(event.end_time for event in found if event.phase == "end")


def test_a_source_without_a_frame_is_an_error_at_the_end(tmp_path):
    results = pipeline.track(tmp_path / "none.mp4", "deer")
    with pytest.raises(RunError, match=r"none\.mp4"):
        next(results)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": "gopher://x", "concepts": "deer"}, "source: unknown source"),
        ({"source": WORLD, "concepts": []}, "concepts"),
        ({"source": WORLD, "concepts": "deer", "rules": ["fly"]}, "rules"),
        ({"source": WORLD, "concepts": "deer", "model": "sam1-b"}, "knows no concepts"),
        ({"source": WORLD, "concepts": "deer", "checkpoint": "none.pt"}, "nothing is there"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_the_first_frame(given, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.events(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rules": [3]}, r"rules\[0\]: .*accepted: a list; each the type of a rule"),
        ({"rules": 3}, "rules: bad value 3"),
        ({"zones": [[(0, 0), (1, 0), (1, 1)]]}, "zones: .*accepted: a mapping of names"),
        ({"zones": {"left": 3}}, "zones: "),
        ({"source": None}, "source: bad value None .*accepted: rtsp"),
        ({"source": 3}, "source: bad value 3 "),
        ({"source": b"/x.mp4"}, "source: bad value b'/x.mp4'"),
        ({"source": "/x\0y.mp4"}, "source: bad value '/x.x00y.mp4'"),
        ({"source": "rtsp://ann:secret@cam\0/1"}, "source: (?!.*secret)"),
        ({"concepts": None}, "concepts: bad value None .*accepted: a noun phrase"),
        ({"concepts": 3}, "concepts: bad value 3 "),
        ({"concepts": ["deer", 3]}, r"concepts\[1\]: "),
        ({"checkpoint": 3}, "checkpoint: .*accepted: a path"),
        ({"options": 3}, "options: .*dictionary"),
        ({"options": []}, "options: .*dictionary"),
        ({"max_fps": "x"}, "max_fps: .*number"),
        ({"device": 3}, "device: .*string"),
        ({"model": None}, "name: .*string"),
    ],
)
def test_wrong_arguments_of_events_are_named(given, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.events(**{"source": WORLD, "concepts": "deer", **given})


@pytest.mark.parametrize(
    ("source", "concepts", "told"),
    [(None, "deer", "source: "), (b"/x.mp4", "deer", "source: "), (WORLD, None, "concepts: ")],
)
def test_wrong_arguments_of_track_are_named(source, concepts, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.track(source, concepts)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"points": [(1,)]}, r"points\[0\]: .*accepted: a list of \(x, y\)"),
        ({"points": [(1, 2), (1, 2, True, 4)]}, r"points\[1\]: "),
        ({"points": 3}, "points: bad value 3"),
        ({"boxes": [(1, 2, 3)]}, r"boxes\[0\]: .*accepted: a list of \(x, y, width, height\)"),
        ({"boxes": [(1, 2, -3, 4)]}, r"boxes\[0\]: .*above 0"),
        ({"boxes": [(1, 2, float("nan"), 4)]}, r"boxes\[0\]: "),
        ({"exemplars": ["abcd"]}, r"exemplars\[0\]: "),
        ({"exemplars": (1, 2, 3, 4)}, r"exemplars\[0\]: "),
        ({"counterexamples": ["1234"]}, r"counterexamples\[0\]: "),
        ({"concepts": 3}, "concepts: "),
        ({"concepts": " "}, r"concepts\[0\]: "),
        ({"mask": 3}, "mask: .*accepted: a path"),
        ({"checkpoint": 3}, "checkpoint: .*accepted: a path"),
        ({"everything": 3}, "everything: .*accepted: True or False"),
        ({"min_score": "x"}, "min_score: .*accepted: a number from 0 to 1"),
        ({"min_score": 7}, "min_score: bad value 7"),
        ({"pictures": None}, "pictures: .*accepted: a file"),
        ({"pictures": [None]}, r"pictures\[0\]: "),
        ({"pictures": b"abc"}, "pictures: bad value b'abc'"),
        ({"pictures": "a\0.png"}, r"pictures\[0\]: "),
        ({"model": 3}, "name: .*string"),
        ({"device": 3}, "device: .*string"),
    ],
)
def test_wrong_arguments_of_segment_are_named(pixels, given, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.segment(**{"pictures": pixels, "concepts": "deer", **given})


def test_an_empty_array_has_an_error_and_arrays_do_as_boxes_and_points(pixels):
    [empty] = pipeline.segment(pixels[:0, :0], "bus")
    assert "accepted: RGB" in empty.error
    [one] = pipeline.segment(pixels, exemplars=np.array([[40, 40, 60, 60]], np.float32))
    [other] = pipeline.segment(pixels, points=np.array([[40, 40]]), min_score=np.float32(0.5))
    assert one.error is other.error is None


@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        (pipeline.run, {"streams": []}, "config: .*accepted: a configuration"),
        (pipeline.run, None, "config: bad value None"),
        (pipeline.load_config, None, "path: .*accepted: a path"),
        (pipeline.load_config, "a\0b.yaml", "path: "),
    ],
)
def test_what_is_no_configuration_is_refused(function, given, told):
    with pytest.raises(ConfigError, match=told):
        function(given)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([1], "line:1: bad value 1 "),
        (["", b"\xff"], "line:2: is not UTF-8"),
        (None, "source: bad value None .*accepted: a .jsonl file"),
        ({}, "source: bad value {}"),
        ("a\0b", "source: "),
    ],
)
def test_what_holds_no_records_is_refused(source, told):
    with pytest.raises(RecordError, match=told):
        list(pipeline.read_records(source))


def test_a_binary_file_holds_no_records(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\n\xff\xd8\x00\n")
    with pytest.raises(RecordError, match=r"clip\.mp4:2: is not UTF-8"):
        list(pipeline.read_records(tmp_path / "clip.mp4"))


@pytest.mark.parametrize("function", ["track", "events"])
def test_a_program_may_end_in_the_midst_of_a_source(function):
    code = (
        f"from pipeline import {function} as follow\n"
        "found = follow('world://demo', ['cow', 'deer', 'person', 'car'], max_fps=2)\n"
        "next(found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
