"""User names and passwords of registries, from a file as ``docker login`` writes it.

Read anew for each image, so that a login counts at once. Helpers that such a file may name are not
run here; skopeo runs them.
Source: docs.docker.com/reference/cli/docker/login, config.json.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from firelet.worker.images.errors import RegistryFailed


class Credentials:
    """``path`` None: every registry is asked without a name."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find(self, host: str) -> tuple[str, str] | None:
        """User and password for a host (with its port); None when there are none."""
        if self.path is None:
            return None
        try:
            auths = json.loads(self.path.read_bytes()).get("auths", {})
            entry = next((auths[key] for key in _keys(host) if key in auths), None)
            if entry is None:
                return None
            if entry.get("auth"):
                user, _, password = (
                    base64.b64decode(entry["auth"], validate=True).decode().partition(":")
                )
            else:
                user, password = str(entry["username"]), str(entry["password"])
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise RegistryFailed(f"the credentials in {self.path} cannot be read") from error
        return user, password


def _keys(host: str) -> tuple[str, ...]:
    """As Docker names a registry, and as it names its own."""
    keys = (host, f"https://{host}", f"http://{host}", f"https://{host}/v2/")
    return (*keys, "https://index.docker.io/v1/") if host == "registry-1.docker.io" else keys
