"""The documents of images, the ones that lie among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.model import limits
from firelet.worker.images.errors import BadImage, UnsupportedImage
from firelet.worker.images.manifest import (
    check_machine,
    choose_manifest,
    join_layers,
    parse_configuration,
    parse_document,
    parse_manifest,
)
from image_layouts import OCI, ImageParts, make_tar, sha256

DIGEST = "sha256:" + "a" * 64
DOCKER = "application/vnd.docker."


def documents(image: ImageParts | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and configuration of an image."""
    digest, blobs = (image or ImageParts([make_tar([])])).blobs()
    manifest = json.loads(blobs[digest])
    return manifest, json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])


@pytest.mark.parametrize("is_docker", [False, True])
def test_both_kinds_of_documents_are_read(is_docker: bool) -> None:
    tar = make_tar([])
    config = {
        "Entrypoint": ["/e"],
        "Cmd": ["a", "b"],
        "WorkingDir": "/w",
        "Env": ["A=1", "B=2=3"],
    }
    manifest, configuration = documents(
        ImageParts([tar, tar], config, machine="arm64", is_docker=is_docker)
    )
    assert choose_manifest(manifest, "arm64") is None
    parsed = parse_configuration(configuration)
    layers = join_layers(parse_manifest(manifest), parsed)
    assert [layer.diff for layer in layers] == [sha256(tar)] * 2
    assert layers[0].size == manifest["layers"][0]["size"]
    assert (parsed.entry_point, parsed.command) == (("/e",), ("a", "b"))
    assert (parsed.working_directory, parsed.environment) == ("/w", ("A=1", "B=2=3"))
    check_machine(parsed, "arm64")
    with pytest.raises(BadImage, match="the image is for arm64, the function for x86_64"):
        check_machine(parsed, "x86_64")


@pytest.mark.parametrize(
    "media_type", [f"{OCI}index.v1+json", f"{DOCKER}distribution.manifest.list.v2+json", None]
)
def test_an_index_is_searched_for_the_machine(media_type: str | None) -> None:
    entries = [
        {"digest": "sha256:" + "b" * 64, "platform": {"architecture": "unknown", "os": "unknown"}},
        {"digest": "sha256:" + "c" * 64, "platform": {"architecture": "amd64", "os": "windows"}},
        {"digest": DIGEST, "platform": {"architecture": "amd64", "os": "linux"}},
    ]
    index = {"schemaVersion": 2, "manifests": entries}
    if media_type:
        index["mediaType"] = media_type
    assert choose_manifest(index, "x86_64") == "a" * 64
    with pytest.raises(BadImage, match="nothing for linux on arm64"):
        choose_manifest(index, "arm64")


@pytest.mark.parametrize(
    "document",
    [
        {"schemaVersion": 1, "name": "old"},
        {"schemaVersion": 2, "mediaType": f"{OCI}artifact.v1+json"},
        {"mediaType": f"{DOCKER}distribution.manifest.v1+prettyjws", "schemaVersion": 2},
        {},
    ],
)
def test_other_documents_are_not_supported(document: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedImage):
        choose_manifest(document, "x86_64")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}x"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        parse_document(data)


def change(member: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update({member: value})


def change_layer(**members: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["layers"][0].update(members)


MANIFESTS_NOT_IN_ORDER: dict[str, Callable[[dict[str, Any]], None]] = {
    "no configuration": change("config", None),
    "no layers": change("layers", []),
    "layers that are none": change("layers", ["x"]),
    "layers without end": change("layers", [{}] * 128),
    "digest of another kind": change_layer(digest="sha512:" + "a" * 128),
    "digest that is a path": change_layer(digest="sha256:../../etc/passwd"),
    "negative size": change_layer(size=-1),
    "size that is none": change_layer(size="1"),
    "larger than allowed": change_layer(size=limits.IMAGE_UNPACKED_MAX_BYTES + 1),
    "huge configuration": lambda m: m["config"].update(size=limits.IMAGE_MANIFEST_MAX_BYTES + 1),
}


@pytest.mark.parametrize("spoil", MANIFESTS_NOT_IN_ORDER.values(), ids=MANIFESTS_NOT_IN_ORDER)
def test_a_manifest_that_is_not_in_order_is_refused(
    spoil: Callable[[dict[str, Any]], None],
) -> None:
    manifest, _ = documents()
    spoil(manifest)
    with pytest.raises(BadImage):
        parse_manifest(manifest)


@pytest.mark.parametrize(
    "media_type",
    [f"{OCI}layer.v1.tar+zstd", f"{DOCKER}image.rootfs.foreign.diff.tar.gzip", "text/plain", None],
)
def test_other_layers_are_not_supported(media_type: str | None) -> None:
    manifest, _ = documents()
    manifest["layers"][0]["mediaType"] = media_type
    with pytest.raises(UnsupportedImage):
        parse_manifest(manifest)


CONFIGURATIONS_NOT_IN_ORDER = [
    {"rootfs": None},
    {"rootfs": {"diff_ids": ["x"]}},
    {"config": ["x"]},
    {"config": {"Env": "A=1"}},
    {"config": {"Cmd": [1]}},
    {"config": {"Cmd": ["x"] * 2_000}},
    {"config": {"Entrypoint": ["a\0b"]}},
    {"config": {"WorkingDir": 7}},
    {"config": {"WorkingDir": "x" * 70_000}},
    {"config": {"Cmd": ["\ud800"]}},
    {"config": {"Env": ["A=" + "\u20ac" * 12_000]}},
]


@pytest.mark.parametrize("members", CONFIGURATIONS_NOT_IN_ORDER)
def test_a_configuration_that_is_not_in_order_is_refused(members: dict[str, Any]) -> None:
    _, configuration = documents()
    with pytest.raises(BadImage):
        parse_configuration({**configuration, **members})


def test_manifest_and_configuration_must_fit() -> None:
    manifest, configuration = documents()
    configuration["rootfs"]["diff_ids"] *= 2
    with pytest.raises(BadImage, match="differ"):
        join_layers(parse_manifest(manifest), parse_configuration(configuration))


def test_hostile_values_are_shown_as_plain_text() -> None:
    manifest, configuration = documents()
    with pytest.raises(UnsupportedImage) as caught:
        choose_manifest({**manifest, "mediaType": "\ud800\n" * 1_000}, "x86_64")
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 1_000
    parsed = parse_configuration({**configuration, "architecture": "\udfff" * 500})
    with pytest.raises(BadImage) as refused:
        check_machine(parsed, "x86_64")
    assert refused.value.message.isascii()


KNOWN = [DIGEST, f"{OCI}config.v1+json", f"{OCI}layer.v1.tar+gzip", "amd64", "linux"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(KNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
BLOBS = st.fixed_dictionaries({}, optional={"mediaType": JSON, "digest": JSON, "size": JSON})
ENTRIES = st.fixed_dictionaries({}, optional={"platform": JSON, "digest": JSON})
ROOTS = st.fixed_dictionaries({}, optional={"diff_ids": st.lists(JSON)})
TEXTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("Entrypoint", "Cmd", "Env", "WorkingDir"), JSON)
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.just(2) | JSON,
        "mediaType": JSON,
        "config": BLOBS | TEXTS | JSON,
        "layers": st.lists(BLOBS | JSON, max_size=3) | JSON,
        "manifests": st.lists(ENTRIES | JSON, max_size=3) | JSON,
        "rootfs": ROOTS | JSON,
        "architecture": JSON,
    },
)


def refusals(text: str) -> list[str]:
    """What is said of a document that is taken for each kind."""
    found = []
    for parse in (
        lambda document: choose_manifest(document, "x86_64"),
        parse_manifest,
        parse_configuration,
    ):
        try:
            parse(parse_document(text.encode()))
        except (BadImage, UnsupportedImage) as error:
            found.append(str(error))
    return found


@settings(max_examples=400)
@given(document=DOCUMENTS)
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    for sentence in refusals(json.dumps(document)):
        assert sentence.isascii()
        assert len(sentence) < 500


@pytest.mark.parametrize("depth", [100, 500, 900, 1_000, 5_000, 20_000, 200_000])
@pytest.mark.parametrize("member", ["mediaType", "architecture", "config", "layers", "manifests"])
def test_documents_of_any_depth_are_read_or_refused(member: str, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    root = '"schemaVersion": 2, "rootfs": {"diff_ids": []}'
    for sentence in refusals(f'{{{root}, "{member}": {nested}}}'):
        assert len(sentence) < 500
