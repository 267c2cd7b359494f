"""A file is there whole or not at all."""

import json
from pathlib import Path

import pytest

from connectors.errors import NotWritableError
from connectors.files.writing import write_json, write_whole


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    for content in ([1, 2], {"a": None}):
        write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_former_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"before")
    write = Path.write_bytes

    def half(self, data):
        write(self, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(NotWritableError, match=r"file': No space left"):
        write_whole(path, b"afterwards")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(NotWritableError, match="taken"):
        write_whole(tmp_path / "taken" / "file", b"")
