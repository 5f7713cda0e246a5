"""A sandbox whose root is a container image: what of the image it shows, and what it keeps out."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from boxes import SHELL, Box, BoxMaker, Packages
from firelet.sandbox.driver import LaunchFailure
from firelet.worker.images.layer import extract_layer
from image_layouts import directory, entry, make_tar, program, sha256, symlink

Entry = tuple[tarfile.TarInfo, bytes]
AddLayer = Callable[..., str]


@pytest.fixture
def add_layer(packages: Packages) -> AddLayer:
    """Unpacks a layer into the code store; its digest."""

    def add(*entries: Entry) -> str:
        tar = make_tar(entries)
        digest = sha256(tar)
        where = packages.root / digest
        where.mkdir()
        extract_layer(io.BytesIO(tar), where)
        return digest

    return add


@pytest.fixture
def shell(add_layer: AddLayer) -> str:
    """A layer with bash and nothing else."""
    return add_layer(*program("/bin/bash"), directory("etc"), entry("etc/os-release", "the image"))


async def make_image_box(make_box: BoxMaker, *layers: str) -> Box:
    return await make_box(SHELL, code="", image=layers)


async def test_the_root_is_the_image_and_what_every_sandbox_has(
    make_box: BoxMaker, shell: str
) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image("shopt -s dotglob; echo /* $(</etc/os-release)")
    assert ran.ending.code == 0
    listed = ran.output.split()
    assert {"/bin", "/dev", "/etc", "/mnt", "/proc", "/tmp", "the", "image"} <= set(listed)
    # The libraries of bash may be below /usr.
    assert not {"/home", "/root", "/var", "/opt", "/sys", "/.firelet"} & set(listed)


async def test_nothing_can_be_written_but_tmp(make_box: BoxMaker, shell: str) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image(
        """
        for place in / /bin/ /etc/ /dev/ /mnt/ /proc/ /proc/sys/kernel/; do
            (echo x > $place/new) 2>/dev/null && echo "written: $place"
        done
        (echo x >> /bin/bash) 2>/dev/null && echo "written: bash"
        (echo x >> /etc/hosts) 2>/dev/null && echo "written: hosts"
        echo fine > /tmp/new && echo "$(</tmp/new)"
        """
    )
    assert ran.output == "fine\n"


async def test_it_has_no_rights(make_box: BoxMaker, shell: str) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image('while read -r line; do echo "$line"; done < /proc/self/status')
    status = dict(line.split(":", 1) for line in ran.output.splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert all(uid != "0" for uid in status["Uid"].split())


async def test_neither_store_nor_host_are_among_its_mounts(
    make_box: BoxMaker, shell: str, data_directory: Path, packages: Packages
) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image('while read -r line; do echo "$line"; done < /proc/self/mountinfo')
    places = [line.split()[4] for line in ran.output.splitlines()]
    for place in places:
        assert place == "/" or place.startswith(("/dev/", "/proc", "/tmp")) or place == "/dev"
    assert str(packages.root) not in ran.output
    assert str(data_directory) not in ran.output
    root = next(line for line in ran.output.splitlines() if line.split()[4] == "/")
    options = root.split()[5].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)
    found = await box.run_image(
        'for p in "$@"; do [ -e "$p" ] && echo "$p"; done; true',
        str(packages.root),
        str(data_directory / "platform-secret"),
        "/.firelet/code",
        "/proc/1/root/.firelet",
        "/tmp/../../../etc/shadow",
    )
    assert found.output == ""


async def test_only_its_own_processes_are_seen(make_box: BoxMaker, shell: str) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image("echo /proc/[0-9]* $$")
    *seen, own = ran.output.split()
    assert set(seen) == {"/proc/1", f"/proc/{own}"}


async def test_an_image_cannot_bring_what_belongs_to_the_sandbox(
    make_box: BoxMaker, add_layer: AddLayer, shell: str
) -> None:
    upper = add_layer(
        entry("etc/hosts", "6.6.6.6 localhost"),
        symlink("etc/resolv.conf", "/tmp/mine"),
        symlink("tmp", "/etc"),
        symlink("proc", "/etc"),
        directory("dev"),
        entry("dev/null", "not a device"),
        directory("mnt/old"),
    )
    box = await make_image_box(make_box, shell, upper)
    ran = await box.run_image(
        """
        echo "$(</etc/hosts)"
        echo x > /dev/null; [ -c /dev/null ] && echo device
        [ -e /proc/self/status ] && echo proc
        echo y > /tmp/file && echo tmp
        """
    )
    assert "6.6.6.6" not in ran.output
    assert ran.output.startswith("127.0.0.1 localhost")
    assert ran.output.endswith("device\nproc\ntmp\n")


async def test_layers_hide_what_lies_below_them(
    make_box: BoxMaker, add_layer: AddLayer, shell: str
) -> None:
    lower = add_layer(
        entry("a/gone", "1"), entry("a/kept", "1"), entry("b/gone", "1"), entry("c", "lower")
    )
    upper = add_layer(
        entry("a/.wh.gone"), entry("b/.wh..wh..opq"), entry("b/new"), entry("c", "up")
    )
    again = add_layer(directory("b"), entry("b/gone2"))
    box = await make_image_box(make_box, lower, shell, upper, again, shell)
    ran = await box.run_image('echo /a/* /b/* "$(</c)"')
    assert ran.output.split() == ["/a/kept", "/b/gone2", "/b/new", "up"]


async def test_an_image_may_have_as_many_layers_as_docker_s(
    make_box: BoxMaker, add_layer: AddLayer, shell: str
) -> None:
    layers = [add_layer(entry(f"n{number}", "")) for number in range(126)]
    box = await make_image_box(make_box, shell, *layers)
    assert (await box.run_image("set -- /n*; echo $#")).output == "126\n"


async def test_a_set_user_id_program_gives_nothing(
    make_box: BoxMaker, add_layer: AddLayer, packages: Packages
) -> None:
    entries = program("/bin/bash")
    for info, _ in entries:
        info.mode |= 0o6000
    digest = add_layer(*entries)
    # Even if it were there: put back by hand what the layer may not bring.
    os.chmod(packages.root / digest / "bin/bash", 0o6755)
    box = await make_image_box(make_box, digest)
    ran = await box.run_image('echo "$UID $EUID"')
    uid, effective = ran.output.split()
    assert uid == effective != "0"


async def test_links_of_an_image_lead_into_the_image(
    make_box: BoxMaker, add_layer: AddLayer, shell: str, data_directory: Path
) -> None:
    links = add_layer(
        symlink("abs", str(data_directory / "platform-secret")),
        symlink("up", "../../../../../../etc/os-release"),
        symlink("init", "/proc/1/root/etc/shadow"),
    )
    box = await make_image_box(make_box, shell, links)
    ran = await box.run_image('for p in /abs /up /init; do (echo "$(<$p)") 2>/dev/null; done')
    assert ran.output.strip() == "the image"


async def test_another_image_is_another_root(
    make_box: BoxMaker, add_layer: AddLayer, shell: str
) -> None:
    one = await make_image_box(make_box, shell, add_layer(entry("mine", "one")))
    two = await make_image_box(make_box, shell)
    zipped = await make_box(SHELL)
    assert (await one.run_image("echo $(</mine); echo 1 > /tmp/one")).output == "one\n"
    assert (await two.run_image("[ -e /mine ] || [ -e /tmp/one ] || echo none")).output == "none\n"
    assert (
        await zipped.run_shell("ls /var/task; ls /mine /tmp/one 2>/dev/null")
    ).output == "app.py\n"


@pytest.mark.only_namespaces("in a machine it is told by the same pid 1")
@pytest.mark.parametrize(
    ("arguments", "where", "failure"),
    [
        (["/nowhere"], "/", LaunchFailure("exec", "/nowhere", "no such file or directory")),
        (["/etc/os-release"], "/", LaunchFailure("exec", "/etc/os-release", "permission denied")),
        (["/garbage"], "/", LaunchFailure("exec", "/garbage", "exec format error")),
        (["tool"], "/", LaunchFailure("look_up", "tool", "executable file not found in $PATH")),
        (["bash"], "/gone", LaunchFailure("chdir", "/gone", "no such file or directory")),
        (["bash"], "/garbage", LaunchFailure("chdir", "/garbage", "not a directory")),
        (["bash"], "/a\0b", LaunchFailure("chdir", "/a\0b", "invalid argument")),
        (["/bin/bash", "\0"], "/", LaunchFailure("exec", "/bin/bash", "invalid argument")),
    ],
)
async def test_what_keeps_a_program_from_starting_is_told(
    make_box: BoxMaker,
    add_layer: AddLayer,
    shell: str,
    arguments: list[str],
    where: str,
    failure: LaunchFailure,
) -> None:
    box = await make_image_box(make_box, shell, add_layer(entry("garbage", "\x7fELF?", mode=0o755)))
    box.start(*arguments, directory=where, is_image=True, PATH="/bin")
    assert (await box.ending()).launch_failure == failure
    # The sandbox is as good as before.
    assert (await box.run_image("echo again")).output == "again\n"


async def test_a_program_is_found_by_name_and_its_exit_status_is_its_own(
    make_box: BoxMaker, shell: str
) -> None:
    box = await make_image_box(make_box, shell)
    box.start("bash", "-c", "exit 126", is_image=True, directory="/", PATH="/nowhere:/bin")
    ending = await box.ending()
    assert (ending.code, ending.launch_failure) == (126, None)


async def test_nothing_of_ours_is_inherited(make_box: BoxMaker, shell: str) -> None:
    box = await make_image_box(make_box, shell)
    ran = await box.run_image("echo /proc/self/fd/*; echo $PATH; echo $LD_LIBRARY_PATH")
    descriptors = {line.rpartition("/")[2] for line in ran.output.splitlines()[0].split()}
    # The last is the one with which bash lists them.
    assert descriptors - {"0", "1", "2", "3"} in ({"4"}, set(), {"255"}, {"4", "255"})
    assert ran.output.splitlines()[1:] == ["/bin", ""]
