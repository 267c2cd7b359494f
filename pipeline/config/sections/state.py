"""The section ``state``."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field, ValidationInfo, field_validator

from connectors.config import GivenPath, why_no_folder
from connectors.kafka.config import StateTopicConfig
from pipeline.fields import StrictModel, looks_at_files


class StateConfig(StrictModel):
    """What outlives a run."""

    folder: GivenPath | None = None
    """Where it is kept; one process at a time. None: ``$XDG_STATE_HOME/maskstream/<deployment>``,
    with ``~/.local/state`` where that is not set."""
    topic: StateTopicConfig | None = None
    """Compacted topic in which the state of streams from Kafka is kept in place of the folder, so
    that a stream whose partition goes to another worker goes on there. Log and cursors stay in the
    folder."""
    resume: bool = True
    """Whether cameras and streams from Kafka go on after a restart with the tracks and events that
    they had; files begin anew."""
    snapshot_every_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """How often a stream's state is written. What came later is told by the event log, or read
    again from Kafka."""

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
