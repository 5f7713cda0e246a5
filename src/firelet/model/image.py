"""Container images as values: their names, and what a function runs of one.

Pure. An image is found once, when a function is created or its code updated, and is the same from
then on: ``resolved_uri`` names it by the digest of its manifest.
Source: OCI image specification 1.1 (configuration) and distribution specification (names);
aws-lambda API reference, ImageConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HOST = r"(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+(?::[0-9]{1,5})?|localhost(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?P<registry>{_HOST})/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?",
    re.ASCII,
)
_NAME_MAX = 1_024
# What Docker gives an image that sets none.
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """``registry/repository:tag`` or ``registry/repository@sha256:digest`` (hex here), or both,
    when the digest counts."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def wanted(self) -> str:
        """What a registry is asked for: ``sha256:…``, or the tag."""
        return f"sha256:{self.digest}" if self.digest else str(self.tag)

    def resolved(self, digest: str) -> str:
        """The same image by its digest."""
        return f"{self.registry}/{self.repository}@sha256:{digest}"


def parse_image_name(text: str) -> ImageName | None:
    """None for what names no image: AWS, too, wants a registry, and a tag or a digest."""
    match = _NAME.fullmatch(text) if len(text) <= _NAME_MAX else None
    if match is None or not (match["tag"] or match["digest"]):
        return None
    return ImageName(**match.groupdict())


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """One layer: its blob, a tar that may be compressed, by the hex SHA-256 of its ``size`` bytes;
    ``diff`` is the digest of the tar itself."""

    digest: str
    size: int
    diff: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a function version runs. ``layers`` begin with the lowest; the rest is from the image's
    configuration; ``environment`` are ``NAME=value``."""

    uri: str
    resolved_uri: str
    digest: str
    layers: tuple[ImageLayer, ...]
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    environment: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the image."""
        texts = (_PATH, *self.environment)
        pairs = (text.partition("=") for text in texts)
        return {name: value for name, equals, value in pairs if name and equals}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProcess:
    """What is run of an image, and where."""

    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    working_directory: str

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.entry_point, *self.command)


def image_process(image: Image, config: Mapping[str, Any]) -> ImageProcess:
    """The image's own process, changed by the function's ``ImageConfig`` (empty: not at all). Each
    member stands for itself: a new entry point keeps the image's command, unlike in Docker."""
    return ImageProcess(
        entry_point=tuple(config.get("EntryPoint") or image.entry_point),
        command=tuple(config.get("Command") or image.command),
        working_directory=config.get("WorkingDirectory") or image.working_directory or "/",
    )
