"""Memory that is served page by page: a real userfaultfd, and a program in Firecracker's part."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uffd_machine
from firelet.sandbox.microvm.page_server import PageServer
from uffd_machine import PAGE, REGION_PAGES

pytestmark = [
    pytest.mark.usefixtures("nothing_leaks"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root is missing: userfaultfd(2) needs it"),
]

FILE_PAGES = 2 * REGION_PAGES


def content_of(page: int) -> int:
    """The byte that fills it. The first region is second in the file."""
    return 1 + (page + REGION_PAGES) % FILE_PAGES


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    file = tmp_path / "memory"
    file.write_bytes(b"".join(bytes([1 + page]) * PAGE for page in range(FILE_PAGES)))
    return file


@pytest.fixture
def server(memory: Path, tmp_path: Path) -> Iterator[PageServer]:
    server = PageServer(memory, tmp_path / "pages")
    server.start()
    yield server
    server.close()
    server.close()
    assert not (tmp_path / "pages").exists()


def run(directory: Path, *steps: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, uffd_machine.__file__, str(directory / "pages"), *map(str, steps)]
    return subprocess.run(program, capture_output=True, text=True, timeout=20, check=False)


def words(ended: subprocess.CompletedProcess[str]) -> list[str]:
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_page_has_what_the_file_has(server: PageServer, tmp_path: Path) -> None:
    order = (0, 33, 31, 63, 0)
    steps = [word for page in order for word in ("read", page)]
    assert words(run(tmp_path, *steps)) == [f"{content_of(page)} {PAGE}" for page in order]
    assert server.failure is None


def test_all_of_the_memory_can_be_read(server: PageServer, memory: Path, tmp_path: Path) -> None:
    assert words(run(tmp_path, "all")) == [hashlib.sha256(memory.read_bytes()).hexdigest()]


def test_many_processors_may_ask_at_once(server: PageServer, memory: Path, tmp_path: Path) -> None:
    found = words(run(tmp_path, "race", "all"))
    assert found == [hashlib.sha256(memory.read_bytes()).hexdigest()]


def test_what_is_written_is_the_machines_own(
    server: PageServer, memory: Path, tmp_path: Path
) -> None:
    before = memory.read_bytes()
    assert words(run(tmp_path, "write", 7, "x", "read", 7))[0].startswith(f"{ord('x')} ")
    assert memory.read_bytes() == before


def test_what_was_given_back_is_zeros(server: PageServer, tmp_path: Path) -> None:
    steps = ("read", 3, "remove", 2, 2, "read", 3, "read", 2, "read", 4, "write", 2, "y", "read", 2)
    found = words(run(tmp_path, *steps))
    assert found[:4] == [
        *(f"{content_of(3)} {PAGE}", f"0 {PAGE}", f"0 {PAGE}", f"{content_of(4)} {PAGE}")
    ]
    assert found[4].startswith(f"{ord('y')} ")


def test_what_was_given_back_before_it_was_there_is_zeros(
    server: PageServer, tmp_path: Path
) -> None:
    assert words(run(tmp_path, "remove", 5, 1, "read", 5, "read", 6)) == [
        f"0 {PAGE}",
        f"{content_of(6)} {PAGE}",
    ]


def test_a_machine_that_cannot_be_served_is_ended(memory: Path, tmp_path: Path) -> None:
    os.truncate(memory, PAGE)
    server = PageServer(memory, tmp_path / "pages")
    server.start()
    assert run(tmp_path, "read", 0).returncode == -9
    server.close()
    assert server.failure is not None
    assert "beyond the memory's file" in server.failure


def test_a_server_that_nobody_asks_can_be_closed(server: PageServer) -> None:
    server.close()
    assert server.failure is None
