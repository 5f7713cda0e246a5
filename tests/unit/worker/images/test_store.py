"""Images from layouts: found, checked to the last byte, kept once."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.model import limits
from firelet.model.errors import ImageFault, PlatformError, Stopping
from firelet.worker.images.errors import BadImage, ImageNotFound, UnsupportedImage
from firelet.worker.images.sources import ConfiguredSources
from firelet.worker.images.store import ImageNameInvalid, ImageStore
from image_layouts import (
    ARCHITECTURE,
    MACHINE,
    ImageParts,
    entry,
    make_index,
    make_tar,
    sha256,
    write_layout,
)

OTHER_MACHINE = {"amd64": "arm64", "arm64": "amd64"}[MACHINE]
OTHER_ARCHITECTURE = {"x86_64": "arm64", "arm64": "x86_64"}[ARCHITECTURE]
NAME = "org.opencontainers.image.ref.name"
TARS = [make_tar([entry("a", "lower")]), make_tar([entry("b", "upper")])]


@pytest.fixture
def layouts(tmp_path: Path) -> Path:
    return tmp_path / "layouts"


@pytest.fixture
async def store(tmp_path: Path, layouts: Path) -> AsyncIterator[ImageStore]:
    store = ImageStore(tmp_path / "data", ConfiguredSources({"r.example": str(layouts)}))
    await store.open()
    yield store
    await store.close()
    assert list((tmp_path / "data/images/pulls").iterdir()) == []


def put(layouts: Path, image: ImageParts, tag: str = "v1") -> str:
    digest, blobs = image.blobs()
    write_layout(layouts / "app", tag, digest, blobs)
    return digest


def spoil(layouts: Path, digest: str, data: bytes) -> None:
    (layouts / "app/blobs/sha256" / digest).write_bytes(data)


async def test_an_image_is_resolved_and_its_layers_are_stored(
    store: ImageStore, layouts: Path
) -> None:
    digest = put(layouts, ImageParts(TARS, {"Cmd": ["x"]}))
    image = await store.resolve("r.example/app:v1", ARCHITECTURE)
    assert image.digest == digest
    assert image.resolved_uri == f"r.example/app@sha256:{digest}"
    assert [layer.diff for layer in image.layers] == [sha256(tar) for tar in TARS]
    assert not any(store.blobs.contains(layer.digest) for layer in image.layers)
    await store.fetch(image)
    for layer, tar in zip(image.layers, TARS, strict=True):
        assert gzip.decompress(store.blobs.path(layer.digest).read_bytes()) == tar


async def test_what_a_tag_stood_for_can_be_fetched_after_it_has_moved(
    store: ImageStore, layouts: Path
) -> None:
    put(layouts, ImageParts(TARS[:1]))
    image = await store.resolve("r.example/app:v1", ARCHITECTURE)
    put(layouts, ImageParts(TARS[1:]))
    await store.fetch(image)
    assert store.blobs.contains(image.layers[0].digest)
    assert await store.resolve(image.resolved_uri, ARCHITECTURE) != image  # only by its name
    again = await store.resolve(image.resolved_uri, ARCHITECTURE)
    assert again.layers == image.layers


async def test_layers_that_are_here_are_not_asked_for_again(
    store: ImageStore, layouts: Path
) -> None:
    put(layouts, ImageParts(TARS))
    image = await store.resolve("r.example/app:v1", ARCHITECTURE)
    await store.fetch(image)
    for layer in image.layers:
        spoil(layouts, layer.digest, b"")
    await store.fetch(image)


async def test_an_index_gives_the_image_of_the_architecture(
    store: ImageStore, layouts: Path
) -> None:
    images = {
        MACHINE: ImageParts(TARS[:1]),
        OTHER_MACHINE: ImageParts(TARS[1:], machine=OTHER_MACHINE),
    }
    digest, blobs = make_index(images)
    write_layout(layouts / "app", "v1", digest, blobs)
    for machine, architecture in ((MACHINE, ARCHITECTURE), (OTHER_MACHINE, OTHER_ARCHITECTURE)):
        image = await store.resolve("r.example/app:v1", architecture)
        assert image.digest == images[machine].blobs()[0]


async def test_an_image_for_another_machine_is_refused(store: ImageStore, layouts: Path) -> None:
    put(layouts, ImageParts(TARS, machine=OTHER_MACHINE))
    with pytest.raises(BadImage, match=f"for {OTHER_MACHINE}"):
        await store.resolve("r.example/app:v1", ARCHITECTURE)


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("app:v1", ImageNameInvalid),
        ("r.example/app", ImageNameInvalid),
        ("elsewhere.example/app:v1", ImageNameInvalid),
        ("localhost.example:80/app:v1", ImageNameInvalid),
        ("localhost/app:v1", ImageNameInvalid),
        ("127.example:80/app:v1", ImageNameInvalid),
        ("10.0.0.1:80/app:v1", ImageNameInvalid),
        ("r.example/app:v2", ImageNotFound),
        ("r.example/other:v1", ImageNotFound),
        (f"r.example/app@sha256:{'0' * 64}", ImageNotFound),
    ],
)
async def test_what_is_not_there_is_not_found(
    store: ImageStore, layouts: Path, uri: str, error: type[ImageFault]
) -> None:
    put(layouts, ImageParts(TARS))
    with pytest.raises(error):
        await store.resolve(uri, ARCHITECTURE)


async def test_documents_that_differ_from_their_digest_are_refused(
    store: ImageStore, layouts: Path
) -> None:
    digest = put(layouts, ImageParts(TARS))
    manifest = layouts / "app/blobs/sha256" / digest
    config = json.loads(manifest.read_bytes())["config"]
    kept = (layouts / "app/blobs/sha256" / config["digest"].removeprefix("sha256:")).read_bytes()
    spoil(layouts, config["digest"].removeprefix("sha256:"), kept.replace(b"linux", b"LINUX"))
    with pytest.raises(BadImage, match="another digest"):
        await store.resolve("r.example/app:v1", ARCHITECTURE)
    spoil(layouts, digest, manifest.read_bytes() + b" ")
    with pytest.raises(BadImage, match="another digest"):
        await store.resolve(f"r.example/app@sha256:{digest}", ARCHITECTURE)


INDEXES_NOT_IN_ORDER = [
    [{"digest": "sha256:../../../../secret", "annotations": {NAME: "v1"}}],
    [{"annotations": {NAME: "v1"}}],
    [1],
    {"v1": 1},
]


@pytest.mark.parametrize("entries", INDEXES_NOT_IN_ORDER)
async def test_an_index_of_a_layout_that_is_not_in_order_is_refused(
    store: ImageStore, layouts: Path, entries: Any
) -> None:
    put(layouts, ImageParts(TARS))
    (layouts.parent / "secret").write_text("{}")
    (layouts / "app/index.json").write_text(json.dumps({"manifests": entries}))
    with pytest.raises(BadImage):
        await store.resolve("r.example/app:v1", ARCHITECTURE)


async def test_annotations_that_are_none_are_passed_over(store: ImageStore, layouts: Path) -> None:
    put(layouts, ImageParts(TARS))
    index = layouts / "app/index.json"
    entries = json.loads(index.read_text())["manifests"]
    odd = [{"annotations": []}, {"annotations": {NAME: 1}}, {}]
    index.write_text(json.dumps({"manifests": odd + entries}))
    assert await store.resolve("r.example/app:v1", ARCHITECTURE)


async def test_a_manifest_without_end_is_not_read(store: ImageStore, layouts: Path) -> None:
    digest = put(layouts, ImageParts(TARS))
    with (layouts / "app/blobs/sha256" / digest).open("wb") as file:
        file.truncate(100 * limits.MIB)
    with pytest.raises(BadImage, match="too large"):
        await store.resolve("r.example/app:v1", ARCHITECTURE)


BLOBS_NOT_IN_ORDER = {
    "another digest": (lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]), "decompressed"),
    "another name": (lambda _: gzip.compress(TARS[0]), "another digest|longer|short"),
    "cut short": (lambda blob: blob[:-1], "cut short"),
    "too long": (lambda blob: blob + b"x" * 1_000_000, "longer than its manifest says"),
    "nothing": (lambda _: b"", "cut short"),
}


@pytest.mark.parametrize(
    ("change", "sentence"), BLOBS_NOT_IN_ORDER.values(), ids=BLOBS_NOT_IN_ORDER
)
async def test_layers_that_differ_from_their_digest_are_not_stored(
    store: ImageStore, layouts: Path, change: Any, sentence: str
) -> None:
    put(layouts, ImageParts(TARS))
    image = await store.resolve("r.example/app:v1", ARCHITECTURE)
    first, second = (layer.digest for layer in image.layers)
    spoil(layouts, second, change((layouts / "app/blobs/sha256" / second).read_bytes()))
    with pytest.raises(BadImage, match=sentence):
        await store.fetch(image)
    assert store.blobs.contains(first)
    assert not store.blobs.contains(second)


async def test_a_layer_that_the_configuration_does_not_know_is_refused(
    store: ImageStore, layouts: Path
) -> None:
    put(layouts, ImageParts(TARS[:1], diffs=[f"sha256:{'0' * 64}"]))
    with pytest.raises(BadImage, match="not what the configuration says"):
        await store.fetch(await store.resolve("r.example/app:v1", ARCHITECTURE))


async def test_an_image_that_is_too_large_unpacked_is_refused(
    store: ImageStore, layouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_UNPACKED_MAX_BYTES", 3_000_000)
    bombs = [make_tar([entry(name, b"0" * 2_000_000)]) for name in "ab"]
    put(layouts, ImageParts(bombs))
    with pytest.raises(BadImage, match="larger than 10 GB unpacked"):
        await store.fetch(await store.resolve("r.example/app:v1", ARCHITECTURE))


async def test_zstd_is_not_supported(store: ImageStore, layouts: Path) -> None:
    put(layouts, ImageParts([b"\x28\xb5\x2f\xfd" + b"x" * 100], compress=False))
    with pytest.raises(UnsupportedImage, match="zstd"):
        await store.fetch(await store.resolve("r.example/app:v1", ARCHITECTURE))


async def test_an_index_of_indexes_of_indexes_is_not_followed(
    store: ImageStore, layouts: Path
) -> None:
    digest, blobs = make_index({MACHINE: ImageParts(TARS)})
    for _ in range(3):
        platform = {"architecture": MACHINE, "os": "linux"}
        outer = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{"digest": f"sha256:{digest}", "size": 1, "platform": platform}],
            }
        ).encode()
        digest = sha256(outer)
        blobs[digest] = outer
    write_layout(layouts / "app", "v1", digest, blobs)
    with pytest.raises(BadImage):
        await store.resolve("r.example/app:v1", ARCHITECTURE)


async def test_the_longest_entry_of_the_table_counts(tmp_path: Path) -> None:
    digest, blobs = ImageParts(TARS).blobs()
    write_layout(tmp_path / "team" / "app", "v1", digest, blobs)
    write_layout(tmp_path / "one", "v1", digest, blobs)
    table = {
        "r.example": str(tmp_path / "nothing"),
        "r.example/team": str(tmp_path / "team"),
        "r.example/team/one/": str(tmp_path / "one"),
    }
    store = ImageStore(tmp_path / "data", ConfiguredSources(table))
    await store.open()
    for name in ("team/app", "team/one"):
        assert (await store.resolve(f"r.example/{name}:v1", ARCHITECTURE)).digest == digest
    for name in ("teams/app", "one"):
        with pytest.raises(ImageNotFound):
            await store.resolve(f"r.example/{name}:v1", ARCHITECTURE)
    await store.close()


def test_skopeo_must_be_there_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    ConfiguredSources({}, client="auto")
    with pytest.raises(PlatformError, match="skopeo is not installed"):
        ConfiguredSources({}, client="skopeo")


async def test_a_store_that_stops_takes_in_no_more(store: ImageStore, layouts: Path) -> None:
    put(layouts, ImageParts(TARS))
    image = await store.resolve("r.example/app:v1", ARCHITECTURE)
    store.interrupt()
    with pytest.raises(Stopping):
        await store.fetch(image)
    assert not any(store.blobs.contains(layer.digest) for layer in image.layers)


async def test_what_a_crash_left_half_fetched_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / "images/pulls/half"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")
    store = ImageStore(tmp_path, ConfiguredSources({}))
    await store.open()
    assert not leftover.exists()
    await store.close()
