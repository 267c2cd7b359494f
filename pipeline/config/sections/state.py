"""The section ``state``."""

import os
from pathlib import Path
from urllib.parse import quote

from pipeline.fields import StrictModel


class StateConfig(StrictModel):
    """What outlives a run."""

    folder: Path | None = None
    """Where it is kept; one process at a time. None: ``$XDG_STATE_HOME/maskstream/<deployment>``,
    with ``~/.local/state`` where that is not set."""

    def folder_of(self, deployment: str) -> Path:
        """Return the folder of an installation."""
        if self.folder is not None:
            return self.folder
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(home).expanduser() / "maskstream" / quote(deployment, safe=" @*+")
