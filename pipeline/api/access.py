"""Who asks, and how often: tokens, a trusted proxy's headers, and a limit on requests."""

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Scope

from pipeline.config.sections.api import ApiConfig, ProxyConfig, Role

_MAX_NAME_CHARS = 120
_ROUNDING_S = 1e-6
_MAX_NAMES = 1024  # of whom requests are counted; a proxy may name any number


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who may use the API."""

    name: str
    role: Role


class Access:
    """Tells who a request is from.

    Args:
        config: Tokens and the proxy.
    """

    def __init__(self, config: ApiConfig) -> None:
        self._tokens = tuple(
            (token.sha256.get_secret_value(), Identity(name=token.name, role=token.role))
            for token in config.tokens
        )
        self._proxy = config.proxy

    def identify(self, scope: Scope) -> Identity | None:
        """Return who a request is from; ``None``: nobody who may use the API.

        A bearer token counts before headers of a proxy, and a wrong one is not made good by them.
        """
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        given = [value for name, value in headers if name == b"authorization"]
        bearer = [value[7:].strip() for value in given if value[:7].lower() == b"bearer "]
        if bearer:
            return self._find(bearer[0]) if len(given) == 1 else None
        client: tuple[str, int] | None = scope["client"]
        if self._proxy is None or client is None or not _is_from(client[0], self._proxy):
            return None
        return _named_by(self._proxy, headers)

    def _find(self, token: bytes) -> Identity | None:
        digest, found = hashlib.sha256(token).hexdigest(), None
        for known, identity in self._tokens:  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                found = identity
        return found


def _is_from(address: str, proxy: ProxyConfig) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return any((mapped or ip) in network for network in proxy.networks)


def _named_by(proxy: ProxyConfig, headers: Sequence[tuple[bytes, bytes]]) -> Identity | None:
    """Return whom a proxy's headers name; a header that is there twice may be forged."""
    name = _only(headers, proxy.name_header)
    if name is None or not name.isprintable() or len(name) > _MAX_NAME_CHARS:
        return None
    if proxy.role_header is None:
        return Identity(name=name, role=proxy.role)
    role = _only(headers, proxy.role_header)
    return Identity(name=name, role=Role(role)) if role in set(Role) else None


def _only(headers: Sequence[tuple[bytes, bytes]], header: str) -> str | None:
    wanted = header.lower().encode()
    values = [value for name, value in headers if name == wanted]
    try:
        text = values[0].decode().strip() if len(values) == 1 else ""
    except UnicodeDecodeError:
        return None
    return text or None


class RateLimit:
    """Lets each name have so many requests a second, on average over a second.

    Args:
        per_s: Requests a second, and as many at once.
        now_s: Monotonic seconds.
    """

    def __init__(self, per_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._gap_s = 1.0 / per_s
        self._now_s = now_s
        self._used_up_s: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Count a request, and return 0; or how long to wait before the next one is let in."""
        now_s = self._now_s()
        # Each request uses up a gap; those of a name may lie up to one second ahead of the time.
        ahead_s = max(self._used_up_s.get(name, now_s) - now_s, 0.0)
        wait_s = ahead_s + self._gap_s - 1.0
        if wait_s > _ROUNDING_S:
            return wait_s
        self._used_up_s[name] = now_s + ahead_s + self._gap_s
        self._used_up_s.move_to_end(name)
        if len(self._used_up_s) > _MAX_NAMES:
            self._used_up_s.popitem(last=False)
        return 0.0
