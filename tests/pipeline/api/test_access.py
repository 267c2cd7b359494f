"""Who is let in, by what, and how often."""

import hashlib

import pytest

from pipeline.api.access import Access, Identity, RateLimit
from pipeline.config.sections.api import ApiConfig, Role

ANNA = Identity(name="anna", role=Role.ADMIN)
CARL = Identity(name="carl", role=Role.VIEWER)


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def make_access(**proxy):
    fields = {"networks": ["10.1.0.0/16", "::1"]} | proxy
    tokens = [
        {"name": "anna", "role": "admin", "sha256": digest("a-token")},
        {"name": "bert", "role": "viewer", "sha256": digest("b-token")},
    ]
    return Access(ApiConfig.model_validate({"tokens": tokens, "proxy": fields}))


def scope(*headers, client="192.0.2.1"):
    return {"headers": [(name, value) for name, value in headers], "client": (client, 1234)}


def bearer(token):
    return (b"authorization", b"Bearer " + token)


def test_a_token_names_who_has_it():
    access = make_access()
    assert access.identify(scope(bearer(b"a-token"))) == ANNA
    assert access.identify(scope((b"authorization", b"bearer b-token"))).name == "bert"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer(b"")],
        [bearer(b"A-token")],
        [bearer(digest("a-token").encode())],
        [bearer(b"\xff\x00")],
        [(b"authorization", b"Basic a-token")],
        [(b"authorization", b"a-token")],
        [bearer(b"a-token"), bearer(b"b-token")],
        [(b"x-forwarded-user", b"carl")],
    ],
)
def test_nobody_is_known_by_anything_else(headers):
    assert make_access().identify(scope(*headers)) is None


@pytest.mark.parametrize("client", ["10.1.2.3", "::1", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_names_who_asks(client):
    assert make_access().identify(scope((b"x-forwarded-user", b"carl"), client=client)) == CARL


@pytest.mark.parametrize("client", ["10.2.0.1", "::2", "::ffff:10.2.0.1", "localhost"])
def test_headers_of_anybody_else_are_not_looked_at(client):
    assert make_access().identify(scope((b"x-forwarded-user", b"carl"), client=client)) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-forwarded-user", b"  ")],
        [(b"x-forwarded-user", b"\xff")],
        [(b"x-forwarded-user", b"a\tb")],
        [(b"x-forwarded-user", b"x" * 121)],
        [(b"x-forwarded-user", b"mallory"), (b"x-forwarded-user", b"carl")],
        [(b"x-forwarded-user", b"carl"), bearer(b"wrong")],
    ],
)
def test_what_a_proxy_says_must_be_one_name(headers):
    assert make_access().identify(scope(*headers, client="10.1.0.1")) is None


@pytest.mark.parametrize(
    ("role", "known"),
    [(b"admin", Role.ADMIN), (b"viewer", Role.VIEWER), (b"root", None), (b"", None)],
)
def test_a_role_header_must_name_a_role(role, known):
    access = make_access(role_header="X-Role", name_header="X-Name", role="operator")
    found = access.identify(scope((b"x-name", b"carl"), (b"x-role", role), client="10.1.0.1"))
    assert (found and found.role) == known


def test_roles_include_those_before_them():
    allowed = {(one, other) for one in Role for other in Role if one.includes(other)}
    assert len(allowed) == 6
    assert (Role.ADMIN, Role.VIEWER) in allowed
    assert (Role.VIEWER, Role.OPERATOR) not in allowed


def test_requests_beyond_the_rate_wait_and_names_do_not_share_it():
    now = [100.0]
    limit = RateLimit(5, now_s=lambda: now[0])
    assert [limit.wait_s("anna") for _ in range(5)] == [0.0] * 5
    assert limit.wait_s("anna") == pytest.approx(0.2)
    assert limit.wait_s("bert") == 0.0
    now[0] += 0.2
    assert limit.wait_s("anna") == 0.0
    assert limit.wait_s("anna") > 0.0
    now[0] += 3600
    assert sum(limit.wait_s("anna") == 0.0 for _ in range(20)) == 5


def test_names_that_are_counted_are_bounded():
    limit = RateLimit(5, now_s=lambda: 0.0)
    for number in range(5000):
        limit.wait_s(str(number))
    assert len(limit._used_up_s) <= 1024
