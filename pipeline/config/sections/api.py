"""The section ``api``."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator

from pipeline.fields import Name, StrictModel, refuse_twice

_SHA256 = re.compile(r"[0-9a-f]{64}")
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class Role(StrEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Look at streams, frames, events and status."""
    OPERATOR = "operator"
    """Read the configuration, and change what is looked for."""
    ADMIN = "admin"
    """Add, change and remove streams."""

    def includes(self, other: "Role") -> bool:
        """Whether it may do all that another may."""
        order = tuple(Role)
        return order.index(self) >= order.index(other)


class TokenConfig(StrictModel):
    """Somebody who may use the API."""

    name: Name
    """Stands in records beside what was changed."""
    role: Role
    """What the token is good for: viewer, operator or admin."""
    sha256: SecretStr
    """Of the token, in hexadecimal: ``printf %s TOKEN | sha256sum``. The token itself is sent as
    ``Authorization: Bearer TOKEN``."""

    @field_validator("sha256")
    @classmethod
    def _check_digest(cls, digest: SecretStr) -> SecretStr:
        if not _SHA256.fullmatch(digest.get_secret_value()):
            raise ValueError("is no digest (accepted: 64 of 0-9 a-f, as sha256sum prints them)")
        return digest


class ProxyConfig(StrictModel):
    """A reverse proxy that knows who somebody is, and says so in headers."""

    networks: Annotated[tuple[IPvAnyNetwork, ...], Field(min_length=1)]
    """Where the proxy's connections come from, for example 10.0.0.7 or 10.1.0.0/16. Headers of
    anybody else are not looked at."""
    name_header: HeaderName = "X-Forwarded-User"
    """Holds the name. The proxy must remove it from what clients send."""
    role_header: HeaderName | None = None
    """Holds viewer, operator or admin. The proxy must remove it from what clients send."""
    role: Role = Role.VIEWER
    """Of everybody where there is no role header."""


class ApiConfig(StrictModel):
    """The port with streams, frames, events and commands."""

    host: str = "127.0.0.1"
    """Address to listen on. What is sent is not encrypted: elsewhere than on this machine, let a
    reverse proxy with TLS stand before it."""
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """None: no port is opened. 0: any free port, shown in the log. Without ``tokens`` and ``proxy``
    nobody could use it, and nothing listens."""
    tokens: Annotated[tuple[TokenConfig, ...], Field(max_length=1000)] = ()
    """Who may use it."""
    proxy: ProxyConfig | None = None
    """Who else may use it: everybody whom this proxy names."""
    requests_per_s: Annotated[float, Field(ge=1, le=10_000)] = 50.0
    """Of one name, on average over a second; more are answered with 429."""

    @property
    def is_served(self) -> bool:
        """Whether there is a port, and anybody who may use it."""
        return self.port is not None and (bool(self.tokens) or self.proxy is not None)

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        refuse_twice("token", [token.name for token in self.tokens])
        digests = [token.sha256.get_secret_value() for token in self.tokens]
        for number, digest in enumerate(digests):
            if digest in digests[:number]:
                first, second = self.tokens[digests.index(digest)].name, self.tokens[number].name
                raise ValueError(
                    f"{first!r} and {second!r} have one token (accepted: one of its own for each)"
                )
        return self
