"""A folder of pictures, one of them cut off, becomes records in files."""

import json

from connectors.pictures.stills import write_picture
from pipeline.app import build_app
from pipeline.cli.flags import OneCamera, Overrides, config_from_flags
from tests.pipeline.fakes import BlobTracker, make_frame

NUM_PICTURES = 6


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_cut_picture_costs_its_own_result_and_nothing_else(tmp_path):
    for number in range(NUM_PICTURES):
        frame = make_frame(number, blobs={"red": (2 * number, 8)})
        write_picture(tmp_path / "in" / f"{number}.png", frame.pixels)
    cut = tmp_path / "in" / "3.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    sinks = (f"jsonl:{tmp_path / 'out'}",)
    camera = OneCamera(source=str(tmp_path / "in"), concepts=["red"], sinks=sinks)
    build_app(config_from_flags(camera, Overrides()), tracker=BlobTracker()).engine.run()
    assert len(lines(tmp_path / "out" / "masklets.jsonl")) == NUM_PICTURES - 1
    assert {body["kind"] for body in lines(tmp_path / "out" / "tracks.jsonl")} > {"confirmed"}
    [letter] = lines(tmp_path / "out" / "dlq.jsonl")
    reasons = {header["name"]: header["value"] for header in letter["headers"]}
    assert "3.png" in reasons["maskstream_position"]
