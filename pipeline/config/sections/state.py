"""The section ``state``."""

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationInfo, field_validator

from connectors.config import GivenPath, why_no_folder
from pipeline.fields import StrictModel, looks_at_files


class StateConfig(StrictModel):
    """What outlives a run."""

    folder: GivenPath | None = None
    """Where it is kept; one process at a time. None: ``$XDG_STATE_HOME/maskstream/<deployment>``,
    with ``~/.local/state`` where that is not set."""

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        reason = why_no_folder(folder) if folder is not None and looks_at_files(info) else None
        if reason is not None:
            raise ValueError(reason)
        return folder

    def folder_of(self, deployment: str) -> Path:
        """Return the folder of an installation."""
        if self.folder is not None:
            return self.folder
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(home).expanduser() / "maskstream" / quote(deployment, safe=" @*+")
