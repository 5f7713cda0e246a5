"""Images from a registry on the loopback interface: by our own client, and by skopeo."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firelet.model import limits
from firelet.model.errors import ImageFault, Stopping
from firelet.worker.images.errors import (
    BadImage,
    ImageAccessDenied,
    ImageNotFound,
    RegistryFailed,
)
from firelet.worker.images.sources import ConfiguredSources
from firelet.worker.images.store import ImageStore
from image_layouts import ARCHITECTURE, MACHINE, ImageParts, entry, make_index, make_tar
from loopback_registry import LoopbackRegistry, credentials_for

TARS = [make_tar([entry("a", "lower")]), make_tar([entry("b", "upper" * 100_000)])]
CLIENTS = ["http", "skopeo"]

MakeStore = Callable[..., ImageStore]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    if request.param == "skopeo" and shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    return str(request.param)


@pytest.fixture
def registry() -> Iterator[LoopbackRegistry]:
    registry = LoopbackRegistry()
    registry.put("team/app", "v1", *ImageParts(TARS, is_docker=True).blobs())
    yield registry
    registry.close()


@pytest.fixture
async def make_store(tmp_path: Path, registry: LoopbackRegistry) -> AsyncIterator[MakeStore]:
    made: list[ImageStore] = []

    def make(client: str, *, is_known: bool = False, **table: str) -> ImageStore:
        credentials = tmp_path / "config.json"
        credentials.write_text(credentials_for(registry.host))
        sources = ConfiguredSources(table, credentials if is_known else None, client)
        (tmp_path / "data/images/pulls").mkdir(parents=True)
        made.append(ImageStore(tmp_path / "data", sources))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def fetch(store: ImageStore, uri: str) -> None:
    image = await store.resolve(uri, ARCHITECTURE)
    await store.fetch(image)
    assert all(store.blobs.contains(layer.digest) for layer in image.layers)


async def test_an_image_comes_by_tag_and_by_digest(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    store = make_store(client)
    name = f"{registry.host}/team/app"
    image = await store.resolve(f"{name}:v1", ARCHITECTURE)
    assert image.digest == registry.tags["team/app", "v1"]
    assert await store.resolve(image.resolved_uri, ARCHITECTURE)
    await fetch(store, f"{name}:v1")
    assert registry.requests


async def test_an_index_is_followed(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    image = ImageParts(TARS)
    registry.put("team/multi", "v1", *make_index({"s390x": ImageParts(TARS[:1]), MACHINE: image}))
    store = make_store(client)
    found = await store.resolve(f"{registry.host}/team/multi:v1", ARCHITECTURE)
    assert found.digest == image.blobs()[0]
    await store.fetch(found)


@pytest.mark.parametrize("wants", ["basic", "bearer"])
async def test_a_registry_may_want_a_login(
    registry: LoopbackRegistry, make_store: MakeStore, client: str, wants: str
) -> None:
    registry.wants = wants
    await fetch(make_store(client, is_known=True), f"{registry.host}/team/app:v1")
    assert bool(registry.asked_for("/token")) is (wants == "bearer")


@pytest.mark.parametrize("wants", ["basic", "bearer"])
async def test_without_a_login_access_is_denied(
    registry: LoopbackRegistry, make_store: MakeStore, client: str, wants: str
) -> None:
    registry.wants = wants
    with pytest.raises(ImageAccessDenied):
        await fetch(make_store(client), f"{registry.host}/team/app:v1")


async def test_what_is_not_there_is_not_found(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    store = make_store(client)
    for name in ("team/app:v2", "team/other:v1", f"team/app@sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFound):
            await store.resolve(f"{registry.host}/{name}", ARCHITECTURE)


async def test_what_is_under_way_ends_with_the_store(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    begun, over = threading.Event(), threading.Event()

    def stall(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        begun.set()
        over.wait(20)

    registry.answers[blob_path(registry, 0)] = stall
    store = make_store(client)
    image = await store.resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)
    fetching = asyncio.create_task(store.fetch(image))
    await asyncio.to_thread(begun.wait, 20)
    await store.close()
    with pytest.raises(Stopping):
        await fetching
    over.set()


async def test_an_image_that_many_want_is_asked_for_once(
    registry: LoopbackRegistry, make_store: MakeStore
) -> None:
    store = make_store("http")
    image = await store.resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)
    before = len(registry.requests)
    await asyncio.gather(*(store.fetch(image) for _ in range(5)))
    assert len(registry.requests) - before == len(image.layers)


async def test_a_layout_that_skopeo_made_is_read(
    registry: LoopbackRegistry, tmp_path: Path
) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    layout = tmp_path / "layouts" / "app"
    layout.parent.mkdir()
    source = f"docker://{registry.host}/team/app:v1"
    command = [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", "--src-no-creds"]
    subprocess.run([*command, source, f"oci:{layout}:v1"], check=True, capture_output=True)
    store = ImageStore(tmp_path / "data", ConfiguredSources({"r.example": str(layout.parent)}))
    await store.open()
    await fetch(store, "r.example/app:v1")
    await store.close()


async def test_a_registry_that_is_not_there_has_failed(make_store: MakeStore, client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"localhost:{unused.getsockname()[1]}"
        with pytest.raises(RegistryFailed):
            await make_store(client).resolve(f"{host}/app:v1", ARCHITECTURE)


async def test_a_name_of_the_table_goes_where_the_table_says(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    table = {"ecr.example/prod": f"http://{registry.host}/team"}
    await fetch(make_store(client, **table), "ecr.example/prod/app:v1")


def blob_path(registry: LoopbackRegistry, number: int) -> str:
    """Where the registry has the blob of a layer of its image, or its configuration (-1)."""
    digest = registry.tags["team/app", "v1"]
    names = [name for name in registry.blobs if name != digest]
    return f"/v2/team/app/blobs/sha256:{names[number + 1]}"


async def test_a_layer_with_another_digest_is_refused(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    path = blob_path(registry, 0)
    wrong = bytearray(registry.blobs[path.rpartition(":")[2]])
    wrong[-1] ^= 1
    registry.answers[path] = lambda handler: handler.give(bytes(wrong))
    with pytest.raises(ImageFault):
        await fetch(make_store(client), f"{registry.host}/team/app:v1")


async def test_a_layer_without_end_is_refused(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    registry.answers[blob_path(registry, 0)] = lambda handler: handler.give(b"x" * 50_000_000)
    with pytest.raises(ImageFault):
        await fetch(make_store(client), f"{registry.host}/team/app:v1")


async def test_a_connection_that_breaks_off_is_noticed(
    registry: LoopbackRegistry, make_store: MakeStore
) -> None:
    def cut(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("Content-Length", "1000")  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(b"x")  # type: ignore[attr-defined]
        handler.close_connection = True  # type: ignore[attr-defined]

    registry.answers[blob_path(registry, 0)] = cut
    with pytest.raises((RegistryFailed, BadImage)):
        await fetch(make_store("http"), f"{registry.host}/team/app:v1")


async def test_a_manifest_of_100_mb_is_not_read(
    registry: LoopbackRegistry, make_store: MakeStore, client: str
) -> None:
    registry.answers["/v2/team/app/manifests/v1"] = lambda handler: handler.give(
        b" " * (100 * limits.MIB)
    )
    with pytest.raises(ImageFault):
        await make_store(client).resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)


async def test_redirects_are_followed_without_the_login(
    registry: LoopbackRegistry, make_store: MakeStore
) -> None:
    registry.wants = "bearer"
    elsewhere = LoopbackRegistry()
    elsewhere.blobs.update(registry.blobs)
    try:
        for number in (-1, 0, 1):
            path = blob_path(registry, number)
            target = f"http://{elsewhere.host}{path}"
            registry.answers[path] = lambda handler, target=target: handler.give(  # type: ignore[misc]
                b"", 307, Location=target
            )
        await fetch(make_store("http", is_known=True), f"{registry.host}/team/app:v1")
        assert len(elsewhere.requests) == 3
        assert not any("authorization" in headers for _, headers in elsewhere.requests)
    finally:
        elsewhere.close()


@pytest.mark.parametrize("target", ["{path}", "ftp://localhost/x", "file:///etc/passwd", "", "//["])
async def test_redirects_that_lead_nowhere_end(
    registry: LoopbackRegistry, make_store: MakeStore, target: str
) -> None:
    path = blob_path(registry, 0)
    registry.answers[path] = lambda handler: handler.give(
        b"", 302, Location=target.format(path=path)
    )
    with pytest.raises(RegistryFailed):
        await fetch(make_store("http"), f"{registry.host}/team/app:v1")
    assert len(registry.asked_for(path)) <= limits.IMAGE_REDIRECTS_MAX + 2


CHALLENGES = [
    'Bearer realm="file:///etc/passwd"',
    'Bearer realm="ftp://localhost/token"',
    "Bearer",
    "Negotiate",
    "",
    'Bearer realm="http://localhost:1/token"',
]


@pytest.mark.parametrize("challenge", CHALLENGES)
async def test_challenges_that_lead_nowhere_end(
    registry: LoopbackRegistry, make_store: MakeStore, challenge: str
) -> None:
    registry.answers["/v2/team/app/manifests/v1"] = lambda handler: handler.give(
        b"", 401, WWW_Authenticate=challenge
    )
    store = make_store("http", is_known=True)
    with pytest.raises((ImageAccessDenied, RegistryFailed)):
        await store.resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nb"}'])
async def test_a_token_that_is_none_is_not_used(
    registry: LoopbackRegistry, make_store: MakeStore, body: bytes
) -> None:
    realm = f'Bearer realm="http://{registry.host}/odd"'
    registry.answers["/v2/team/app/manifests/v1"] = lambda handler: handler.give(
        b"", 401, WWW_Authenticate=realm
    )
    registry.answers["/odd"] = lambda handler: handler.give(body)
    with pytest.raises(RegistryFailed):
        await make_store("http").resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)


async def test_a_file_of_credentials_that_is_broken_is_told(
    tmp_path: Path, registry: LoopbackRegistry, make_store: MakeStore
) -> None:
    store = make_store("http", is_known=True)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "!"}}}))
    with pytest.raises(RegistryFailed, match="credentials"):
        await store.resolve(f"{registry.host}/team/app:v1", ARCHITECTURE)
