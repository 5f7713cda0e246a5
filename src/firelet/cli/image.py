"""``firelet image``: guest images of microVMs, built, listed and tried."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firelet.cli.failure import CliError
from firelet.cli.terminal import format_duration, print_table, progress, say

if TYPE_CHECKING:
    from firelet.sandbox.microvm.image import GuestImage, ImageStore

_DIGEST_DIGITS = 64
_MEMORY_MIB = 256
_PATIENCE_S = 60.0
_PROGRAM = "print(6 * 7)"
_ANSWER = b"42\n"

image = typer.Typer(
    name="image",
    help="Guest images of microVMs.",
    no_args_is_help=True,
)

_DataDir = Annotated[
    Path | None, typer.Option(help="Below which images are kept; else as `firelet up` has it.")
]


@image.command()
def build(
    kernel_package: Annotated[
        Path | None,
        typer.Option(
            help="A Debian package of a cloud kernel (linux-image-…-cloud-amd64).",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    base_system: Annotated[
        Path | None,
        typer.Option(
            help="A tar that mmdebstrap has written, as docs/guest-images.md says.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Fetch what is not given, by this host's apt (100 MB)."),
    ] = False,
    suite: Annotated[
        str | None, typer.Option(help="The release of the base system; else this host's.")
    ] = None,
    data_dir: _DataDir = None,
) -> None:
    """Build an image: a kernel, this host's Python for the guest's first process, and a base system
    for functions; prints its digest. Without --download the base system is that of an image that is
    there already, if none is given."""
    from firelet.model.errors import PlatformError

    if kernel_package is None and not download:
        raise CliError("say --kernel-package FILE or --download, or both")
    try:
        with tempfile.TemporaryDirectory(prefix="firelet-image-") as place:
            made = _build(
                _Parts(kernel_package, base_system, suite), download, data_dir, Path(place)
            )
    except PlatformError as error:
        raise CliError(error.message) from error
    print(made.digest)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the operator gives; None for what is to be found."""

    kernel_package: Path | None
    base_system: Path | None
    suite: str | None


def _build(parts: _Parts, download: bool, data_dir: Path | None, place: Path) -> GuestImage:
    from firelet.sandbox.microvm import base_system, initramfs, kernel

    suite = parts.suite or base_system.host_suite()
    package, archive = parts.kernel_package, parts.base_system
    if package is None:
        with progress("downloading a kernel"):
            package = kernel.download_package(place)
    if archive is None and download:
        with progress(f"downloading a base system, {suite}"):
            archive = place / "base.tar"
            base_system.fetch(suite, archive)
    store = _store(data_dir)
    with progress("building"), store.base_system(suite, archive) as base:
        if base is None:
            say(
                f"There is no base system of {suite} here: no functions can run in this image."
                " Say --download or --base-system FILE to have one."
            )
        return store.build(package, initramfs.default_python(), initramfs.find_busybox(), base)


@image.command()
def packages() -> None:
    """Print the packages of a base system, for the --include of an mmdebstrap elsewhere."""
    from firelet.sandbox.microvm import base_system

    print(",".join(base_system.PACKAGES))


@image.command(name="list")
def list_images(data_dir: _DataDir = None) -> None:
    """The images that are there, the newest first, and whether functions can run in them. Their
    files are not checked."""
    from firelet.sandbox.microvm.offer import fault_of

    rows = []
    for found in _store(data_dir).images():
        base = found.manifest.base
        files = (found.kernel, found.vmlinux, found.initrd)
        size = sum(path.stat().st_size for path in files)
        size += 0 if found.base is None else found.base.size_bytes
        rows.append(
            [
                found.digest,
                found.manifest.release,
                "-" if base is None else f"{base.suite}, python {base.python}",
                f"{size / 1_048_576:.0f} MiB",
                fault_of(found) or "ok",
            ]
        )
    if not rows:
        say(f"no images in {_directory(data_dir)}: make one with `firelet image build`")
        return
    print_table(("DIGEST", "KERNEL", "BASE SYSTEM", "SIZE", "STATE"), rows)


@image.command()
def check(
    digest: Annotated[
        str, typer.Argument(help="What `firelet image build` has printed, or its beginning.")
    ],
    data_dir: _DataDir = None,
) -> None:
    """Boot a guest, have it run a program, and end it. Exit code 1 when it does not."""
    from firelet.model.errors import PlatformError

    try:
        store = _store(data_dir)
        found = store.load(find_digest(store, digest))
        with progress("booting"), tempfile.TemporaryDirectory(prefix="firelet-vm-") as place:
            rows = asyncio.run(_boot(found, Path(place)))
    except PlatformError as error:
        raise CliError(error.message) from error
    print_table(("WHAT", "FOUND"), rows)


async def _boot(found: GuestImage, directory: Path) -> list[list[str]]:
    from time import perf_counter

    from firelet.linux.kvm import probe_kvm
    from firelet.sandbox.microvm.choice import VmmKind, choose_qemu
    from firelet.sandbox.microvm.guest_channel import GuestChannel
    from firelet.sandbox.microvm.qemu import QemuVmm
    from firelet.sandbox.microvm.vmm import VmSpec

    choice = choose_qemu(await asyncio.to_thread(probe_kvm))
    if choice.program is None:
        raise CliError(choice.reason)
    spec = VmSpec(
        kernel=found.vmlinux, initrd=found.initrd, memory_mib=_MEMORY_MIB, directory=directory
    )
    has_kvm = choice.kind is VmmKind.QEMU_KVM
    machine = QemuVmm(spec, has_kvm=has_kvm, program=choice.program)
    channel: GuestChannel | None = None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            started = perf_counter()
            await machine.boot()
            channel = GuestChannel(machine.take_channel())
            hello = await channel.hello()
            ready_s = perf_counter() - started
            started = perf_counter()
            ending = await channel.run([found.manifest.python, "-ISc", _PROGRAM])
            run_s = perf_counter() - started
            channel.power_off()
            await machine.wait()
    except TimeoutError:
        tail = machine.console.text()[-2_000:]
        raise CliError(f"the guest was not through after {_PATIENCE_S:g} s: {tail}") from None
    finally:
        if channel is not None:
            channel.close()
        await machine.stop()
    if ending.code != 0 or ending.output != _ANSWER:
        raise CliError(f"a program of the guest ended with {ending}")
    return [
        ["machine", f"{choice.kind.value if choice.kind else ''} ({choice.reason})"],
        ["kernel", hello.kernel],
        ["python", hello.python],
        ["ready after", format_duration(ready_s)],
        ["a program took", format_duration(run_s)],
    ]


def _directory(data_dir: Path | None) -> Path:
    """Where the platform looks for images."""
    from firelet.app.config import load_config
    from firelet.model.errors import PlatformError

    try:
        return load_config({"data_dir": data_dir}).microvms.images
    except PlatformError as error:
        raise CliError(error.message) from error


def _store(data_dir: Path | None) -> ImageStore:
    from firelet.sandbox.microvm.image import ImageStore

    return ImageStore(_directory(data_dir))


def find_digest(store: ImageStore, text: str) -> str:
    """What ``text`` is the beginning of."""
    if len(text) == _DIGEST_DIGITS:
        return text
    found = [image.digest for image in store.images() if image.digest.startswith(text)]
    if len(found) != 1:
        count = "no image" if not found else f"{len(found)} images"
        raise CliError(f"{text!r} is the beginning of {count}: `firelet image list`")
    return found[0]
