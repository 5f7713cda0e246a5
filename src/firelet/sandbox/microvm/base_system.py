"""The base system of guests: Debian's own packages, as far as a function may expect them and the
platform needs them, on a disk.

``mmdebstrap`` fetches the packages, with apt, which checks their signatures, and only when that is
asked for; it unpacks them and runs none of their scripts. On the disk is only /usr, into which
/bin, /sbin and the /lib directories are merged: a sandbox has its own /etc and /var. Documents,
translations and what only packaging needs is left out; the Python is compiled by itself.

The same packages give the same disk. Blocks: call it in a thread.
Source: mmdebstrap(1), the variant ``extract``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import platform
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from firelet.sandbox.microvm import bytecode, ext4, staging
from firelet.sandbox.microvm.host_tools import ImageBuildError, run_tool

# Where an interpreter of the host looks for what is its own, by paths that were built in. The disk
# has empty directories there, on which the runtime's disk can be mounted.
_MOUNT_POINTS = (
    "/usr/lib/ruby",
    "/usr/lib/{triplet}/ruby",
    "/usr/share/nodejs",
    "/usr/share/rubygems-integration",
    "/usr/local",
)
PYTHON = "usr/bin/python3"

# Those that the scripts of the packages would make.
_LINKS = (("usr/bin/awk", "mawk"), ("usr/bin/which", "which.debianutils"))

PACKAGES = (
    # What a shell script may expect.
    *("dash", "bash", "coreutils", "debianutils", "diffutils", "findutils", "grep", "gzip"),
    *("hostname", "libc-bin", "mawk", "procps", "sed", "tar", "util-linux", "bzip2", "xz-utils"),
    *("curl", "openssl", "unzip", "ca-certificates", "tzdata", "netbase"),
    # The platform's own program in the guest, for runtimes that cannot fork.
    "python3",
    # What most interpreters and compiled modules are linked to.
    *("libstdc++6", "libgcc-s1", "zlib1g", "libffi8", "libexpat1", "libyaml-0-2", "libgmp10"),
)
_RECIPE = "2"  # another one for every change of what disks look like
_OS_RELEASE = Path("/etc/os-release")
_SYSTEMS = ("debian", "ubuntu")
_TOP_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_LEFT_OUT = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian"),
    *("usr/share/bug", "usr/share/doc-base", "usr/share/bash-completion", "usr/share/menu"),
    *("usr/share/applications", "usr/share/pixmaps", "usr/share/icons", "usr/share/debconf"),
    *("usr/share/i18n", "usr/share/polkit-1", "usr/share/initramfs-tools", "usr/share/perl5"),
    *("usr/share/dpkg", "usr/lib/dpkg", "usr/lib/apt", "usr/lib/systemd", "usr/lib/udev"),
    *("usr/lib/init", "usr/lib/tmpfiles.d", "usr/lib/sysusers.d", "usr/include", "usr/src"),
    # Of openssl's and netbase's scripts. AWS's runtimes have no Perl either.
    *("usr/local", "usr/games", "usr/share/perl", "usr/bin/perl*", "usr/lib/*/perl*"),
    *("usr/lib/*/libperl.so*", "usr/lib/*/libdb-*.so"),
)
_LEFT_OUT_OF_PYTHON = frozenset(
    (
        *("__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests"),
        *("tkinter", "turtledemo"),
    )
)
_PYTHON_LIBRARY = re.compile(r"usr/lib/python3(\.\d+)?")
_VERSION = re.compile(r"python(3\.\d+)")
_SHARED = re.compile(r".+\.so(\.\d+)*")


class BaseManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``digest`` is the disk's SHA-256, ``source`` that of what it was made of. ``python`` is its
    version, as 3.11; ``libraries`` are the names of its shared libraries."""

    digest: str
    source: str
    suite: str
    python: str
    libraries: tuple[str, ...]


def host_suite() -> str:
    """The release of this host, for which its interpreters were built. ImageBuildError."""
    try:
        lines = _OS_RELEASE.read_text().splitlines()
    except OSError:
        lines = []
    values = {
        name: value.strip("\"'")
        for name, found, value in (x.partition("=") for x in lines)
        if found
    }
    suite = values.get("VERSION_CODENAME")
    if values.get("ID") not in _SYSTEMS or not suite:
        raise ImageBuildError("This host is no Debian or Ubuntu: say which --suite guests have.")
    return suite


def mount_points() -> tuple[str, ...]:
    """The paths at which a base system has an empty directory for what interpreters bring."""
    return tuple(path.format(triplet=_triplet()) for path in _MOUNT_POINTS)


def fetch(suite: str, target: Path) -> None:
    """Downloads the packages of a release and writes their files into a tar. ImageBuildError."""
    # Nothing of the packages is run, so that no rights are needed to keep that apart from the host.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    run_tool(
        "mmdebstrap",
        *("--quiet", f"--mode={mode}", "--variant=extract", "--format=tar"),
        *(f"--include={','.join(PACKAGES)}", suite, target),
        # No time in it is newer, so that it does not depend on when it was made.
        environment={"SOURCE_DATE_EPOCH": str(ext4.EPOCH)},
    )


def source_digest(archive: Path) -> str:
    """What a disk made of ``archive`` depends on. ImageBuildError."""
    try:
        with archive.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageBuildError(f"{archive} cannot be read: {error}.") from error
    return hashlib.sha256(f"{_RECIPE} {content}".encode()).hexdigest()


def build(archive: Path, suite: str, target: Path) -> BaseManifest:
    """Makes the disk ``target`` of what ``fetch`` has written. ImageBuildError."""
    source = source_digest(archive)
    with tempfile.TemporaryDirectory(prefix=".base-", dir=target.parent) as directory:
        root = Path(directory).resolve()
        try:
            _unpack(archive, root)
        except (OSError, tarfile.TarError) as error:
            reason = str(error).partition(":\n")[0]  # without what each kind of archive misses
            raise ImageBuildError(f"{archive} cannot be unpacked: {reason}.") from error
        version = _python_version(root)
        _compile(root, version)
        libraries = sorted({path.name for path in _libraries(root)})
        ext4.build(root, target, source)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BaseManifest(digest, source, suite, version, tuple(libraries))


def _unpack(archive: Path, root: Path) -> None:
    with tarfile.open(archive) as members:
        for member in _chosen(members):
            _extract(members, member, root)
    for path, target in _LINKS:
        link = root / path
        if link.with_name(target).is_file():
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    for point in mount_points():
        staging.make_directory(root / point[1:])


def _extract(members: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """What ``tarfile`` does by itself depends on its version. ImageBuildError."""
    path = root / member.name
    if not Path(os.path.realpath(path.parent)).is_relative_to(root):
        raise ImageBuildError(f"{member.name} of the base system leads out of it.")
    staging.make_directory(path if member.isdir() else path.parent)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(root / member.linkname, path)
    elif member.isfile():
        source = members.extractfile(member)
        assert source is not None, "it is a file"
        with path.open("xb") as file:
            shutil.copyfileobj(source, file)
        # Neither owners nor bits that make a program run as its owner: nothing of a sandbox may
        # become root.
        path.chmod(member.mode & 0o777)
        os.utime(path, (member.mtime, member.mtime))


def _chosen(members: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in members:
        name = _merged(member.name)
        if name is None or _is_left_out(name) or member.isdev():
            continue
        if member.islnk():
            member.linkname = _merged(member.linkname) or member.linkname
        member.name = name
        yield member


def _merged(name: str) -> str | None:
    """The path below /usr; None for what is not there."""
    parts = PurePosixPath(name).parts
    if not parts or (parts[0] == "usr" and len(parts) == 1):
        return None
    if parts[0] in _TOP_DIRECTORIES:
        # One of these that is a link already is the merge itself.
        return str(PurePosixPath("usr", *parts)) if len(parts) > 1 else None
    return str(PurePosixPath(*parts)) if parts[0] == "usr" else None


def _is_left_out(name: str) -> bool:
    if any(fnmatch.fnmatchcase(name, path + end) for path in _LEFT_OUT for end in ("", "/*")):
        return True
    parts = PurePosixPath(name).parts
    return (
        len(parts) > 3
        and _PYTHON_LIBRARY.fullmatch("/".join(parts[:3])) is not None
        and not _LEFT_OUT_OF_PYTHON.isdisjoint(parts[3:])
    )


def _python_version(root: Path) -> str:
    """Of the interpreter behind ``python3``. ImageBuildError without one."""
    try:
        match = _VERSION.fullmatch((root / PYTHON).readlink().name)
    except OSError:
        match = None
    if match is None:
        raise ImageBuildError("The base system has no python3.")
    return match[1]


def _compile(root: Path, version: str) -> None:
    """By its own interpreter, which may be of another version than this host's: started by its own
    loader, with its own libraries."""
    directory = root / "usr/lib" / _triplet()
    loader = next(iter(sorted(directory.glob("ld-linux-*"))), None)
    if loader is None:
        raise ImageBuildError(f"The base system has no programs for {platform.machine()}.")
    python: list[str | Path] = [
        loader,
        "--library-path",
        directory,
        root / f"usr/bin/python{version}",
    ]
    places = [f"usr/lib/python{version}", "usr/lib/python3"]
    trees = [(root / place, f"/{place}") for place in places if (root / place).is_dir()]
    bytecode.compile_trees(python, trees)


def _libraries(root: Path) -> Iterator[Path]:
    """Those that the loader finds by itself: in no directory of their own."""
    for directory in (
        root / "usr/lib64",
        root / "usr/lib",
        *(root / "usr/lib").glob("*-linux-gnu"),
    ):
        if directory.is_dir():
            yield from (path for path in directory.iterdir() if _SHARED.fullmatch(path.name))


def _triplet() -> str:
    """As Debian names the directory of a machine's libraries."""
    return f"{platform.machine()}-linux-gnu"
