"""The door of the API: who is let in, how often, and for what."""

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.access import Access, Identity, RateLimit
from pipeline.api.answers import RefusedError
from pipeline.config.sections.api import ApiConfig, Role

_IDENTITY = "maskstream.identity"
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_BEARER = HTTPBearer(auto_error=False, description="A token of `api.tokens`.")


class Guard:
    """An ASGI application before another, which sees requests of known names alone.

    A request that is refused here is answered before any of its body is read.

    Args:
        application: Answers the others.
        config: Who may ask, and how often.
    """

    def __init__(self, application: ASGIApp, config: ApiConfig) -> None:
        self._application = application
        self._access = Access(config)
        self._limit = RateLimit(config.requests_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = [one for one in _HEADERS if one[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        identity = self._access.identify(scope)
        refusal = _refuse_stranger() if identity is None else self._refuse_haste(identity)
        if refusal is not None:
            await refusal.to_response()(scope, receive, send_with_headers)
            return
        scope[_IDENTITY] = identity
        await self._application(scope, receive, send_with_headers)

    def _refuse_haste(self, identity: Identity) -> RefusedError | None:
        wait_s = self._limit.wait_s(identity.name)
        if not wait_s:
            return None
        return RefusedError(
            429,
            f"{identity.name!r} asks too often",
            accepted="api.requests_per_s requests a second",
            headers={"Retry-After": str(int(wait_s) + 1)},
        )


def _refuse_stranger() -> RefusedError:
    return RefusedError(
        401,
        "nobody is known by this token, or there is none",
        accepted="Authorization: Bearer TOKEN, of api.tokens",
        headers={"WWW-Authenticate": "Bearer"},
    )


async def _identity_of(request: Request, _token: Annotated[object, Security(_BEARER)]) -> Identity:
    return cast("Identity", request.scope[_IDENTITY])


KnownIdentity = Annotated[Identity, Depends(_identity_of)]


async def _require_viewer(identity: KnownIdentity) -> None:
    """Let anybody in who may use the API."""
    require(identity, Role.VIEWER)


async def _require_operator(identity: KnownIdentity) -> None:
    """Let operators and admins in."""
    require(identity, Role.OPERATOR)


async def _refuse_unknown_query(request: Request) -> None:
    """Refuse what the operation does not take, which may be a slip of the pen."""
    route = cast("APIRoute", request.scope["route"])
    known = sorted(field.alias for field in route.dependant.query_params)
    for name in request.query_params:
        if name not in known:
            accepted = ", ".join(known) or "no parameter"
            message = f"unknown parameter {name!r}"
            raise RefusedError(422, message, field=f"query.{name}", accepted=accepted)


def require(identity: Identity, role: Role) -> None:
    """Let nobody in who may do less than a role.

    Raises:
        RefusedError: If the identity is of a lesser one.
    """
    if not identity.role.includes(role):
        message = f"{identity.name!r} is {identity.role}, and may not do this"
        raise RefusedError(403, message, accepted=f"a token with the role {role}")


_KNOWN = Depends(_refuse_unknown_query)
AS_VIEWER = (Depends(_require_viewer), _KNOWN)
"""Dependencies of what anybody may do who may use the API."""
AS_OPERATOR = (Depends(_require_operator), _KNOWN)
"""Dependencies of what operators and admins may do."""
