"""Images from a registry over HTTP, by firelet's own client.

It keeps one connection per request, knows no proxies, and never asks twice but for a token.
Credentials go to the registry and to the token service that it names, not where it redirects to.
Source: OCI distribution specification 1.1; distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from firelet.model import limits
from firelet.worker.images.credentials import Credentials
from firelet.worker.images.errors import (
    BadImage,
    ImageAccessDenied,
    ImageNotFound,
    RegistryFailed,
)
from firelet.worker.images.interrupts import Interrupts
from firelet.worker.images.manifest import INDEXES, MANIFESTS, Blob
from firelet.worker.images.source import Layers, read_limited
from firelet.worker.images.stream import CHUNK

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_TOKEN_MAX_BYTES = 65_536
_REDIRECTS = (301, 302, 303, 307, 308)
_SLOWEST_BYTES_PER_S = 64 * 1024

_FOREIGN = (OSError, http.client.HTTPException, ValueError)


class RegistrySource:
    """One repository: ``url`` is that of the registry with the repository's name as its path."""

    def __init__(self, url: str, credentials: Credentials, interrupts: Interrupts) -> None:
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._repository = parts.path.strip("/")
        self._credentials = credentials.find(parts.netloc)
        self._authorization: str | None = None
        self._interrupts = interrupts

    def manifest(self, wanted: str) -> bytes:
        most = limits.IMAGE_MANIFEST_MAX_BYTES
        with self._get(f"manifests/{wanted}", most, {"Accept": _ACCEPT}) as chunks:
            return read_limited(chunks, most)

    def config(self, manifest: str, blob: Blob) -> bytes:
        with self._get(f"blobs/sha256:{blob.digest}", blob.size) as chunks:
            return read_limited(chunks, blob.size)

    def layers(self, manifest: str, blobs: Sequence[Blob], scratch: Path) -> Layers:
        for blob in blobs:
            with self._get(f"blobs/sha256:{blob.digest}", blob.size) as chunks:
                yield chunks

    @contextmanager
    def _get(
        self, path: str, size: int, headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The body of an answer that is there; ``size`` is about how much is expected."""
        url = f"{self._base}/v2/{self._repository}/{path}"
        deadline = time.monotonic() + limits.IMAGE_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S
        try:
            answer = self._request(url, headers or {})
        except _FOREIGN as error:
            raise RegistryFailed(f"{self._base} does not answer: {error}") from error
        with answer as response, self._interrupts.during(answer.interrupt):
            _check_status(response.status, url)
            yield _chunks(response, deadline)

    def _request(self, url: str, headers: Mapping[str, str]) -> _Answer:
        """Asks, with a token if one is wanted, and follows redirects."""
        is_challenged = False
        for _ in range(limits.IMAGE_REDIRECTS_MAX + 2):
            own = url.startswith(f"{self._base}/")
            authorization = {"Authorization": self._authorization} if self._authorization else {}
            answer = _open(url, {**headers, **(authorization if own else {})})
            if answer.response.status == 401 and own and not is_challenged:
                is_challenged = True
                with answer as response:
                    challenge = response.getheader("WWW-Authenticate", "")
                self._authorization = self._answer(challenge)
            elif answer.response.status in _REDIRECTS:
                with answer as response:
                    target = urljoin(url, response.getheader("Location", ""))
                _check_url(target, url)
                url = target
            else:
                return answer
        raise RegistryFailed(f"{self._base} redirects too often")

    def _answer(self, challenge: str) -> str:
        """What to say to a challenge: Basic, or a token from the service that it names."""
        kind, _, rest = challenge.partition(" ")
        basic = {}
        if self._credentials is not None:
            text = ":".join(self._credentials).encode()
            basic = {"Authorization": f"Basic {base64.b64encode(text).decode()}"}
        if kind.lower() == "basic" and basic:
            return basic["Authorization"]
        wanted = dict(_CHALLENGE.findall(rest))
        realm = wanted.pop("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise ImageAccessDenied(f"{self._base} wants a login")
        _check_url(realm, self._base)
        query = {name: wanted[name] for name in ("service", "scope") if name in wanted}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
        with _open(url, basic) as response:
            _check_status(response.status, realm)
            deadline = time.monotonic() + limits.IMAGE_TIMEOUT_S
            answer = json.loads(read_limited(_chunks(response, deadline), _TOKEN_MAX_BYTES))
        found = answer if isinstance(answer, dict) else {}
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryFailed(f"{realm} gives no token")
        return f"Bearer {token}"


class _Answer:
    """A response and its connection, which are closed together."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        plug: socket.socket,
    ) -> None:
        self.response = response
        self._connection = connection
        self._socket = plug

    def interrupt(self) -> None:
        """Wakes whoever reads: for them the server has hung up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> http.client.HTTPResponse:
        return self.response

    def __exit__(self, *_exception: object) -> None:
        self.response.close()
        self._connection.close()


def _open(url: str, headers: Mapping[str, str]) -> _Answer:
    parts = urlsplit(url)
    host, timeout = parts.netloc.rpartition("@")[2], limits.IMAGE_TIMEOUT_S
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"
        connection.connect()
        plug: socket.socket = connection.sock  # the connection lets go of it with a last response
        connection.request("GET", path, headers={"User-Agent": "firelet", **headers})
        return _Answer(connection, connection.getresponse(), plug)
    except BaseException:
        connection.close()
        raise


def _check_url(url: str, before: str) -> None:
    """Where a registry may send us: to HTTP, and never from HTTPS to what is not."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and (scheme != "http" or before.startswith("https:")):
        raise RegistryFailed(f"{before} leads to {url[:200]}, which is not asked")


def _check_status(status: int, url: str) -> None:
    if status in (401, 403):
        raise ImageAccessDenied(f"{url} is not allowed to us")
    if status == 404:
        raise ImageNotFound(f"{url} is not there")
    if status != 200:
        raise RegistryFailed(f"{url} answers {status}")


def _chunks(response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
    """The body as it comes in; a server that sends a byte now and then does not hold us."""
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
            if time.monotonic() > deadline:
                raise RegistryFailed("the registry sends too slowly")
        if response.length:
            raise BadImage("the registry has cut a blob short")
    except _FOREIGN as error:
        raise RegistryFailed(f"the registry broke off: {error}") from error
