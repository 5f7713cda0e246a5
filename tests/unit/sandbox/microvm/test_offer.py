"""Whether a host can run functions in microVMs, and what it lacks if not."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from firelet.linux.kvm import KvmVerdict
from firelet.model.errors import IsolationMissing
from firelet.sandbox import host
from firelet.sandbox.microvm import choice, host_tools, initramfs, offer
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.image import ImageStore, Manifest
from firelet.sandbox.microvm.offer import MicrovmProbe, find_offer

BASE = BaseManifest("0" * 64, "0" * 64, "bookworm", "3.11", ())
KVM = KvmVerdict(True, False, "guests are emulated")


def make_image(
    directory: Path, age: int, base: BaseManifest | None = None, code: str | None = None
) -> str:
    """An image without its kernel, which nobody looks at here; its digest."""
    manifest = Manifest(
        release=f"6.1-{age}",
        python="/usr/bin/python3",
        kernel="",
        vmlinux="",
        initrd="",
        base=base,
        code=initramfs.code_digest() if code is None else code,
    )
    text = msgspec.json.encode(manifest)
    place = directory / hashlib.sha256(text).hexdigest()
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(text)
    if base is not None:
        (place / "base").write_bytes(b"")
    os.utime(place, (1_000_000 - age, 1_000_000 - age))
    return place.name


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
    monkeypatch.setattr(host_tools, "_MORE_PLACES", ())
    return directory


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory without images, but with what is none."""
    directory = tmp_path / "guest-images"
    (directory / "incoming-x").mkdir(parents=True)
    (directory / ("3" * 64)).mkdir()
    return directory


def test_kvm_is_tried_once_and_all_else_is_looked_at_again(
    tools: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = [KVM]
    monkeypatch.setattr(offer, "probe_kvm", verdicts.pop)
    probe = MicrovmProbe(MicrovmConfig(images=images))
    assert probe.kvm is None
    with pytest.raises(IsolationMissing, match="no guest image"):
        probe.find().check()
    make_image(images, 1, BASE)
    probe.find().check()
    assert (probe.kvm, verdicts) == (KVM, [])


def test_what_another_process_has_found_of_kvm_is_not_tried(
    tools: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer, "probe_kvm", lambda: pytest.fail("a guest was tried"))
    found = MicrovmProbe(MicrovmConfig(images=images), KVM).find()
    assert KVM.detail in found.choice.reason


def test_with_all_that_is_needed_the_newest_image_is_used(tools: Path, images: Path) -> None:
    old, new = (make_image(images, age, BASE) for age in (9, 1))
    found = find_offer(MicrovmConfig(images=images), KVM)
    assert found.image is not None
    assert found.image.digest == new
    assert [image.digest for image in found.images] == [new, old]
    assert found.missing == ()
    assert found.choice.program == str(tools / "qemu-system-x86_64")
    found.check()


def test_an_image_that_no_function_can_run_in_is_passed_by(tools: Path, images: Path) -> None:
    old = make_image(images, 9, BASE)
    make_image(images, 1)
    found = find_offer(MicrovmConfig(images=images), KVM)
    assert found.image is not None
    assert found.image.digest == old


def test_an_image_that_no_function_can_run_in_is_told(tools: Path, images: Path) -> None:
    digest = make_image(images, 1)
    with pytest.raises(IsolationMissing, match=f"{digest} has no base system for functions"):
        find_offer(MicrovmConfig(images=images), KVM).check()


def test_an_image_of_another_version_is_passed_by_and_told(tools: Path, images: Path) -> None:
    other = make_image(images, 1, BASE, code="0" * 64)
    with pytest.raises(IsolationMissing, match=f"{other} is of another version of firelet"):
        find_offer(MicrovmConfig(images=images), KVM).check()
    own = make_image(images, 9, BASE)
    found = find_offer(MicrovmConfig(images=images), KVM)
    assert found.image is not None
    assert found.image.digest == own


def test_the_doctor_does_not_say_that_an_image_is_started_which_no_function_can_run_in(
    tools: Path, images: Path
) -> None:
    config = MicrovmConfig(images=images)
    make_image(images, 1, BASE, code="0" * 64)
    finding = host._guest_images(find_offer(config, KVM), images)
    assert finding.detail == f"1 in {images}"
    assert finding.consequence == "`firelet image build` makes one"
    digest = make_image(images, 1, BASE)
    finding = host._guest_images(find_offer(config, KVM), images)
    assert finding.consequence == f"microVMs start {digest[:12]}…"


def test_an_image_may_be_named(tools: Path, images: Path) -> None:
    old, _ = (make_image(images, age, BASE) for age in (9, 1))
    found = find_offer(MicrovmConfig(images=images, image=old), KVM)
    assert found.image is not None
    assert found.image.digest == old


def test_a_directory_that_cannot_be_read_is_told(
    tools: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: ImageStore) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ImageStore, "images", refuse)
    with pytest.raises(IsolationMissing, match=f"{images} cannot be read: Permission denied"):
        find_offer(MicrovmConfig(images=images), KVM).check()


def test_an_image_that_is_not_there_is_told(tools: Path, images: Path) -> None:
    found = find_offer(MicrovmConfig(images=images, image="4" * 64), KVM)
    with pytest.raises(IsolationMissing, match=f"{'4' * 64} is not in {images}"):
        found.check()


def test_all_that_is_missing_is_told_at_once(tools: Path, tmp_path: Path) -> None:
    for program in tools.iterdir():
        program.unlink()
    found = find_offer(MicrovmConfig(images=tmp_path / "none"), KVM)
    with pytest.raises(IsolationMissing) as caught:
        found.check()
    said = caught.value.message
    assert "qemu-system-x86_64 is not installed" in said
    assert "guests are emulated" in said
    assert f"no guest image in {tmp_path / 'none'}: make one with `firelet image build`" in said
    assert "mke2fs is not installed: it comes with the package e2fsprogs" in said
    assert "firelet doctor" in said


def test_a_program_may_be_named(tools: Path) -> None:
    found = choice.choose(KVM, Path("/opt/firecracker"))
    assert "/opt/firecracker" in found.reason
