"""Zips of local paths, kept for the way back: an update that fails gives a function the code that
it had, and by then its folder holds other code.

By the digest of what they hold, in a folder beside the stack's state.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.sam import LOCAL_BUCKET
from firelet.stacks.state import ResourceState, write_durably


class PackageFolder:
    """The packages of one stack."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / f"{name}.packages"

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            raise StackError(f"the code {key} is no longer in {self._folder}") from None

    def add(self, packages: Mapping[str, bytes]) -> None:
        for key, zipped in packages.items():
            if not (self._folder / key).exists():
                write_durably(self._folder / key, zipped)

    def prune(self, resources: Iterable[ResourceState]) -> None:
        """Keeps what a function of these may be given again. A layer never is."""
        kept = {
            key
            for resource in resources
            if resource.type == "AWS::Lambda::Function"
            for key in _find_keys(resource.properties)
        }
        for path in self._folder.glob("*"):
            if path.name not in kept:
                path.unlink()

    def delete(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)


def _find_keys(properties: Mapping[str, Any]) -> Iterator[str]:
    code = properties.get("Code")
    if isinstance(code, Mapping) and code.get("S3Bucket") == LOCAL_BUCKET:
        yield code["S3Key"]
