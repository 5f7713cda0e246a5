"""QEMU with KVM where the host has none: in an emulated guest, whose processor can do it.

It takes a minute, so that it is asked for by ``FIRELET_TEST_NESTED_KVM=1``.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import shutil
from pathlib import Path

import msgspec
import pytest

import firelet
import guest_images
from firelet.sandbox.microvm import ext4, initramfs
from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.host_tools import find_libraries, run_tool
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import Drive, VmSpec

VARIABLE = "FIRELET_TEST_NESTED_KVM"
_MISSING = guest_images.missing()
pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} is not set"),
    pytest.mark.skipif(shutil.which("mke2fs") is None, reason="mke2fs is missing"),
]

PATIENCE_S = 240.0
MEMORY_MIB = 1_024
PYTHON = initramfs.default_python()
PROGRAM = Path(__file__).with_name("nested_machine.py")
FIRMWARE = Path("/usr/share/qemu")
FIRMWARE_FILES = ("qboot.rom", "bios-microvm.bin", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin")
MODULES = ("irqbypass", "kvm", "kvm-amd")  # the emulated processor's own kind
UNUSED = ("test", "idlelib", "ensurepip", "site-packages", "dist-packages", "__pycache__", "*.a")
KVM_GROUP = 108
COMMANDS = f"""
set -e
mkdir /run/host
mount -t ext4 -o ro /dev/vda /run/host
for name in {" ".join(MODULES)}; do insmod /run/host/modules/$name.ko; done
chown 0:{KVM_GROUP} /dev/kvm
chmod 660 /dev/kvm
mount --bind /dev /run/host/dev
mount --bind /proc /run/host/proc
mount -t tmpfs tmpfs /run/host/tmp
export PYTHONPATH=/code PATH=/usr/bin
exec chroot /run/host {PYTHON} -B /program.py /kernel /initrd 2>&1
"""


@pytest.fixture
def image(tmp_path: Path) -> GuestImage:
    store = ImageStore(tmp_path / "images")
    return store.build(guest_images.kernel_package(), PYTHON, initramfs.find_busybox())


@pytest.fixture
def host(image: GuestImage, tmp_path: Path) -> Path:
    """A disk with what a host of machines needs: Python, QEMU, firelet and a guest image."""
    root = tmp_path / "root"
    for name in ("dev", "proc", "tmp", "modules", "code"):
        (root / name).mkdir(parents=True)
    library = Path(os.__file__).parent
    shutil.copytree(
        library, place(root, library), ignore=shutil.ignore_patterns(*UNUSED), symlinks=True
    )
    programs = [PYTHON, *(Path(f"/usr/bin/{name}") for name in (guest_images.QEMU, "setpriv"))]
    shell = Path("/bin/sh")
    extensions = [*library.glob("lib-dynload/*.so"), *Path(msgspec.__file__).parent.glob("*.so")]
    for path in (*programs, shell, *find_libraries([*programs, shell, *extensions])):
        copy(path, place(root, path))
    for name in FIRMWARE_FILES:
        copy(FIRMWARE / name, place(root, FIRMWARE / name))
    for package in (firelet, msgspec):
        source = Path(str(package.__file__)).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, root / "code" / source.name, ignore=ignored)
    for source, name in (
        (PROGRAM, "program.py"),
        (image.vmlinux, "kernel"),
        (image.initrd, "initrd"),
    ):
        copy(source, root / name)
    unpack_modules(tmp_path / "package", root / "modules")
    ext4.build(root, tmp_path / "host.ext4", image.digest)
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "package")
    return tmp_path / "host.ext4"


def place(root: Path, path: Path) -> Path:
    return root / str(path)[1:]


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def unpack_modules(package: Path, target: Path) -> None:
    run_tool("dpkg-deb", "-x", str(guest_images.kernel_package()), str(package))
    for name in MODULES:
        found = next(package.rglob(f"{name}.ko*"))
        data = found.read_bytes()
        text = lzma.decompress(data) if found.suffix == ".xz" else data
        (target / f"{name}.ko").write_bytes(text)


async def test_a_machine_boots_rests_and_is_cloned_by_kvm(
    image: GuestImage, host: Path, tmp_path: Path
) -> None:
    """As a user of its own, who is let in by the group of the device."""
    spec = VmSpec(
        kernel=image.vmlinux,
        initrd=image.initrd,
        memory_mib=MEMORY_MIB,
        directory=tmp_path,
        drives=(Drive(host),),
    )
    machine = QemuVmm(spec, has_kvm=False)
    channel: GuestChannel | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await machine.boot()
            channel = GuestChannel(machine.take_channel())
            await channel.hello()
            ending = await channel.run(["/bin/sh", "-c", COMMANDS])
    finally:
        if channel is not None:
            channel.close()
        await machine.stop()
    assert ending.code == 0, ending.output.decode()
    assert json.loads(ending.output) == ["kvm-clock\ndrive", "kept\ndrive"]
