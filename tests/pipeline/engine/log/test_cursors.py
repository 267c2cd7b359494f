"""Files of cursors that are damaged are told of in words, and taken as if they were not there."""

import json

import pytest

from pipeline.engine.log.cursors import CursorFolder
from pipeline.engine.log.kinds import Kind


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\x00", "is damaged (no JSON)"),
        ("[]", "is damaged (no cursor)"),
        ('{"confirmed": {}}', "is damaged (no cursor)"),
        ('{"confirmed": {"alerts": 9}, "crc32": 1}', "is damaged (its checksum is wrong)"),
        (None, "cannot be read (Is a directory)"),
    ],
)
def test_cursor_that_is_damaged_is_told_of_in_words(tmp_path, caplog, text, told):
    path = tmp_path / "kafka.json"
    path.write_text(text) if text else path.mkdir()
    assert CursorFolder(tmp_path, ["kafka"]).confirmed("kafka") is None
    assert f"{path} {told}: taken as if it were not there" in caplog.text


def test_order_of_the_numbers_in_a_file_is_nothing_to_its_checksum(tmp_path):
    confirmed = {kind: number for number, kind in enumerate(Kind, 7)}
    CursorFolder(tmp_path, ["kafka"]).save("kafka", confirmed)
    path = tmp_path / "kafka.json"
    content = json.loads(path.read_text())
    content["confirmed"] = dict(reversed(content["confirmed"].items()))
    path.write_text(json.dumps(content))
    assert CursorFolder(tmp_path, ["kafka"]).confirmed("kafka") == confirmed
