"""Which source an image comes from, by the operator's table of registries.

Nothing but what that table names is ever asked, so that who may create functions cannot make the
platform call hosts of their choice; registries of this very host, ``localhost:PORT``, need no
entry.
Called by ``images.store``.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Mapping
from pathlib import Path

from firelet.model.errors import PlatformError
from firelet.model.image import ImageName
from firelet.worker.images.credentials import Credentials
from firelet.worker.images.interrupts import Interrupts
from firelet.worker.images.registry import RegistrySource
from firelet.worker.images.skopeo import SkopeoSource
from firelet.worker.images.source import ImageSource, LayoutSource

_URLS = ("http://", "https://")


class ConfiguredSources:
    """``table`` maps a registry, or a registry and the beginning of a repository, to the URL of a
    registry or to a directory; the longest that fits counts, and what is left of the name is below
    it. ``client`` is ``skopeo`` (PlatformError where it is not installed), ``http`` (our own), or
    ``auto``: skopeo where it is installed."""

    def __init__(
        self, table: Mapping[str, str], credentials: Path | None = None, client: str = "auto"
    ) -> None:
        self._table = {name.rstrip("/"): target for name, target in table.items()}
        self._credentials = Credentials(credentials)
        self._skopeo = shutil.which("skopeo") if client in ("auto", "skopeo") else None
        if client == "skopeo" and self._skopeo is None:
            raise PlatformError("image_client is skopeo, and skopeo is not installed.")
        self.interrupts = Interrupts()

    def find(self, name: ImageName) -> ImageSource | None:
        whole = f"{name.registry}/{name.repository}"
        parts = whole.split("/")
        for count in range(len(parts), 0, -1):
            target = self._table.get("/".join(parts[:count]))
            if target is not None:
                return self._open(target, "/".join(parts[count:]))
        if _is_loopback(name.registry):
            return self._open(f"http://{name.registry}", name.repository)
        return None

    def _open(self, target: str, rest: str) -> ImageSource:
        """``rest`` has none but the characters of names: no ``..`` among its parts."""
        if not target.startswith(_URLS):
            return LayoutSource(Path(target) / rest)
        url = f"{target.rstrip('/')}/{rest}".rstrip("/")
        if self._skopeo is not None:
            return SkopeoSource(self._skopeo, url, self._credentials.path, self.interrupts)
        return RegistrySource(url, self._credentials, self.interrupts)


def _is_loopback(registry: str) -> bool:
    """Whether it is of this host. With a port: without one it is more likely a mistake."""
    host, colon, _ = registry.partition(":")
    if host == "localhost":
        return bool(colon)
    try:
        return bool(colon) and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
