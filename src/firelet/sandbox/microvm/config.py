"""What an operator can set about microVMs. The platform's configuration has it, and every process
that makes sandboxes gets it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IMAGES = "guest-images"  # below the data directory


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmConfig:
    """``images`` is the directory of guest images, ``image`` the digest of the one to use (None:
    the newest), ``firecracker`` its program (None: whatever is in PATH)."""

    images: Path
    image: str | None = None
    firecracker: Path | None = None
