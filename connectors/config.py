"""Bases of every connector's configuration. The tables that list them are in the registry.

Each connector declares its own configuration beside itself, in a module that loads no library
of the connector: listing and checking configurations must cost nothing.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import override

from connectors.errors import Position, redact_url

# Quotes nothing: what seems to be the host or the port may be half a password.
_STRAY_AT = (
    "bad URL, with an @ behind its first /, ? or #; "
    "accepted: percent-encode the password, or give user and password as fields"
)


# Of a camera, between two snapshots: 2 s apart, they may have 200 frames between them, and each
# discontinuity begins one.
_LEASED_EPOCHS = 1000

# A {word} in a path that nobody fills in would be part of a name.
_PLACEHOLDER = re.compile(r"\{\w*\}")


def _refuse_empty(path: object) -> object:
    if path == "":
        raise ValueError("is empty; accepted: a path, the present folder is .")
    return path


GivenPath = Annotated[Path, BeforeValidator(_refuse_empty)]


class ConnectorConfig(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Frozen; misspelt keys are errors; errors do not repeat the input, it may hold secrets."""

    def find_faults(self) -> Mapping[str, str]:
        """Return by field why the connector cannot work on this machine; opens nothing.

        Whatever a connector would refuse when it is opened, as far as that can be seen from here.
        """
        return {}


class BaseSourceConfig(ConnectorConfig, frozen=True):
    """What the pipeline asks of any source's configuration."""

    type: str

    @property
    def is_live(self) -> bool:
        """Whether frames come as they happen, so that arrival says something about their time."""
        return False

    @property
    def may_wait(self) -> bool:
        """Whether frames not read now can be read later, so that a slow reader loses none."""
        return not self.is_live

    @property
    def keeps_position(self) -> bool:
        """Whether frames can be read again from a position that is committed elsewhere: Kafka."""
        return False

    @property
    def names_streams(self) -> bool:
        """Whether the source names its streams by itself, several of them perhaps."""
        return False

    @property
    def topics_read(self) -> frozenset[str]:
        """Kafka topics that it reads, as ``host:port/topic``, at every address it is given."""
        return frozenset()

    @property
    def shared_reads(self) -> frozenset[str]:
        """What it shares with others: of two readers of one, neither gets what the other does."""
        return frozenset()

    def resume(self, position: Position, *, now_s: int) -> Position:
        """Return where another process goes on that does not know what was read behind a position.

        Args:
            position: Of a source of this configuration.
            now_s: Unix time.
        """
        del now_s
        return position

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the configuration that a short form stands for. Raises ``ValueError``."""
        raise ValueError(f"{redact_url(url)!r} is no short form of a source")


class LiveSourceConfig(BaseSourceConfig, frozen=True):
    """A camera: its frames come as they happen, and those that are missed are gone."""

    @property
    @override
    def is_live(self) -> bool:
        return True

    @override
    def resume(self, position: Position, *, now_s: int) -> Position:
        """Return a position in no epoch that was begun behind it.

        Epochs begin with the Unix time. Where that is no later than the last one known, the clock
        was set back, or more than one began each second: others may have begun since.
        """
        epoch = int(position.get("epoch", -1))
        return position if now_s > epoch else {**position, "epoch": epoch + _LEASED_EPOCHS}


class RecordedSourceConfig(BaseSourceConfig, frozen=True):
    """A source that holds its frames until they are read, or plays them at their own speed."""

    realtime: bool = Field(default=False, description="Deliver at the speed of the recording.")

    @property
    @override
    def may_wait(self) -> bool:
        return not self.realtime


class BaseSinkConfig(ConnectorConfig, frozen=True):
    """What the pipeline asks of any sink's configuration."""

    type: str
    name: str = Field(
        default_factory=lambda known: known["type"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$",
        description="1 to 60 letters, digits, _ . or -; metrics, logs and positions go by it. By "
        "default the type; needed from the second sink of a type on.",
    )

    @property
    def needs_model(self) -> bool:
        """Whether the sink takes what a model found, rather than frames as they come."""
        return True

    @property
    def owned_path(self) -> Path | None:
        """The file or folder that only this sink may write to."""
        return None

    @property
    def topics_written(self) -> frozenset[str]:
        """Kafka topics that only this sink may write to, as ``host:port/topic``."""
        return frozenset()

    def list_files(self) -> list[Path]:
        """Return the files that the sink has left, by name."""
        return []

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the configuration that a short form stands for. Raises ``ValueError``."""
        raise ValueError(f"{redact_url(url)!r} is no short form of a sink")


def check_placeholders(path: Path, *, accepted: str | None = None) -> Path:
    """Return a path. Raises ``ValueError`` if it holds a placeholder but the accepted one."""
    for found in _PLACEHOLDER.findall(str(path)):
        if found != accepted:
            raise ValueError(
                f"placeholder {found} in {str(path)!r}; accepted: {accepted or 'no placeholder'}"
            )
    return path


def why_no_folder(folder: Path) -> str | None:
    """Return why nothing can be written in a folder, made if missing; ``None``: it can."""
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if there is not None and not there.is_dir():
        return f"{str(there)!r} is no folder; accepted: a folder, made if missing"
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        return f"no right to write in {str(there)!r}; accepted: a writable folder"
    return None


def refuse_stray_at(url: str) -> None:
    """Raise ``ValueError`` where an unencoded password may have been cut at a ``/ ? #``."""
    _, *behind = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)
    if behind and "@" in behind[0]:
        raise ValueError(_STRAY_AT)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises ``ValueError`` without showing secrets."""
    refuse_stray_at(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may quote half a password
        accepted = "scheme://host[:port]/path"
        raise ValueError(f"bad URL {redact_url(url)!r}; accepted: {accepted}") from None
    return parts
