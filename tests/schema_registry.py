"""A schema registry for tests, over HTTP on loopback."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry(ThreadingHTTPServer):
    """Keeps schemas by subject, refuses changed ones, and may ask for a password."""

    daemon_threads = True

    def __init__(self, auth=""):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.auth = auth
        self.subjects = {}
        self.content_types = set()
        self.paths = set()
        self.answer = None
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        registry = self.server
        text = self.rfile.read(int(self.headers["content-length"]))
        registry.content_types.add(self.headers["content-type"])
        registry.paths.add(self.path)
        status, body = registry.answer or self._register(json.loads(text))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def _register(self, told):
        registry = self.server
        *_, root, subject, versions = self.path.split("/")
        assert (root, versions, told["schemaType"]) == ("subjects", "versions", "JSON")
        wanted = f"Basic {base64.b64encode(registry.auth.encode()).decode()}"
        if registry.auth and self.headers["authorization"] != wanted:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        schema = json.loads(told["schema"])
        if registry.subjects.setdefault(subject, schema) != schema:
            return 409, {"error_code": 409, "message": "Schema is incompatible with version 1"}
        return 200, {"id": list(registry.subjects).index(subject) + 1}

    def log_message(self, *_):
        pass


@contextmanager
def schema_registry(**options):
    with Registry(**options) as registry:
        thread = threading.Thread(target=registry.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            registry.shutdown()
            thread.join()
