"""JSON Schemas for a schema registry, by the API of Confluent's, which Karapace speaks too."""

import json
from collections.abc import Mapping
from typing import Any, cast

import httpx2

from connectors.errors import RegistryError

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_S = 10.0
# Records of a later minor version have more fields. With BACKWARD, the default, a registry takes
# that for a break, as the schemas allow fields that they do not know.
_COMPATIBILITY = "compatibility FORWARD, or NONE, for that subject"


def register_schemas(
    url: str,
    schemas: Mapping[str, Mapping[str, Any]],
    *,
    auth: str = "",
    timeout_s: float = _TIMEOUT_S,
) -> dict[str, int]:
    """Register the schema of each subject; returns their ids.

    A schema that is registered already keeps its id.

    Args:
        url: Of the registry.
        schemas: JSON Schemas by subject, as ``<topic>-value``.
        auth: ``user:password``, if the registry asks for them.
        timeout_s: Longest wait for an answer.

    Raises:
        RegistryError: The registry cannot be reached, or does not take a schema; those before it
            are registered.
    """
    user, _, password = auth.partition(":")
    options: dict[str, Any] = {
        "headers": {"content-type": _CONTENT_TYPE, "accept": _CONTENT_TYPE},
        "auth": (user, password) if user else None,
        "timeout": timeout_s,
    }
    try:
        with httpx2.Client(base_url=url, **options) as client:
            return {
                subject: _register(client, url, subject, schema)
                for subject, schema in schemas.items()
            }
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        accepted = "http://host:port or https://host"
        raise RegistryError(url, str(error).lower(), accepted=accepted) from None
    except httpx2.HTTPError as error:
        reason = f"{type(error).__name__}: {error}".lower()
        raise RegistryError(url, reason, accepted="a schema registry that answers") from error


def _register(client: httpx2.Client, url: str, subject: str, schema: Mapping[str, Any]) -> int:
    body = {"schemaType": "JSON", "schema": json.dumps(schema)}
    answer = client.post(f"subjects/{subject}/versions", json=body)
    told = _fields_of(answer)
    if answer.is_success and isinstance(told.get("id"), int):
        return told["id"]
    accepted = {
        401: "a user whom the registry knows",
        403: "a user with the right to write the subject",
        409: _COMPATIBILITY,
    }.get(answer.status_code, "a schema registry that takes JSON Schema")
    reason = f"subject {subject!r}: {answer.status_code} {told.get('message', '')}".strip()
    raise RegistryError(url, reason, accepted=accepted)


def _fields_of(answer: httpx2.Response) -> dict[str, Any]:
    try:
        body: Any = answer.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}
