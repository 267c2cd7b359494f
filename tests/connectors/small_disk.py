"""A file system that is soon full."""

import resource
import subprocess
from contextlib import contextmanager, suppress


@contextmanager
def small_disk(folder, *, num_kb):
    """Make a folder on a file system of its own, or, where none may be mounted, limit all files."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_kb}k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_kb * 768, hard))
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def fill(path):
    """Leave no room on a small disk."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
