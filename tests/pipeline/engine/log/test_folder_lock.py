"""One process to a folder, whatever its lock file says."""

import os

import pytest

from pipeline.engine.log.folder_lock import FolderLock, make_folder, unusable
from pipeline.errors import StateError


def test_folder_whose_owner_left_no_number_is_in_use_all_the_same(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / "lock").write_bytes(b"\x00\xff")
    with pytest.raises(StateError, match="in use by another process"):
        FolderLock(tmp_path)
    lock.close()


def test_a_lock_file_names_its_process_alone(tmp_path):
    (tmp_path / "lock").write_text("9" * 30)
    lock = FolderLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(StateError, match=f"in use by process {os.getpid()} "):
        FolderLock(tmp_path)
    lock.close()
    FolderLock(tmp_path).close()


def test_a_folder_is_made_with_those_above_it(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left"), "cannot be used: No space left"),
        (OSError("odd"), "used: odd"),
    ],
)
def test_an_unusable_folder_says_why(error, reason, tmp_path):
    assert reason in str(unusable(tmp_path, error))
