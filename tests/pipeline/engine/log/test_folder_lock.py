"""One process to a folder, whatever its lock file says."""

import pytest

from pipeline.engine.log.folder_lock import FolderLock
from pipeline.errors import StateError


def test_folder_whose_owner_left_no_number_is_in_use_all_the_same(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / "lock").write_bytes(b"\x00\xff")
    with pytest.raises(StateError, match="in use by another process"):
        FolderLock(tmp_path)
    lock.close()
