"""One owner per path, whatever name it goes by and however its owner ended."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.errors import NotWritableError
from connectors.files.ownership import Ownership

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from connectors.files.ownership import Ownership

kept = Ownership.take(Path(sys.argv[1]) / ".lock", owned=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def take(folder):
    return Ownership.take(folder / ".lock", owned=folder)


def test_a_second_owner_is_refused_by_the_name_of_the_first_and_links_do_not_help(tmp_path):
    folder, link = tmp_path / "out", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    first = take(folder)
    with pytest.raises(NotWritableError, match=rf"link.*there: process {os.getpid()} on"):
        take(link)
    first.release()
    assert list(folder.iterdir()) == []
    take(link).release()


def test_a_killed_owner_owns_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as holder:
        holder.stdout.readline()
        with pytest.raises(NotWritableError, match=f"process {holder.pid} on"):
            take(tmp_path)
        holder.kill()
        holder.wait()
        take(tmp_path).release()


def test_who_waits_on_a_removed_file_takes_the_one_that_is_there(tmp_path, monkeypatch):
    flock = fcntl.flock
    removed = []

    def remove_first(descriptor, mode):
        if not removed:
            removed.append(descriptor)
            (tmp_path / ".lock").unlink()
        flock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    own = take(tmp_path)
    with pytest.raises(NotWritableError, match="another sink"):
        take(tmp_path)
    own.release()


def test_who_lost_its_file_leaves_that_of_the_next_owner_alone(tmp_path):
    first = take(tmp_path)
    first.path.unlink()
    second = take(tmp_path)
    first.release()
    with pytest.raises(NotWritableError, match="another sink"):
        take(tmp_path)
    second.release()


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    take(tmp_path).release()
    assert "cannot be locked" in caplog.text


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(NotWritableError, match=r"\.lock: Is a directory"):
        take(tmp_path)
