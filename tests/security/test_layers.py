"""What layers may do to /opt, and what they cannot do to anything else."""

from __future__ import annotations

import os

import pytest

from boxes import PYTHON, Box, BoxMaker, Packages

FIRST, SECOND, THIRD = "1a" * 32, "2b" * 32, "3c" * 32
READ = """
import json, os, sys
def attempt(path):
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        return error.errno
print(json.dumps({path: attempt(path) for path in sys.argv[1:]}))
"""


async def read(box: Box, *paths: str) -> dict[str, object]:
    """The text or the listing of each path, else errno."""
    found: dict[str, object] = (await box.run_python(READ, *paths)).json()
    return found


def add(packages: Packages, digest: str, **files: str) -> None:
    """A layer; ``lib__tool`` is the file lib/tool."""
    root = packages.add(digest, {})
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


async def test_a_function_without_layers_has_an_empty_opt(box: Box) -> None:
    assert (await read(box, "/opt", "/opt/lib")) == {"/opt": ["lib"], "/opt/lib": []}


async def test_one_layer_is_all_of_opt(make_box: BoxMaker, packages: Packages) -> None:
    add(packages, FIRST, bin__tool="one", data="first")
    box = await make_box(PYTHON, layers=(FIRST,))
    found = await read(box, "/opt", "/opt/bin/tool", "/opt/data")
    assert found == {"/opt": ["bin", "data"], "/opt/bin/tool": "one", "/opt/data": "first"}


async def test_later_layers_win_file_by_file(make_box: BoxMaker, packages: Packages) -> None:
    add(packages, FIRST, lib__a="1", lib__both="1", lib__all="1")
    add(packages, SECOND, lib__b="2", lib__both="2", lib__all="2")
    add(packages, THIRD, lib__all="3")
    paths = [f"/opt/lib/{name}" for name in ("a", "b", "both", "all")]

    upwards = await read(await make_box(PYTHON, layers=(FIRST, SECOND, THIRD)), *paths)
    downwards = await read(await make_box(PYTHON, layers=(THIRD, SECOND, FIRST)), *paths)

    assert list(upwards.values()) == ["1", "2", "2", "3"]
    assert list(downwards.values()) == ["1", "2", "1", "1"]


async def test_layers_of_the_same_content_can_be_merged(
    make_box: BoxMaker, packages: Packages
) -> None:
    add(packages, FIRST, data="first")
    add(packages, SECOND, data="second")
    box = await make_box(PYTHON, layers=(FIRST, SECOND, FIRST))
    assert await read(box, "/opt/data") == {"/opt/data": "first"}
    assert await read(await make_box(PYTHON, layers=(SECOND, SECOND)), "/opt/data") == {
        "/opt/data": "second"
    }


@pytest.mark.parametrize("layers", [(FIRST,), (FIRST, SECOND)])
async def test_layers_cannot_be_changed(
    make_box: BoxMaker, packages: Packages, layers: tuple[str, ...]
) -> None:
    for digest in (FIRST, SECOND):
        add(packages, digest, data="theirs")
        os.chmod(packages.root / digest / "data", 0o666)
        os.chmod(packages.root / digest, 0o777)
    box = await make_box(PYTHON, layers=layers)
    ran = await box.run_shell(
        "echo mine > /opt/data; touch /opt/new; rm /opt/data; ln -s /tmp /opt/link;"
        " mount -o remount,rw /opt; ls /opt; cat /opt/data"
    )
    assert ran.output.splitlines()[-2:] == ["data", "theirs"]
    for digest in layers:
        assert os.listdir(packages.root / digest) == ["data"]
        assert (packages.root / digest / "data").read_text() == "theirs"


@pytest.mark.parametrize("layers", [(FIRST,), (FIRST, SECOND)])
async def test_links_in_layers_lead_to_the_sandbox_s_own_files(
    make_box: BoxMaker, packages: Packages, layers: tuple[str, ...]
) -> None:
    """The archive's rules refuse such links; this is what holds if one gets by."""
    secret = packages.root.parent / "secret"
    secret.write_text("of the host")
    add(packages, SECOND, data="second")
    hostile = packages.add(FIRST, {})
    for name, target in (
        ("etc", "/etc"),
        ("up", "../../../../.."),
        ("store", ".."),
        ("absolute", str(secret)),
        ("relative", "../../secret"),
        ("opt", "/etc"),
        ("lib", "/proc/1/root"),
        ("bootstrap", "/etc/hostname"),
    ):
        (hostile / name).symlink_to(target)
    box = await make_box(PYTHON, layers=layers)

    found = await read(
        box,
        *("/opt/etc/hostname", "/opt/up/etc/hostname", "/opt/store", "/opt/absolute"),
        *("/opt/relative", "/opt/opt/hostname", "/opt/bootstrap", "/opt/etc/shadow"),
        f"/opt/lib{secret}",
    )

    for own in ("etc/hostname", "up/etc/hostname", "opt/hostname", "bootstrap"):
        assert found[f"/opt/{own}"] == "sandbox\n"
    assert set(found["/opt/store"]) >= {"opt", "proc", "tmp"}  # type: ignore[call-overload]
    for outside in ("absolute", "relative", "etc/shadow", f"lib{secret}"):
        assert found[f"/opt/{outside}"] in (2, 13)


async def test_the_store_is_hidden_under_an_overlay_too(
    make_box: BoxMaker, packages: Packages
) -> None:
    add(packages, FIRST, data="first")
    add(packages, SECOND, data="second")
    box = await make_box(PYTHON, layers=(FIRST, SECOND))
    seen_from_init = f"/proc/1/root{packages.root}"
    found = await read(box, "/.firelet", str(packages.root), seen_from_init)
    # Empty, and closed to the function where its user is not the one that the root belongs to.
    assert found["/.firelet"] in ([], 13)
    assert (found[str(packages.root)], found[seen_from_init]) == (2, 13)
