"""A web server that knows nothing of functions.

    (cd ../layer && zip -r ../layer.zip .)
    aws lambda publish-layer-version --layer-name web-adapter --zip-file fileb://../layer.zip
    firelet deploy . --name web --handler run.sh --runtime python3.13 \\
        --env AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap
    aws lambda update-function-configuration --function-name web --layers ARN-OF-THE-LAYER
"""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/pixel":
            self.answer(200, b"\x89PNG\r\n\x00", "image/png")
        elif self.path == "/slowly":
            self.stream()
        elif self.path == "/missing":
            self.answer(404, b"no such page", "text/plain")
        else:
            seen = {"path": self.path, "cookie": self.headers.get("cookie"), "body": None}
            self.answer(200, json.dumps(seen).encode(), "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        seen = {"path": self.path, "cookie": None, "body": body.decode()}
        self.answer(201, json.dumps(seen).encode(), "application/json")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "a=1")
        self.send_header("set-cookie", "b=2")
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (b"one ", b"two ", b"three"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, form: str, *values: object) -> None:
        print(form % values, flush=True)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
