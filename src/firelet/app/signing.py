"""The certificates that the operator trusts for the signatures of packages, as the registry takes
them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from firelet.model.errors import PlatformError


def load_signing_trust(files: Iterable[Path]) -> frozenset[str]:
    """The fingerprints of all certificates in these PEM files. PlatformError for a file without.
    Blocking: at start-up."""
    found: set[str] = set()
    for file in files:
        # Here, because x509 takes 20 ms to import and most platforms trust nobody in particular.
        from firelet.control.signed_data import fingerprints

        try:
            found.update(fingerprints(file.read_bytes()))
        except (OSError, ValueError) as error:
            raise PlatformError(f"No certificates can be read from {file}: {error}") from error
    return frozenset(found)
