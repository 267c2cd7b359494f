"""Schemas for a registry, over HTTP as Confluent's API has it."""

import pytest

from connectors.errors import RegistryError
from connectors.kafka.schema_registry import register_schemas
from tests.schema_registry import schema_registry
from tests.servers import free_port

SCHEMA = {"type": "object", "title": "Tür"}


def test_schemas_are_registered_by_subject_and_again_without_a_change():
    with schema_registry() as registry:
        for _ in range(2):
            assert register_schemas(registry.url, {"a-value": SCHEMA, "b-value": {}}) == {
                "a-value": 1,
                "b-value": 2,
            }
    assert registry.subjects == {"a-value": SCHEMA, "b-value": {}}
    assert registry.content_types == {"application/vnd.schemaregistry.v1+json"}


def test_a_registry_below_a_path_is_found():
    with schema_registry() as registry:
        assert register_schemas(f"{registry.url}/api/v7", {"a-value": SCHEMA}) == {"a-value": 1}
    assert registry.paths == {"/api/v7/subjects/a-value/versions"}


def test_user_and_password_are_sent_where_they_are_given():
    with schema_registry(auth="me:pass:wörd") as registry:
        assert register_schemas(registry.url, {"a-value": SCHEMA}, auth="me:pass:wörd")
        with pytest.raises(RegistryError, match="401 Unauthorized; accepted: a user"):
            register_schemas(registry.url, {"a-value": SCHEMA})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            (409, {"message": "incompatible"}),
            "'a-value': 409 incompatible; accepted: compatibility",
        ),
        ((403, {"message": "no"}), "403 no; accepted: a user with the right"),
        ((422, {"message": "Invalid schema"}), "422 Invalid schema; accepted: a schema registry"),
        ((200, b"<html>"), "200; accepted: a schema registry that takes JSON Schema"),
        ((200, ["id"]), "200; accepted: a schema registry"),
        ((404, b""), "404; accepted: a schema registry"),
    ],
)
def test_what_the_registry_has_against_it_is_told(answer, told):
    with schema_registry() as registry:
        registry.answer = answer
        with pytest.raises(RegistryError, match=told):
            register_schemas(registry.url, {"a-value": SCHEMA})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:{port}", "refused; accepted: a schema registry that answers"),
        ("localhost:8081", "accepted: http://host:port or https://host"),
        ("http://host:port", "accepted: http://host:port or https://host"),
    ],
)
def test_an_address_without_a_registry_is_told(url, told):
    with pytest.raises(RegistryError, match=told):
        register_schemas(url.format(port=free_port()), {"a-value": SCHEMA})
