"""A file of lines: rotated, followed, and never torn."""

import errno
import os
import time

import pytest

from connectors.files import line_file
from connectors.files.line_file import LineFile
from connectors.files.rotation import Rotation

NEVER = Rotation(num_bytes=None, period_s=None)


class Clock:
    def __init__(self):
        self.now_s = time.time()

    def __call__(self):
        return self.now_s


def lines_of(path):
    return path.read_text().split()


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ('{"a":1}\n{"a', ['{"a":1}']),
        ('{"a":1}\n{"a":2}', ['{"a":1}', '{"a":2}']),
        ("12", []),
        ('{"a":"' + "x" * 200_000, []),
        ("", []),
    ],
)
def test_a_torn_line_is_removed_and_one_without_its_end_is_kept(tmp_path, left, kept):
    path = tmp_path / "a.jsonl"
    path.write_text(left)
    file = LineFile(path, rotation=NEVER)
    file.append(b"new\n")
    file.close()
    assert lines_of(path) == [*kept, "new"]


def test_a_full_file_gives_way_to_a_new_one_and_no_line_is_lost(tmp_path):
    clock = Clock()
    file = LineFile(tmp_path / "a.jsonl", rotation=Rotation(num_bytes=8, period_s=None), now=clock)
    for number in range(5):
        file.append(b"%03d\n" % number)
    file.close()
    paths = sorted(tmp_path.iterdir(), key=lambda path: lines_of(path)[0])
    assert [lines_of(path) for path in paths] == [["000", "001"], ["002", "003"], ["004"]]
    assert paths[2].name == "a.jsonl"
    assert paths[1].name == f"{paths[0].stem}_002.jsonl"


def test_a_file_keeps_its_day_over_a_restart(tmp_path):
    clock = Clock()
    rotation = Rotation(num_bytes=None, period_s=86_400)
    for line in (b"today\n", b"today\n", b"tomorrow\n"):
        if line == b"tomorrow\n":
            clock.now_s += 86_400
        file = LineFile(tmp_path / "a.jsonl", rotation=rotation, now=clock)
        file.append(line)
        file.close()
    [before] = tmp_path.glob("a-*")
    assert lines_of(before) == ["today", "today"]
    assert lines_of(tmp_path / "a.jsonl") == ["tomorrow"]


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_file_that_was_moved_away_is_begun_anew(tmp_path, monkeypatch, is_removed):
    monkeypatch.setattr(line_file, "_LOOK_S", 0.0)
    path, moved = tmp_path / "new" / "er" / "a.jsonl", tmp_path / "moved.jsonl"
    file = LineFile(path, rotation=NEVER)
    file.append(b"1\n")
    path.rename(moved)
    if is_removed:
        path.parent.rmdir()
    else:
        path.write_text("of somebody else\n")
    file.append(b"2\n")
    file.close()
    assert lines_of(moved) == ["1"]
    assert lines_of(path)[-1] == "2"


def test_a_file_is_looked_for_once_a_second_only(tmp_path):
    path = tmp_path / "a.jsonl"
    file = LineFile(path, rotation=NEVER)
    file.append(b"1\n")
    path.unlink()
    file.append(b"2\n")
    assert not path.exists()
    file.close()


def test_what_is_taken_back_is_gone_and_a_cut_file_is_not_made_longer(tmp_path):
    path = tmp_path / "a.jsonl"
    file = LineFile(path, rotation=NEVER)
    file.append(b"1\n")
    file.take_back(file.append(b"2\n"))
    assert lines_of(path) == ["1"]
    end = file.append(b"3\n")
    path.write_bytes(b"")
    file.take_back(end)
    assert path.read_bytes() == b""


def test_nothing_is_cut_when_a_rotation_fails(tmp_path):
    file = LineFile(tmp_path / "a.jsonl", rotation=Rotation(num_bytes=2, period_s=None))
    file.append(b"1\n")
    (tmp_path / "a.jsonl").unlink()  # so that it cannot be renamed
    with pytest.raises(FileNotFoundError):
        file.append(b"2\n")
    file.append(b"3\n")
    file.close()
    assert lines_of(tmp_path / "a.jsonl") == ["3"]


def fail_to_sync(monkeypatch, *, times):
    """Let the disk refuse lines that the system has taken, so that it throws them away."""
    sync, failed = os.fsync, []

    def fail(descriptor):
        if len(failed) < times:
            failed.append(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


def file_with_a_line_on_the_disk(tmp_path):
    path = tmp_path / "a.jsonl"
    file = LineFile(path, rotation=NEVER)
    file.append(b"1\n")
    file.sync()
    return path, file


def test_lines_that_the_disk_refused_are_written_again(tmp_path, monkeypatch):
    path, file = file_with_a_line_on_the_disk(tmp_path)
    file.append(b"2\n")
    file.append(b"3\n")
    fail_to_sync(monkeypatch, times=2)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.sync()
        assert lines_of(path) == ["1"]
    file.sync()
    assert lines_of(path) == ["1", "2", "3"]
    file.append(b"4\n")
    file.close()
    assert lines_of(path) == ["1", "2", "3", "4"]


def test_lines_that_the_disk_refused_come_before_later_ones_but_those_taken_back(
    tmp_path, monkeypatch
):
    path, file = file_with_a_line_on_the_disk(tmp_path)
    file.append(b"2\n")
    end = file.append(b"3\n")
    fail_to_sync(monkeypatch, times=1)
    with pytest.raises(OSError, match="No space"):
        file.sync()
    file.take_back(end)
    file.append(b"4\n")
    file.close()
    assert lines_of(path) == ["1", "2", "4"]


def test_lines_that_find_no_room_again_are_kept_until_they_do(tmp_path, monkeypatch):
    path, file = file_with_a_line_on_the_disk(tmp_path)
    file.append(b"2\n")
    fail_to_sync(monkeypatch, times=1)
    with pytest.raises(OSError, match="No space"):
        file.sync()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: 0)
        for call in (file.sync, lambda: file.append(b"3\n")):
            with pytest.raises(OSError, match="disk is full"):
                call()
    file.append(b"3\n")
    file.close()
    assert lines_of(path) == ["1", "2", "3"]


def test_a_file_that_is_closed_gets_what_the_disk_refused_once(tmp_path, monkeypatch):
    path, file = file_with_a_line_on_the_disk(tmp_path)
    file.append(b"2\n")
    fail_to_sync(monkeypatch, times=1)
    file.close()
    assert lines_of(path) == ["1", "2"]
