"""The plan of a runtime's base root: what a sandbox can see, as data. Pure but for looking at
which of the host's paths exist; ``guest.base_root`` carries the plan out.

The host contributes /usr (with its /bin and /lib links), the interpreter's prefix at /var/lang,
the certificate bundle, and nothing else; /etc is written here from nothing.
Source: the layout of the Lambda execution environment, reference of the runtimes (AWS).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelet.model.layout import (
    CLIENT,
    DEBUGGER_PATH,
    JAVA_CLIENT,
    LIBRARY_PATH,
    PYTHON_BOOTSTRAP,
    ZYGOTE,
)
from firelet.sandbox.interpreters import Interpreter

HIDDEN = "/.firelet"
HOSTNAME = "sandbox"

# What the dynamic linker and the C library read once, when a process starts.
START_ENVIRONMENT = {
    "LD_LIBRARY_PATH": LIBRARY_PATH,
    "LANG": "en_US.UTF-8",
    "LC_CTYPE": "C.UTF-8",
}

_DEVICES = ("null", "zero", "full", "random", "urandom")
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_SDK = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
# AWS's registry of SnapStart hooks, which is part of its Python runtimes.
_HOOKS = "snapshot_restore_py"
# Out of the way of functions, which may bring their own; on the path of a debugged one only.
_DEBUGGER = "debugpy"
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

_FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n",
    "/etc/group": "root:x:0:\n",
    "/etc/hosts": f"127.0.0.1 localhost sandbox.localdomain {HOSTNAME}\n",
    "/etc/hostname": HOSTNAME + "\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "/etc/os-release": 'NAME="firelet"\nID=firelet\nPRETTY_NAME="firelet sandbox"\n',
    "/etc/protocols": "tcp 6 TCP\nudp 17 UDP\n",
    "/etc/services": "http 80/tcp\nhttps 443/tcp\ndomain 53/udp\n",
}
_LINKS = {
    "/etc/localtime": "/usr/share/zoneinfo/UTC",
    "/etc/mtab": "/proc/mounts",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_DIRECTORIES = {
    "/dev": 0o755,
    "/etc/ssl/certs": 0o755,
    "/mnt": 0o755,
    "/opt/lib": 0o755,
    "/proc": 0o555,
    "/tmp": 0o1777,  # noqa: S108 - a mount point inside the sandbox
    "/var/lang": 0o755,
    "/var/runtime/lib": 0o755,
    "/var/task/lib": 0o755,
    "/var/tmp": 0o755,  # noqa: S108
    HIDDEN: 0o700,
}


@dataclass(frozen=True, slots=True)
class RootPlan:
    """What ``guest.base_root`` is told. ``binds`` are (path in the root, path on the host);
    ``covers`` are paths that an empty file system hides."""

    directories: tuple[tuple[str, int], ...]
    files: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    binds: tuple[tuple[str, str], ...]
    covers: tuple[str, ...]
    interpreter: str
    is_rootless: bool

    def message(self) -> dict[str, Any]:
        """The plan in the form in which it travels to the guest."""
        return {
            "directories": self.directories,
            "files": self.files,
            "links": self.links,
            "binds": self.binds,
            "covers": self.covers,
            "devices": _DEVICES,
            "hidden": HIDDEN,
            "proc": f"{HIDDEN}/proc",
            "interpreter": self.interpreter,
            "zygote": ZYGOTE,
            "environment": START_ENVIRONMENT,
            "rootless": self.is_rootless,
        }


def plan_root(
    interpreter: Interpreter,
    code_store: Path,
    *,
    is_rootless: bool,
    file_systems: Mapping[str, Path] | None = None,
    java_client: Path | None = None,
    resolver: str | None = None,
) -> RootPlan:
    """The base root for one interpreter. ``code_store`` holds extracted packages by digest;
    ``file_systems`` are directories that sandboxes may share, by ARN. One that is not there is left
    out: it must not keep the functions that do not want it from running."""
    links = dict(_LINKS)
    binds: dict[str, str] = {"/usr": "/usr", f"{HIDDEN}/code": str(code_store)}
    for name in _USR_LINKS:
        host = Path("/", name)
        if host.is_symlink():
            links[str(host)] = str(host.readlink())
        elif host.is_dir():
            binds[str(host)] = str(host)
    for arn, directory in (file_systems or {}).items():
        if directory.is_dir():
            binds[file_system_source(arn)] = str(directory)
    binds.update(_client_binds())
    binds.update(_certificate_binds())
    if interpreter.prefix is not None:
        binds["/var/lang"] = str(interpreter.prefix)
    if interpreter.family == "java":
        assert java_client is not None
        binds[JAVA_CLIENT] = str(java_client)
        binds.update(_java_binds(interpreter.prefix))
    if interpreter.family == "ruby" and not _is_below_usr(interpreter.prefix):
        # A Ruby finds its library by the path that it was built for.
        binds[str(interpreter.prefix)] = str(interpreter.prefix)
    if interpreter.family == "python":
        zygote = f"/var/lang/{interpreter.executable}"
        binds.update(_python_binds(interpreter))
    else:
        # A runtime that cannot fork is started by the platform's own Python, which the sandbox
        # no longer sees once the hidden directory is detached.
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        binds[f"{HIDDEN}/lang"] = sys.base_prefix
        zygote = f"{HIDDEN}/lang/bin/{name}"
    return RootPlan(
        directories=tuple(_DIRECTORIES.items()),
        files=(*_FILES.items(), ("/etc/resolv.conf", _name_servers(resolver))),
        links=tuple(links.items()),
        binds=tuple(binds.items()),
        covers=_covers(interpreter),
        interpreter=zygote,
        is_rootless=is_rootless,
    )


def _name_servers(resolver: str | None) -> str:
    """Without one nothing answers, and nobody is to wait for that."""
    if resolver is not None:
        return f"nameserver {resolver}\n"
    return "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"


def file_system_source(arn: str) -> str:
    """Where the directory behind an access point lies in the hidden store. A digest, because an
    ARN has characters that paths do not."""
    return f"{HIDDEN}/file_systems/{hashlib.sha256(arn.encode()).hexdigest()}"


def _is_below_usr(path: Path | None) -> bool:
    return path is not None and path.is_relative_to("/usr")


def _java_binds(home: Path | None) -> dict[str, str]:
    """Where a distribution keeps what its JDK only links to: its settings and certificates."""
    assert home is not None
    targets = {link.readlink() for link in home.rglob("*") if link.is_symlink()}
    folders = {Path(*path.parts[:3]) for path in targets if path.is_relative_to("/etc")}
    # Of /etc/ssl, which may hold keys of the host, only the certificates for Java.
    folders = folders - {Path("/etc/ssl")} | {Path("/etc/ssl/certs/java")}
    return {str(folder): str(folder) for folder in sorted(folders) if folder.is_dir()}


def _client_binds() -> dict[str, str]:
    """firelet's own runtime clients: the same files that the zygote runs from."""
    package = Path(__file__).resolve().parent.parent
    return {
        PYTHON_BOOTSTRAP: str(package / "guest" / "python_bootstrap.py"),
        f"{CLIENT}/firelet/__init__.py": str(package / "__init__.py"),
        f"{CLIENT}/firelet/guest": str(package / "guest"),
        f"{CLIENT}/firelet/linux": str(package / "linux"),
    }


def _certificate_binds() -> dict[str, str]:
    for path in _CERTIFICATES:
        if Path(path).is_file():
            source = str(Path(path).resolve())
            return {
                "/etc/ssl/certs/ca-certificates.crt": source,
                "/etc/ssl/cert.pem": source,
                "/etc/pki/tls/certs/ca-bundle.crt": source,
            }
    return {}


def _python_binds(interpreter: Interpreter) -> dict[str, str]:
    """The AWS SDK at /var/runtime, as in AWS's Python runtimes, and the debugger."""
    binds: dict[str, str] = {}
    debugger = _module_path(_DEBUGGER)
    if debugger is not None:
        binds[f"{DEBUGGER_PATH}/{_DEBUGGER}"] = str(debugger)
    if _sdk_supports(interpreter.runtime):
        for name in (*_SDK, _HOOKS):
            source = _module_path(name)
            if source is not None:
                binds[f"/var/runtime/{source.name}"] = str(source)
    return binds


def _covers(interpreter: Interpreter) -> tuple[str, ...]:
    """Directories of the host's packages, which an empty file system hides."""
    if interpreter.family != "python" or interpreter.prefix is None:
        return ()
    relatives = (f"lib/{interpreter.runtime}/site-packages", "lib/python3/dist-packages")
    return tuple(
        f"/var/lang/{relative}"
        for relative in relatives
        if (interpreter.prefix / relative).is_dir()
    )


def _module_path(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    return path.parent if path.name == "__init__.py" else path


def _sdk_supports(runtime: str) -> bool:
    """Whether the installed boto3 accepts this version of Python, by its own metadata."""
    required = importlib.metadata.metadata("boto3").json.get("requires_python", "")
    match = re.search(r">=\s*3\.(\d+)", str(required))
    return match is None or int(runtime.rpartition(".")[2]) >= int(match[1])
