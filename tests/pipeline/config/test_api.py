"""The section ``api``: who may use it, and what it must not give away."""

import pytest

from pipeline.config.loading import parse_config
from pipeline.errors import ConfigError

STREAM = "streams: [{id: a, source: {type: world}, concepts: [deer]}]\n"
DIGEST = "0123456789abcdef" * 4


def load(section):
    return parse_config(f"{STREAM}api: {section}\n", name="c.yaml").api


def token(name="anna", sha256=DIGEST):
    return f"{{name: {name}, role: viewer, sha256: '{sha256}'}}"


@pytest.mark.parametrize(
    ("section", "is_served"),
    [
        ("{}", False),
        ("{port: 0}", False),
        (f"{{tokens: [{token()}]}}", False),
        (f"{{port: 0, tokens: [{token()}]}}", True),
        ("{port: 0, proxy: {networks: [127.0.0.1]}}", True),
    ],
)
def test_it_is_served_where_there_is_a_port_and_who_may_use_it(section, is_served):
    assert load(section).is_served is is_served


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (f"{{tokens: [{token()}, {token(sha256='f' * 64)}]}}", "token 'anna' is there twice"),
        (f"{{tokens: [{token()}, {token('bert')}]}}", "'anna' and 'bert' have one token"),
        (
            f"{{tokens: [{token(sha256='hunter2')}]}}",
            "tokens[0].sha256: is no digest (accepted: 64",
        ),
        (f"{{tokens: [{token(sha256='F' * 64)}]}}", "tokens[0].sha256: is no digest"),
        ("{tokens: [{name: a, role: root, sha256: x}]}", "tokens[0].role: "),
        ("{proxy: {networks: []}}", "proxy.networks: "),
        ("{proxy: {networks: [10.0.0.1/8]}}", "proxy.networks[0]: "),
        ("{proxy: {networks: ['::1'], name_header: 'a b'}}", "proxy.name_header: "),
    ],
)
def test_what_is_not_accepted_is_named(section, told):
    with pytest.raises(ConfigError) as caught:
        load(section)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_digests_do_not_show():
    section = load(f"{{port: 0, tokens: [{token()}]}}")
    assert DIGEST not in f"{section!r} {section.model_dump_json()}"
