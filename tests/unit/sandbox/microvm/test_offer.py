"""Whether a host can run functions in microVMs, and what it lacks if not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firelet.linux.kvm import KvmVerdict
from firelet.model.errors import IsolationMissing
from firelet.sandbox.microvm import choice, offer
from firelet.sandbox.microvm.offer import MicrovmSettings, find_images, find_offer

KVM = KvmVerdict(True, False, "guests are emulated")
OLD, NEW = "1" * 64, "2" * 64


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH, with every program that is needed."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("qemu-system-x86_64", "mke2fs"):
        program = directory / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(offer, "_MORE_PLACES", ())
    return directory


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """With an older and a newer image, and what is no image."""
    directory = tmp_path / "guest-images"
    for age, digest in enumerate((NEW, OLD)):
        place = directory / digest
        place.mkdir(parents=True)
        (place / "manifest.json").write_text("{}")
        os.utime(place / "manifest.json", (1_000_000 - age, 1_000_000 - age))
    (directory / "incoming-x").mkdir()
    (directory / ("3" * 64)).mkdir()
    return directory


def test_with_all_that_is_needed_the_newest_image_is_used(tools: Path, images: Path) -> None:
    found = find_offer(MicrovmSettings(images=images), KVM)
    assert (found.image, found.images, found.missing) == (NEW, (NEW, OLD), ())
    assert found.choice.program == str(tools / "qemu-system-x86_64")
    found.check()


def test_an_image_may_be_named(tools: Path, images: Path) -> None:
    assert find_offer(MicrovmSettings(images=images, image=OLD), KVM).image == OLD


def test_an_image_that_is_not_there_is_told(tools: Path, images: Path) -> None:
    found = find_offer(MicrovmSettings(images=images, image="4" * 64), KVM)
    with pytest.raises(IsolationMissing, match=f"{'4' * 64} is not in {images}"):
        found.check()


def test_all_that_is_missing_is_told_at_once(tools: Path, tmp_path: Path) -> None:
    for program in tools.iterdir():
        program.unlink()
    found = find_offer(MicrovmSettings(images=tmp_path / "none"), KVM)
    with pytest.raises(IsolationMissing) as caught:
        found.check()
    said = caught.value.message
    assert "qemu-system-x86_64 is not installed" in said
    assert "guests are emulated" in said
    assert "no guest image: make one with `firelet image build`" in said
    assert "mke2fs is not installed: it comes with the package e2fsprogs" in said
    assert "firelet doctor" in said


def test_a_directory_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    assert find_images(tmp_path / "none") == ()


def test_a_program_may_be_named(tools: Path) -> None:
    found = choice.choose(KVM, Path("/opt/firecracker"))
    assert "/opt/firecracker" in found.reason
