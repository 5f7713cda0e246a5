"""An issuer of JSON Web Tokens, for tests: keys, tokens and the documents that name the keys."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """One private key."""

    def __init__(self, key_id: str, bits: int = 2_048) -> None:
        self.key_id = key_id
        self._key = rsa.generate_private_key(65_537, bits)

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token with that header, by default of RS256 and the key's id."""
        stated = {"alg": "RS256", "kid": self.key_id, "typ": "JWT", **header}
        parts = [encode(json.dumps(part).encode()) for part in (stated, dict(claims))]
        signed = ".".join(parts).encode()
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return ".".join((*parts, encode(signature)))

    def public(self) -> dict[str, str]:
        """As a JSON Web Key."""
        numbers = self._key.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.key_id,
            "n": encode(modulus),
            "e": encode(numbers.e.to_bytes(3, "big")),
        }


class Issuer:
    """A web server with discovery and keys; ``asked`` counts the look-ups of keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.signers = [Signer("one")]
        self.asked = 0

    def document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.asked += 1
        return {"keys": [signer.public() for signer in self.signers]}


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """On a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.document(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
