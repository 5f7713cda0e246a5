"""Download links: good for ten minutes, for one zip, from one key."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from firelet.frontend.codelink import CodeLinks
from firelet.store.blobs import BlobStore
from firelet.wire.http1 import Request, Response
from registry_parts import ZIP


class Clock:
    """Seconds since the epoch, moved by hand."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def links(blobs: BlobStore, clock: Clock) -> CodeLinks:
    return CodeLinks(b"k" * 32, blobs, clock)


async def get(links: CodeLinks, url: str, method: bytes = b"GET") -> Response:
    return await links.page(Request(method, urlsplit(url).path.encode(), {}, b"", ""))


async def test_a_link_gives_the_zip_until_it_expires(
    links: CodeLinks, blobs: BlobStore, clock: Clock
) -> None:
    url = links.make("http://host:4566/", await blobs.put(ZIP))
    assert url.startswith("http://host:4566/_firelet/code/")
    clock.now += 600
    page = await get(links, url)
    assert (page.status, page.body) == (200, ZIP)
    assert (b"content-type", b"application/zip") in page.headers
    clock.now += 1
    expired = await get(links, url)
    assert expired.status == 403
    assert b"<Code>AccessDenied</Code><Message>Request has expired</Message>" in expired.body


async def test_a_link_that_was_changed_is_denied(links: CodeLinks, blobs: BlobStore) -> None:
    url = links.make("http://host", await blobs.put(ZIP))
    for changed in (url[:-1], url[:-4] + "AAAA", url[:-50] + "B" + url[-49:], url + "AAAA"):
        page = await get(links, changed)
        assert page.status == 403
        assert b"AccessDenied" in page.body


@pytest.mark.parametrize("token", ["", "%%%", "a" * 5, "/../x"])
async def test_nonsense_is_denied(links: CodeLinks, token: str) -> None:
    assert (await get(links, f"http://host/_firelet/code/{token}")).status == 403


async def test_another_key_and_other_methods_do_not_work(
    links: CodeLinks, blobs: BlobStore, clock: Clock
) -> None:
    url = CodeLinks(b"x" * 32, blobs, clock).make("http://host", await blobs.put(ZIP))
    assert (await get(links, url)).status == 403
    assert (await get(links, url, b"POST")).status == 405


async def test_code_that_was_deleted_is_no_such_key(links: CodeLinks) -> None:
    assert (await get(links, links.make("http://host", "0" * 64))).status == 404
