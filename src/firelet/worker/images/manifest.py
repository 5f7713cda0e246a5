"""The documents of an image: index, manifest, configuration. Pure; all of it hostile input.

Source: OCI image specification 1.1; Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firelet.model import limits
from firelet.model.image import ImageLayer
from firelet.worker.images.errors import BadImage, UnsupportedImage

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
_CONFIGS = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
_LAYERS = (
    f"{_OCI}layer.v1.tar",
    f"{_OCI}layer.v1.tar+gzip",
    f"{_DOCKER}image.rootfs.diff.tar",
    f"{_DOCKER}image.rootfs.diff.tar.gzip",
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MACHINES = {"x86_64": "amd64", "arm64": "arm64"}  # AWS's name: that of images
_SHOWN_MAX = 100
_LIST_MAX = 1_500  # AWS's limit for EntryPoint and Command


@dataclass(frozen=True, slots=True)
class Blob:
    """What a manifest names: a digest (hex) and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs of one image for one machine; layers begin with the lowest."""

    config: Blob
    layers: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What of an image's configuration matters here."""

    machine: str
    layers: tuple[str, ...]  # digests (hex) of the tars
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    working_directory: str
    environment: tuple[str, ...]


def parse_document(data: bytes) -> Mapping[str, Any]:
    """A JSON object. BadImage."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadImage("a document of the image is not JSON") from error
    if not isinstance(document, dict):
        raise BadImage("a document of the image is not a JSON object")
    return document


def choose_manifest(document: Mapping[str, Any], architecture: str) -> str | None:
    """The digest (hex) of the manifest for ``architecture`` (AWS's name) in an index; None when the
    document is a manifest itself. UnsupportedImage for what is neither."""
    media_type = document.get("mediaType")
    is_index = media_type in INDEXES or (media_type is None and "manifests" in document)
    if not is_index:
        if media_type not in (None, *MANIFESTS) or document.get("schemaVersion") != 2:
            raise UnsupportedImage(f"a manifest of the type {_shown(media_type)}")
        return None
    for entry in objects_of(document, "manifests"):
        platform = entry.get("platform") or {}
        if not isinstance(platform, dict):
            raise BadImage("an index has a platform that is none")
        machine = platform.get("architecture"), platform.get("os")
        if machine == (_MACHINES[architecture], "linux"):
            return digest_of(entry)
    raise BadImage(f"the image has nothing for linux on {architecture}")


def parse_manifest(document: Mapping[str, Any]) -> Manifest:
    """BadImage, UnsupportedImage."""
    config = document.get("config")
    if not isinstance(config, dict):
        raise BadImage("a manifest names no configuration")
    layers = objects_of(document, "layers")
    if not 0 < len(layers) <= limits.IMAGE_LAYERS_MAX:
        raise BadImage(f"an image has 1 to {limits.IMAGE_LAYERS_MAX} layers")
    for entry, known in ((config, _CONFIGS), *((layer, _LAYERS) for layer in layers)):
        if entry.get("mediaType") not in known:
            raise UnsupportedImage(f"a blob of the type {_shown(entry.get('mediaType'))}")
    manifest = Manifest(_blob(config), tuple(_blob(layer) for layer in layers))
    if manifest.config.size > limits.IMAGE_MANIFEST_MAX_BYTES:
        raise BadImage("the configuration of the image is too large")
    if sum(layer.size for layer in manifest.layers) > limits.IMAGE_UNPACKED_MAX_BYTES:
        raise BadImage("the image is larger than 10 GB")
    return manifest


def parse_configuration(document: Mapping[str, Any]) -> Configuration:
    """BadImage."""
    root = document.get("rootfs")
    found = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(found, list):
        raise BadImage("the configuration of the image names no layers")
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise BadImage("the configuration of the image is not in order")
    texts = {name: _texts(config, name) for name in ("Entrypoint", "Cmd", "Env")}
    directory = config.get("WorkingDir") or ""
    _check_text(directory)
    if len(json.dumps([texts, directory])) > limits.IMAGE_TEXTS_MAX_BYTES:
        raise BadImage("the configuration of the image is too large")
    return Configuration(
        machine=_shown(document.get("architecture")),
        layers=tuple(_parse_digest(item) for item in found),
        entry_point=texts["Entrypoint"],
        command=texts["Cmd"],
        working_directory=directory,
        environment=texts["Env"],
    )


def check_machine(configuration: Configuration, architecture: str) -> None:
    """BadImage when the image is for another machine than the function."""
    if configuration.machine != _MACHINES[architecture]:
        raise BadImage(f"the image is for {configuration.machine}, the function for {architecture}")


def join_layers(manifest: Manifest, configuration: Configuration) -> tuple[ImageLayer, ...]:
    """The blobs of the layers with what is in them. BadImage when the documents differ."""
    if len(manifest.layers) != len(configuration.layers):
        raise BadImage("the manifest and the configuration of the image differ")
    return tuple(
        ImageLayer(digest=blob.digest, size=blob.size, diff=diff)
        for blob, diff in zip(manifest.layers, configuration.layers, strict=True)
    )


def objects_of(document: Mapping[str, Any], member: str) -> list[Mapping[str, Any]]:
    """A member that is a list of JSON objects. BadImage."""
    found = document.get(member)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise BadImage(f"a document of the image has no list of {member}")
    return found


def _blob(entry: Mapping[str, Any]) -> Blob:
    size = entry.get("size")
    if not isinstance(size, int) or size < 0:
        raise BadImage("a blob of the image has no size")
    return Blob(digest_of(entry), size)


def digest_of(entry: Mapping[str, Any]) -> str:
    """The digest (hex) of what a descriptor describes. BadImage."""
    return _parse_digest(entry.get("digest"))


def _parse_digest(text: object) -> str:
    match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadImage("a document of the image has a digest that is no SHA-256")
    return match[1]


def _texts(config: Mapping[str, Any], member: str) -> tuple[str, ...]:
    found = config.get(member) or []
    if not isinstance(found, list) or len(found) > _LIST_MAX:
        raise BadImage(f"the configuration of the image has a {member} that is not in order")
    for item in found:
        _check_text(item)
    return tuple(found)


def _check_text(text: object) -> None:
    """What can be an argument of a program. JSON can have halves of characters."""
    if not isinstance(text, str) or "\0" in text or text != text.encode(errors="replace").decode():
        raise BadImage("the configuration of the image has a text that is not in order")


def _shown(value: object) -> str:
    """A hostile value in a sentence of ours."""
    return str(value)[:_SHOWN_MAX].encode("ascii", "backslashreplace").decode()
