"""What must be right before a platform starts: its address, the walls of the host, its directories.

A host or a configuration that does not allow it is refused with a PlatformError that says why;
never a silent fall-back to less. It starts nothing. Called by ``standalone``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from firelet.app.config import PlatformConfig
from firelet.model.errors import PlatformError
from firelet.model.isolation import Isolation
from firelet.sandbox.host import HostFacts
from firelet.sandbox.microvm.offer import MicrovmProbe

log = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "localhost")


def check_address(config: PlatformConfig) -> None:
    if not config.host.startswith(_LOOPBACK):
        raise PlatformError(
            f"firelet does not listen on {config.host}: signatures are not enforced in this"
            " version, so only loopback addresses are served."
        )


def check_walls(facts: HostFacts, config: PlatformConfig) -> None:
    """Refuses a host that cannot keep the walls; never a silent fall-back to less."""
    missing = facts.missing()
    if missing:
        raise PlatformError(
            "; ".join(f"{item.name}: {item.detail} ({item.consequence})" for item in missing)
        )
    for item in facts.weaker():
        if item.name not in config.accept:
            raise PlatformError(
                f"{item.name}: {item.detail}. Without it {item.consequence}."
                f" To run all the same: --accept {item.name}"
            )
        log.warning("running with weaker isolation: %s: %s", item.name, item.consequence)


def check_isolation(isolation: Isolation, microvms: MicrovmProbe) -> None:
    """Refuses to run functions in microVMs where those cannot be. IsolationMissing says why."""
    if isolation is Isolation.MICROVM:
        microvms.find().check()


def check_file_systems(directories: Mapping[str, Path], is_rootless: bool) -> None:
    """Refuses directories that functions could not use, or not safely. PlatformError."""
    for arn, directory in directories.items():
        if not directory.is_absolute() or not directory.is_dir():
            raise PlatformError(f"The file system {arn} is at {directory}: not a directory.")
        owner = directory.stat()
        if not is_rootless and 0 in (owner.st_uid, owner.st_gid):
            raise PlatformError(
                f"The file system {arn} is at {directory}, which belongs to root. Functions act as"
                " the owner of the directory: give it to a user and a group without rights (chown"
                " USER:GROUP)."
            )


def raise_open_files() -> None:
    """Every sandbox holds about ten descriptors of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """One platform per data directory, which is made: an flock that ends with the process."""
    with ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlatformError(
                f"Another firelet is using {data_dir}. Give this one its own --data-dir."
            ) from None
        except OSError as error:
            raise PlatformError(f"{data_dir} cannot be used: {error.strerror}") from None
        yield
