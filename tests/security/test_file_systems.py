"""Directories of the host that functions share: written to by all, and no way to anywhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxes import PYTHON, Box, BoxMaker, MakeDriver, make_owned_directory
from firelet.model.errors import FileSystemMountFailure
from firelet.sandbox.driver import SandboxDriver

ARN = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0"
OTHER = ARN.replace("fsap-0", "fsap-1")
SHARED = ((ARN, "/mnt/shared"),)
OWNER = 54_321


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_owned_directory(tmp_path / "shared", OWNER)


@pytest.fixture
async def sharing(
    make_driver: MakeDriver, directory: Path, tmp_path: Path
) -> AsyncIterator[SandboxDriver]:
    """A driver with two file systems, one of whose directories is missing."""
    driver = make_driver(file_systems={ARN: directory, OTHER: tmp_path / "missing"})
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def make_sharer(sharing: SandboxDriver) -> AsyncIterator[BoxMaker]:
    maker = BoxMaker(sharing)
    yield maker
    await maker.close()


@pytest.fixture
async def sharer(make_sharer: BoxMaker) -> Box:
    return await make_sharer(PYTHON, file_systems=SHARED)


async def test_functions_work_on_each_other_s_files(make_sharer: BoxMaker, directory: Path) -> None:
    one = await make_sharer(PYTHON, file_systems=SHARED)
    two = await make_sharer(PYTHON, file_systems=((ARN, "/mnt/elsewhere"),))
    ran = await one.run_shell(
        "cd /mnt/shared; umask 077; echo one > file; mkdir sub; stat -c %u:%g file; id -u; id -g"
    )
    seen, user, group = ran.output.split()
    assert seen == f"{user}:{group}"
    ran = await two.run_shell("cd /mnt/elsewhere; cat file; echo two >> file; touch sub/more")
    assert ran.output == "one\n"
    ran = await one.run_shell("cd /mnt/shared; cat file; ls sub; rm -r sub")
    assert ran.output == "one\ntwo\nmore\n"
    owner = directory.stat()
    made = (directory / "file").stat()
    assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)
    assert os.listdir(directory) == ["file"]


async def test_files_of_the_host_are_seen(sharer: Box, directory: Path) -> None:
    (directory / "data").write_text("of the host")
    assert (await sharer.run_shell("cat /mnt/shared/data")).output == "of the host"


async def test_nothing_else_of_mnt_can_be_written(sharer: Box) -> None:
    ran = await sharer.run_shell("touch /mnt/x; mkdir /mnt/y; rmdir /mnt/shared; ls /mnt")
    assert ran.output.splitlines()[-1] == "shared"
    assert ran.output.count("Read-only file system") + ran.output.count("busy") >= 2


async def test_what_lies_there_has_no_special_rights(sharer: Box) -> None:
    ran = await sharer.run_shell("grep ' /mnt/shared ' /proc/mounts | cut -d' ' -f4")
    assert {"rw", "nosuid", "nodev"} <= set(ran.output.strip().split(","))


async def test_links_lead_to_the_sandbox_s_own_files(sharer: Box, directory: Path) -> None:
    secret = directory.parent / "secret"
    secret.write_text("of the host")
    (directory / "up").symlink_to("../secret")
    (directory / "absolute").symlink_to(secret)
    (directory / "hostname").symlink_to("/etc/hostname")
    ran = await sharer.run_shell("cd /mnt/shared; cat up absolute hostname 2>/dev/null")
    assert ran.output == "sandbox\n"


async def test_a_function_that_did_not_ask_sees_nothing(
    make_sharer: BoxMaker, directory: Path
) -> None:
    box = await make_sharer(PYTHON)
    ran = await box.run_shell(f"ls /mnt /.firelet {directory}; grep {directory.name} /proc/mounts")
    assert "shared" not in ran.output.replace(str(directory), "")


async def test_a_directory_that_is_not_there_fails_its_functions_alone(
    make_sharer: BoxMaker,
) -> None:
    with pytest.raises(FileSystemMountFailure, match="No such file or directory"):
        await make_sharer(PYTHON, file_systems=((OTHER, "/mnt/other"),))
    assert (await (await make_sharer(PYTHON)).run_shell("echo runs")).output == "runs\n"


@pytest.mark.parametrize("path", ["/mnt/..", "/mnt/.", "/mnt"])
async def test_no_mount_point_is_outside_mnt(make_sharer: BoxMaker, path: str) -> None:
    """The platform refuses such paths long before; this is what holds if one gets by."""
    with pytest.raises(FileSystemMountFailure):
        await make_sharer(PYTHON, file_systems=((ARN, path),))


async def test_a_directory_of_another_user_stays_closed(
    sharer: Box, directory: Path, needs_root: None
) -> None:
    (directory / "private").mkdir(mode=0o700)  # root's
    (directory / "private" / "file").write_text("closed")
    ran = await sharer.run_shell("cat /mnt/shared/private/file; chown $(id -u) /mnt/shared/private")
    assert ran.output.count("Permission denied") == 1
    private = (directory / "private").stat()
    assert (private.st_uid, stat.S_IMODE(private.st_mode)) == (0, 0o700)
