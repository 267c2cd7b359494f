"""What can go wrong in a connector, as one tree.

::

    ConnectorError                 name, reason, position, accepted
    ├── SourceError                stream_id, recoverable, continues, resume_position
    │   ├── NotFoundError          the file, folder, device, camera path or topic is not there
    │   ├── UnsupportedMediaError  it is there, but it is no picture or video that can be decoded
    │   ├── CorruptMediaError      it began well and then broke off or turned to garbage
    │   ├── UnauthorizedError      user, password or access right refused    (recoverable)
    │   ├── UnreachableError       nobody answers at that address            (recoverable)
    │   ├── StreamEndedError       the peer hung up                          (recoverable)
    │   ├── StreamStalledError     the peer is there but silent              (recoverable)
    │   └── BadFrameError          one frame of a stream is unusable; carries the input for the
    │                              dead-letter topic              (recoverable, continues)
    ├── PictureError               a single picture is not there, or cannot be decoded
    ├── RegistryError              a schema registry cannot be reached, or does not take a schema
    └── SinkError                  sink, recoverable
        ├── SinkUnreachableError   nobody answers at that address            (recoverable)
        ├── SinkUnauthorizedError  user, password or access right refused    (recoverable)
        ├── TopicMissingError      the topic to write to is not there        (recoverable)
        ├── NotWritableError       the file or folder cannot be written
        ├── DeliveryFailedError    records were taken but could not be delivered
        └── FencedError            another worker writes in its place: it must write no more

Foreign errors (PyAV, kafka-python, OSError) are translated at one seam per library. Passwords are
removed from every text that goes into a message.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

_SPACE = re.compile(r"(\s+)")
_AMPERSAND = re.compile(r"([&;]+)")
_BETWEEN_PAIRS = re.compile(r"([&;,?#'\"()\[\]{}<>|]+)")
_CLOSING = "'\":,.;)]}>"
_PLAIN_VALUE = re.compile(r"[\w.-]{1,32}")
# Names of query parameters whose plain values are shown; others may be keys that cameras made up.
_HARMLESS = frozenset(
    [
        "acks",
        "channel",
        "client_id",
        "codec",
        "compression",
        "fps",
        "group_id",
        "height",
        "profile",
        "resolution",
        "sasl_mechanism",
        "security_protocol",
        "start",
        "stream",
        "subtype",
        "topic",
        "transport",
        "unicast",
        "until_end",
        "videocodec",
        "width",
    ]
)
# Outside of URLs "name=value" is mostly no secret; these parts of names say that it is one.
_SECRET_NAMES = ("pass", "pwd", "secret", "token", "key", "auth", "credential", "signature")
_SECRET_NAME_ENDS = ("pw", "sig")

Position = Mapping[str, int | float | str]


def redact_url(text: str) -> str:
    """Return ``text`` with users, passwords and query values of every URL in it hidden.

    Works on a bare URL as on a message of a library that quotes one, in one pass over it. Values
    of query parameters are hidden unless they are known to be harmless; elsewhere those of names
    that sound secret are.

    >>> redact_url("rtsp://admin:secret@camera/1?channel=2&auth=abc")
    'rtsp://***@camera/1?channel=2&auth=***'
    """
    if "://" not in text and "=" not in text and "@" not in text:
        return text
    return "".join(_redact_word(word) for word in _SPACE.split(text))


def _redact_word(word: str) -> str:
    """Hide what is secret in text without spaces.

    What stands before the last @ is hidden whatever it holds: passwords are met with a bare / or
    quote in them, though no URL may hold those.
    """
    head, scheme, rest = word.partition("://")
    if scheme:
        _, at, path = rest.rpartition("@")
        return f"{_redact_pairs(head)}://{'***@' if at else ''}{_redact_query(path)}"
    before, at, after = word.rpartition("@")
    if ":" in before:  # user:password@host
        return f"***@{_redact_query(after)}"
    return _redact_query(word) if "=" in word else word


def _redact_query(text: str) -> str:
    path, mark, query = text.partition("?")
    if not mark:
        return _redact_pairs(path)
    core = query.rstrip(_CLOSING)
    parameters = "".join(_hide(piece) for piece in _AMPERSAND.split(core))
    return f"{_redact_pairs(path)}?{parameters}{query[len(core) :]}"


def _hide(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    is_harmless = name.lower() in _HARMLESS and _PLAIN_VALUE.fullmatch(value)
    if is_harmless or not parameter.strip("&;"):
        return parameter
    return f"{name}=***" if equals else "***"


def _redact_pairs(text: str) -> str:
    """Hide the values of ``name=value`` where the name sounds secret."""
    if "=" not in text:
        return text
    pieces = _BETWEEN_PAIRS.split(text)
    for number in range(0, len(pieces), 2):
        name, equals, _ = pieces[number].partition("=")
        if equals and _sounds_secret(name.lower()):
            pieces[number] = f"{name}=***"
    return "".join(pieces)


def _sounds_secret(name: str) -> bool:
    return name.endswith(_SECRET_NAME_ENDS) or any(part in name for part in _SECRET_NAMES)


class ConnectorError(Exception):
    """Something went wrong at the edge.

    Attributes:
        name: The stream's id, or what the sink writes to.
        reason: What happened, lower case, without secrets.
        position: Where it happened: frame, time, offset; empty if it has no place.
        accepted: What would be accepted instead; may be empty.
        recoverable: Whether reading, writing or opening again can help.
    """

    kind: ClassVar[str] = "connector"
    recoverable: bool = False

    def __init__(
        self,
        name: str,
        reason: str,
        *,
        position: Position | None = None,
        accepted: str = "",
        recoverable: bool | None = None,
    ) -> None:
        self.name = redact_url(name)
        self.reason = redact_url(reason)
        self.position: dict[str, int | float | str] = {
            key: redact_url(value) if isinstance(value, str) else value
            for key, value in (position or {}).items()
        }
        self.accepted = accepted
        if recoverable is not None:
            self.recoverable = recoverable
        super().__init__(self.name, self.reason)

    @override
    def __str__(self) -> str:
        place = ", ".join(f"{key} {value}" for key, value in self.position.items())
        text = f"{self.kind} {self.name!r}{f' at {place}' if place else ''}: {self.reason}"
        return f"{text}; accepted: {self.accepted}" if self.accepted else text


class SourceError(ConnectorError):
    """A stream cannot be opened or read.

    Attributes:
        recoverable: Whether a source built anew at the same position may do better.
        continues: Whether the same source may be read again at once, and goes on behind the fault.
        resume_position: Resume point behind the fault, as ``Frame.position`` is behind a frame;
            ``None`` where nothing can be resumed.
    """

    kind = "stream"
    continues: bool = False

    def __init__(
        self,
        name: str,
        reason: str,
        *,
        position: Position | None = None,
        accepted: str = "",
        recoverable: bool | None = None,
        continues: bool | None = None,
        resume_position: Position | None = None,
    ) -> None:
        super().__init__(
            name, reason, position=position, accepted=accepted, recoverable=recoverable
        )
        self.resume_position = resume_position
        if continues is not None:
            self.continues = continues

    @property
    def stream_id(self) -> str:
        """The stream that failed."""
        return self.name


class NotFoundError(SourceError):
    """The file, folder, device, camera path or topic is not there."""


class UnsupportedMediaError(SourceError):
    """It is there, but it is no picture or video that can be decoded."""


class CorruptMediaError(SourceError):
    """It began well and then broke off or turned to garbage; all frames before are delivered."""


class UnauthorizedError(SourceError):
    """The user, the password or the access right was refused; a secret may be changed."""

    recoverable = True


class UnreachableError(SourceError):
    """Nobody answers at that address."""

    recoverable = True


class StreamEndedError(SourceError):
    """The peer of a live stream hung up."""

    recoverable = True


class StreamStalledError(SourceError):
    """The peer of a live stream is silent for longer than the read timeout."""

    recoverable = True


class BadFrameError(SourceError):
    """One frame is unusable; the next read goes on behind it.

    Attributes:
        payload: The input as it came, for the dead-letter topic.
        headers: Its headers as they came.
    """

    recoverable = True
    continues = True

    def __init__(
        self,
        name: str,
        reason: str,
        *,
        position: Position | None = None,
        accepted: str = "",
        resume_position: Position | None = None,
        payload: bytes = b"",
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        super().__init__(
            name, reason, position=position, accepted=accepted, resume_position=resume_position
        )
        self.payload = payload
        self.headers = headers


class PictureError(ConnectorError):
    """A single picture is not there, or cannot be decoded."""

    kind = "picture"


class RegistryError(ConnectorError):
    """A schema registry cannot be reached, or does not take a schema."""

    kind = "schema registry"


class SinkError(ConnectorError):
    """Records or pictures cannot be written."""

    kind = "sink"

    @property
    def sink(self) -> str:
        """What the sink writes to."""
        return self.name


class SinkUnreachableError(SinkError):
    """Nobody answers at that address."""

    recoverable = True


class SinkUnauthorizedError(SinkError):
    """The user, the password or the access right was refused; both may be changed."""

    recoverable = True


class TopicMissingError(SinkError):
    """The topic to write to is not there, and is not to be made or may not be."""

    recoverable = True


class NotWritableError(SinkError):
    """The file or folder cannot be written."""


class DeliveryFailedError(SinkError):
    """Records were taken but could not be delivered."""


class FencedError(SinkError):
    """Another worker has taken over: whatever this one wrote now would be there twice."""
