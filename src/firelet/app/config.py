"""Configuration of the platform: one frozen value out of file, environment and flags.

Later wins: defaults, ``firelet.toml`` (table ``[firelet]``), ``FIRELET_*`` variables, flags.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.model.isolation import Isolation
from firelet.sandbox.microvm.config import IMAGES, Egress, MicrovmConfig

DEFAULT_PORT = 4566  # what awslocal, samlocal and tflocal expect
FILE_NAME = "firelet.toml"
IMAGE_CLIENTS = ("auto", "skopeo", "http")


def default_data_dir(environment: Mapping[str, str] | None = None) -> Path:
    """/var/lib/firelet for root, else the user's state directory (XDG)."""
    variables = os.environ if environment is None else environment
    if os.geteuid() == 0:
        return Path("/var/lib/firelet")
    state = variables.get("XDG_STATE_HOME")
    base = Path(state) if state else Path(variables.get("HOME", ".")) / ".local" / "state"
    return base / "firelet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformConfig:
    """Everything that can be set. ``accept`` names findings of ``firelet doctor`` that the
    operator puts up with (``cgroups``); without it firelet refuses to start with weaker walls.
    ``workers`` is how many processes make environments; with 0 or 1 it is the platform's own.
    ``stream_mib_per_s`` limits what a streamed response sends beyond its first 6 MiB; 0: no limit.
    ``file_systems`` maps the ARNs of access points to directories of the host, ``interpreters``
    runtimes to executables that serve them, whatever is found. ``signing_trust`` are files of
    certificates (PEM) that signatures of packages must lead to. ``images`` maps registries to the
    URL of a registry or to a directory of OCI layouts (``docs/images.md``).
    ``registry_credentials`` is a file as ``docker login`` writes it; ``image_client`` is auto,
    skopeo or http. ``isolation`` is that of functions whose tags ask for none; ``microvm_image`` is
    the digest of the guest image (None: the newest), ``firecracker`` the path of that program
    (``docs/isolation.md``); ``microvm_egress`` and ``microvm_resolver`` are for their network
    (``docs/microvm-network.md``)."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    data_dir: Path
    account: str = "000000000000"
    region: str = "us-east-1"
    accept: frozenset[str] = frozenset()
    embryos: int = 2
    embryos_max: int = 16
    freeze_after_s: float = limits.FREEZE_AFTER_S
    idle_stop_after_s: float = limits.IDLE_STOP_AFTER_S
    environment_lifetime_s: float = limits.ENVIRONMENT_LIFETIME_S
    account_concurrency: int = limits.ACCOUNT_CONCURRENCY
    memory_overcommit: float = limits.MEMORY_OVERCOMMIT
    scale_in_after_s: float = limits.SCALE_IN_AFTER_S
    reference_look_every_s: float = limits.REFERENCE_LOOK_EVERY_S
    s3_endpoint: str | None = None
    drain_s: float = 5.0
    workers: int = 0
    stream_mib_per_s: float = 0.0
    websocket_idle_s: float = limits.WEBSOCKET_IDLE_S
    websocket_lifetime_s: float = limits.WEBSOCKET_LIFETIME_S
    file_systems: Mapping[str, Path] = field(default_factory=dict)
    interpreters: Mapping[str, Path] = field(default_factory=dict)
    signing_trust: tuple[Path, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    registry_credentials: Path | None = None
    image_client: str = "auto"
    isolation: Isolation = Isolation.NAMESPACES
    microvm_image: str | None = None
    firecracker: Path | None = None
    microvm_egress: Egress = Egress.NONE
    microvm_resolver: IPv4Address | None = None

    @property
    def microvms(self) -> MicrovmConfig:
        """What is set about them."""
        return MicrovmConfig(
            images=self.data_dir.absolute() / IMAGES,
            image=self.microvm_image,
            firecracker=self.firecracker,
            egress=self.microvm_egress,
            resolver=self.microvm_resolver,
        )

    @property
    def stream_bytes_per_s(self) -> float | None:
        """None: as fast as it goes."""
        return self.stream_mib_per_s * limits.MIB or None


def _parse_names(value: Any) -> frozenset[str]:
    parts = value.split(",") if isinstance(value, str) else value
    return frozenset(str(part).strip() for part in parts if str(part).strip())


def _parse_ratio(value: Any) -> float:
    ratio = float(value)
    if not ratio > 0:
        raise ValueError("it must be greater than 0")
    return ratio


def _parse_rate(value: Any) -> float:
    rate = float(value)
    if not rate >= 0:
        raise ValueError("it must not be negative")
    return rate


def _parse_count(value: Any) -> int:
    count = int(value)
    if count < 0:
        raise ValueError("it must not be negative")
    return count


def _parse_paths(value: Any) -> dict[str, Path]:
    """A table of name and path; as one text, ``NAME=PATH`` separated by commas."""
    if isinstance(value, str):
        value = dict(pair.strip().split("=", 1) for pair in value.split(",") if pair.strip())
    return {name: Path(path).expanduser() for name, path in value.items()}


def _parse_files(value: Any) -> tuple[Path, ...]:
    """A list of files; as one text, separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(Path(part.strip()).expanduser() for part in parts if part.strip())


def _parse_images(value: Any) -> dict[str, str]:
    """A table of registry and source; as one text, ``REGISTRY=SOURCE`` separated by commas."""
    if isinstance(value, str):
        value = dict(pair.strip().split("=", 1) for pair in value.split(",") if pair.strip())
    return {
        str(name): target if "://" in target else str(Path(target).expanduser().absolute())
        for name, target in value.items()
    }


def _parse_image_client(value: Any) -> str:
    if value not in IMAGE_CLIENTS:
        raise ValueError(f"it must be one of {', '.join(IMAGE_CLIENTS)}")
    return str(value)


def _parse_isolation(value: Any) -> Isolation:
    if value not in list(Isolation):
        raise ValueError(f"it must be one of {', '.join(Isolation)}")
    return Isolation(value)


def _parse_egress(value: Any) -> Egress:
    if value not in [egress.value for egress in Egress]:
        raise ValueError(f"it must be one of {', '.join(egress.value for egress in Egress)}")
    return Egress(value)


def _parse_digest(value: Any) -> str:
    if re.fullmatch("[0-9a-f]{64}", str(value)) is None:
        raise ValueError("it must be a digest: 64 hexadecimal digits")
    return str(value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "host": str,
    "port": int,
    "data_dir": lambda value: Path(value).expanduser(),
    "account": str,
    "region": str,
    "accept": _parse_names,
    "embryos": int,
    "embryos_max": int,
    "freeze_after_s": float,
    "idle_stop_after_s": float,
    "environment_lifetime_s": float,
    "account_concurrency": int,
    "memory_overcommit": _parse_ratio,
    "scale_in_after_s": float,
    "reference_look_every_s": float,
    "s3_endpoint": str,
    "drain_s": float,
    "workers": _parse_count,
    "websocket_idle_s": _parse_ratio,
    "websocket_lifetime_s": _parse_ratio,
    "stream_mib_per_s": _parse_rate,
    "file_systems": _parse_paths,
    "interpreters": _parse_paths,
    "signing_trust": _parse_files,
    "images": _parse_images,
    "registry_credentials": lambda value: Path(value).expanduser(),
    "image_client": _parse_image_client,
    "isolation": _parse_isolation,
    "microvm_image": _parse_digest,
    "firecracker": lambda value: Path(value).expanduser(),
    "microvm_egress": _parse_egress,
    "microvm_resolver": IPv4Address,
}


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> PlatformConfig:
    """The configuration in force. ``flags`` that are None were not given. PlatformError names
    the setting and where its bad value came from."""
    variables = os.environ if environment is None else environment
    settings: dict[str, Any] = {"data_dir": default_data_dir(variables)}
    path = file or Path(variables.get("FIRELET_CONFIG", FILE_NAME))
    if path.is_file():
        table = tomllib.loads(path.read_text()).get("firelet", {})
        _take(settings, table, str(path))
    elif file is not None:
        raise PlatformError(f"The configuration file {file} does not exist.")
    prefix = "FIRELET_"
    known = {f"{prefix}{field.name.upper()}": field.name for field in fields(PlatformConfig)}
    _take(
        settings,
        {known[name]: value for name, value in variables.items() if name in known},
        "the environment",
    )
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _take(settings, given, "the command line")
    return PlatformConfig(**settings)


def _take(settings: dict[str, Any], table: Mapping[str, Any], origin: str) -> None:
    for name, value in table.items():
        parser = _PARSERS.get(name)
        if parser is None:
            raise PlatformError(f"{origin} sets {name}, which firelet does not know.")
        try:
            settings[name] = parser(value)
        except (AttributeError, TypeError, ValueError) as error:
            raise PlatformError(f"{origin} sets {name} to {value!r}: {error}") from None
