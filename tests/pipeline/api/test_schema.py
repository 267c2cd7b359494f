"""Whatever is sent, the answer is one that the OpenAPI document describes, and never a 5xx."""

import random
from contextlib import closing
from http.client import HTTPConnection

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from pipeline.api.server import ApiServer
from tests.pipeline.api.backends import bearer, make_api, make_backend

HEADERS = bearer("admin")
OPERATIONS = {
    ("get", "/v1/streams"),
    ("get", "/v1/streams/{stream_id}"),
    ("get", "/v1/frames/{stream_id}"),
    ("get", "/v1/objects"),
    ("get", "/v1/concepts"),
    ("get", "/v1/zones"),
    ("get", "/v1/rules"),
    ("get", "/v1/sinks"),
    ("get", "/v1/config"),
    ("get", "/v1/events"),
    ("post", "/v1/commands"),
}
# Its answers never end.
FINITE = sorted(OPERATIONS - {("get", "/v1/events")})

# A schema cannot say that a rule's zone must be there, nor that pydantic takes "1" for 1.
UNFIT = {"/v1/commands": [positive_data_acceptance, negative_data_rejection]}


@pytest.fixture(scope="module")
def schema():
    api = make_api()
    yield schemathesis.openapi.from_asgi("/v1/openapi.json", api.application, headers=HEADERS)
    api.pictures.close()


def test_operations_are_these(schema):
    found = {
        (method, path) for path, methods in schema.raw_schema["paths"].items() for method in methods
    }
    assert found == OPERATIONS


def fuzz(schema, method, path, *, num):
    """Send ``num`` drawn requests that fit the document and as many that do not."""
    for mode in schemathesis.GenerationMode:
        strategy = schema[path][method].as_strategy(generation_mode=mode)

        @settings(max_examples=num, suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def check(case):
            case.call_and_validate(headers=HEADERS, excluded_checks=UNFIT.get(path, []))

        check()


@pytest.mark.parametrize(("method", "path"), FINITE)
def test_answers_are_what_the_document_says(schema, method, path):
    fuzz(schema, method, path, num=20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("method", "path"), FINITE)
def test_answers_are_what_the_document_says_a_thousand_times(schema, method, path):
    fuzz(schema, method, path, num=500)


def garbled(rng):
    """A request line and headers that no client of good will sends."""
    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"]
    places = [
        "/v1/streams/",
        "/v1/frames/",
        "/v1/zones?stream_id=",
        "/v1/",
        "/",
        "//",
        "/v1/config/",
    ]
    letters = 'abc/%.?&=;:*~\\"<>{}[]|^`0123456789'
    junk = "".join(rng.choices(letters, k=rng.randrange(40)))
    values = ["", "0", "-1", "\xff\xfe", "a" * 2000, "*/*;q=x", '"', "bytes=0-", "1.1.1.1"]
    names = ["If-None-Match", "Last-Event-ID", "Accept", "Range", "Content-Type", "X-Forwarded-For"]
    headers = {name: rng.choice(values) for name in rng.sample(names, 2)}
    body = rng.choice([None, b"", b"{", b"\xff" * 100, b"[" * 5000])
    return rng.choice(methods), rng.choice(places) + rng.choice(["", "cam", junk]), headers, body


def send_garbage(num, *, seed):
    """Return the status codes of ``num`` odd requests to a real port."""
    rng, codes = random.Random(seed), []  # noqa: S311 - no secret
    server = ApiServer(make_backend())
    server.start()
    try:
        with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=30)) as connection:
            for _ in range(num):
                method, path, headers, body = garbled(rng)
                connection.putrequest(method, path.replace(" ", ""), skip_accept_encoding=True)
                for name, value in {**headers, **HEADERS}.items():
                    connection.putheader(name, value.encode("latin-1"))
                connection.putheader("Content-Length", str(len(body or b"")))
                connection.endheaders(body)
                answer = connection.getresponse()
                answer.read()
                codes.append(answer.status)
    finally:
        server.stop()
    return codes


def test_bad_requests_are_no_errors_of_the_server():
    codes = send_garbage(300, seed=0)
    assert max(codes) < 500
    assert {200, 404, 405} <= set(codes)


@pytest.mark.slow
def test_ten_thousand_bad_requests_are_no_errors_of_the_server():
    assert max(send_garbage(10_000, seed=1)) < 500
