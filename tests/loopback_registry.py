"""A registry on the loopback interface, as small as the distribution specification allows.

It serves what is put into it, with or without a token; ``answers`` replace the answer of a path,
for registries that lie.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "deployer", "correct horse"
TOKEN = "a-token"

# Gets the handler of a request, and answers it.
Answer = Callable[["_Handler"], None]


class LoopbackRegistry:
    """Serves until it is closed. ``wants`` is None, ``basic`` or ``bearer``."""

    def __init__(self, wants: str | None = None) -> None:
        self.wants = wants
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.registry = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"localhost:{self._server.server_address[1]}"

    def put(self, repository: str, tag: str, digest: str, blobs: Mapping[str, bytes]) -> None:
        self.blobs.update(blobs)
        self.tags[repository, tag] = digest

    def asked_for(self, part: str) -> list[str]:
        return [path for path, _ in self.requests if part in path]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have seen enough hang up; all else is told as ever."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> LoopbackRegistry:
        return self.server.registry  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        registry, path = self.registry, self.path
        registry.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
        if path in registry.answers:
            registry.answers[path](self)
        elif path.startswith("/token"):
            self._give_token()
        elif not self._is_welcome():
            self._challenge()
        elif path in ("/v2", "/v2/"):
            self.give(b"{}")
        else:
            self._give_content(path)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Tests have their own eyes."""

    def give(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _is_welcome(self) -> bool:
        wanted = {None: None, "basic": _basic(), "bearer": f"Bearer {TOKEN}"}[self.registry.wants]
        return wanted is None or self.headers.get("Authorization") == wanted

    def _challenge(self) -> None:
        host = self.registry.host
        challenge = f'Bearer realm="http://{host}/token",service="{host}",scope="repository:x:pull"'
        if self.registry.wants == "basic":
            challenge = 'Basic realm="here"'
        self.give(b"{}", 401, WWW_Authenticate=challenge)

    def _give_token(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        is_known = self.headers.get("Authorization") == _basic()
        if is_known and asked.get("service") == [self.registry.host]:
            self.give(json.dumps({"token": TOKEN}).encode())
        else:
            self.give(b"{}", 401)

    def _give_content(self, path: str) -> None:
        place, _, wanted = path.rpartition("/")
        repository = place.removeprefix("/v2/").rpartition("/")[0]
        digest = wanted.removeprefix("sha256:")
        if place.endswith("/manifests"):
            digest = self.registry.tags.get((repository, wanted), digest)
        body = self.registry.blobs.get(digest)
        if body is None:
            self.give(
                b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', 404
            )
            return
        media_type = "application/octet-stream"
        if place.endswith("/manifests"):
            media_type = json.loads(body).get("mediaType", media_type)
        self.give(body, Content_Type=media_type, Docker_Content_Digest=f"sha256:{digest}")


def _basic() -> str:
    return f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


def credentials_for(host: str) -> str:
    """A file as ``docker login`` writes it."""
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}})
