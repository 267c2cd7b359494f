"""A worker as a process of its own, and what its port says."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.runs import ROOT
from tests.servers import free_port, wait_until_listening

STOP_S = 10.0
_PROGRAM = ("-m", "tests.e2e.cameras")
# Frames that a stop leaves to nobody, and those whose results are known.
_NO_LOSSES = ("stopped", "repeated")


class Worker:
    """One worker over several lives.

    Args:
        folder: For its configuration, its state and its errors.
        config: Of the run; port and state are added.
        program: Arguments of Python before the configuration's path.
        environ: Of the process.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        program: tuple[str, ...] = _PROGRAM,
        **environ: str,
    ) -> None:
        self._port = free_port()
        self._command = [sys.executable, *program, str(folder / "config.json")]
        self._environ = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
        self._process: subprocess.Popen | None = None
        self._errors = folder / "stderr"
        self.frames_lost: Counter[str] = Counter()
        state = {"folder": str(folder / "state"), **config.get("state", {})}
        fields = {**config, "observe": {"port": self._port}, "state": state}
        (folder / "config.json").write_text(json.dumps(fields))

    @property
    def log(self) -> str:
        """What it has written to its terminal, in all its lives."""
        return self._errors.read_text()

    def start(self) -> float:
        """Begin a life; returns when, by the monotonic clock, once its port is open."""
        began_s = time.monotonic()
        with self._errors.open("a") as errors:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=errors, stderr=errors, env=self._environ
            )
        wait_until_listening(self._process, self._port)
        return began_s

    def kill(self) -> None:
        """End it as the kernel does for want of memory."""
        self._note_losses()
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, *, has_bug: bool = False) -> list[str]:
        """End it in order; returns what was wrong with that.

        Args:
            has_bug: A traceback in its log is no fault.
        """
        self._note_losses()
        assert self._process is not None
        began_s = time.monotonic()
        self._process.terminate()
        try:
            code = self._process.wait(3 * STOP_S)
        except subprocess.TimeoutExpired:
            return [f"SIGTERM did not end it in {3 * STOP_S:g} s"]
        faults = [] if code == 0 else [f"exit code {code} after SIGTERM (accepted: 0)"]
        took_s = time.monotonic() - began_s
        if took_s > STOP_S + 1:  # the interpreter's own end
            faults.append(f"SIGTERM took {took_s:.1f} s (accepted: {STOP_S:g} s)")
        if not has_bug and "Traceback" in self.log:
            faults.append("a traceback in its log")
        return faults

    def wait(self, *, seconds: float) -> None:
        """Return once it has ended by itself."""
        assert self._process is not None
        self._process.wait(seconds)

    def end(self) -> None:
        """See to it that it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def values(self, name: str, label: str, **labels: str) -> Counter[str]:
        """Return a metric by one of its labels, added up over the others."""
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(self._get("/metrics")[1]):
            for sample in family.samples:
                is_asked = labels.items() <= sample.labels.items()
                if sample.name == f"maskstream_{name}" and is_asked:
                    found[sample.labels[label]] += round(sample.value)
        return found

    def unready(self) -> list[str]:
        """Return why ``/readyz`` says no; nothing: it says yes."""
        code, text = self._get("/readyz")
        reasons = json.loads(text)["reasons"]
        assert (code == 200) == (not reasons)
        return reasons

    def _note_losses(self) -> None:
        losses = self.values("frames_dropped_total", "cause")
        for cause in _NO_LOSSES:
            losses.pop(cause, None)
        losses["shed"] = self.values("shed_total", "kind")["masklets"]
        self.frames_lost += losses

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def worker(folder: Path, config: Mapping[str, Any], **options: Any) -> Iterator[Worker]:
    """A worker that is gone when the block is left; it has not been started."""
    found = Worker(folder, config, **options)
    try:
        yield found
    finally:
        found.end()
