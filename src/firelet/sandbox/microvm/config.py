"""What an operator can set about microVMs. The platform's configuration has it, and every process
that makes sandboxes gets it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

IMAGES = "guest-images"  # below the data directory


class Egress(Enum):
    """``NONE``: a machine has no network device. ``NAT``: one with a way to public addresses."""

    NONE = "none"
    NAT = "nat"


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmConfig:
    """``images`` is the directory of guest images, ``image`` the digest of the one to use (None:
    the newest), ``firecracker`` its program (None: whatever is in PATH). ``egress`` says how
    machines reach the world; ``resolver`` is the address of the name server that they ask then
    (None: the host's)."""

    images: Path
    image: str | None = None
    firecracker: Path | None = None
    egress: Egress = Egress.NONE
    resolver: IPv4Address | None = None
