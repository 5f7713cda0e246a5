"""Installed Python distributions as files, for functions and images that bring them along."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest


def distribution_files(name: str) -> dict[str, bytes]:
    """The importable files of an installed distribution, by their path in site-packages."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    return {
        str(file): Path(str(file.locate())).read_bytes()
        for file in files
        if not str(file).startswith("..") and file.suffix in (".py", ".so")
    }


def native_modules(name: str) -> list[Path]:
    """Its shared objects, which may need libraries of the host."""
    files = importlib.metadata.files(name) or []
    return [Path(str(file.locate())) for file in files if file.suffix == ".so"]
