"""Who has signed a package, and what makes a signature worth nothing."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from firelet.app.signing import load_signing_trust
from firelet.control.signatures import SIGNATURE_FILE, find_signature
from firelet.control.signed_data import BadSignature, verify_signed_data
from firelet.model.errors import InvalidCodeSignature, PlatformError
from registry_parts import ACCOUNT, REGION, ZIP, make_zip
from signed_packages import (
    EXPIRES,
    SIGNED_AT,
    Signer,
    der,
    generalized_time,
    make_signer,
    pack_signed,
    sign_package,
)

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release/abcdefghij"
JOB = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-jobs/01234567-89ab-cdef-0123-456789abcdef"
FILES = {"app.py": "def handler(e, c): return e\n", "lib/": "", "lib/data.bin": b"\x00\xff" * 900}
SIGNER = make_signer()
CONTENT = b"what is signed"
TIMES = {"1.2.840.113549.1.9.5": generalized_time(SIGNED_AT)}
SIGNATURE = SIGNER.sign(CONTENT, TIMES)


def rewrite(package: bytes, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]) -> bytes:
    """The zip with its entries changed."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return buffer.getvalue()


@pytest.mark.parametrize("name", [SIGNATURE_FILE, SIGNATURE_FILE.replace("META_INF", "META-INF")])
def test_a_signature_names_the_profile_the_job_and_its_end(name: str, tmp_path: Path) -> None:
    package = sign_package(FILES, SIGNER, PROFILE, JOB, name=name)
    signature = find_signature(package)
    assert signature is not None
    assert (signature.profile_version_arn, signature.job_arn) == (PROFILE, JOB)
    assert signature.expires_s == EXPIRES.timestamp()
    assert len(signature.chain) == 3
    assert signature.chain[-1] == SIGNER.root
    path = tmp_path / "package.zip"
    path.write_bytes(package)
    assert find_signature(path) == signature


def test_a_package_that_nobody_or_no_profile_has_signed_has_no_signature() -> None:
    assert find_signature(ZIP) is None
    assert find_signature(sign_package(FILES, SIGNER, "somebody", JOB)) is None


def test_how_a_package_is_compressed_is_not_signed() -> None:
    def store(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        for entry, _ in entries:
            entry.compress_type = zipfile.ZIP_STORED
            entry.date_time = (2001, 1, 1, 0, 0, 0)

    package = sign_package(FILES, SIGNER, PROFILE, JOB)
    stored = rewrite(package, store)
    assert stored != package
    assert find_signature(stored) == find_signature(package)


CHANGES: dict[str, Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]] = {
    "a file has other content": lambda entries: entries.__setitem__(0, (entries[0][0], b"evil")),
    "a file is more": lambda entries: entries.append((zipfile.ZipInfo("more.py"), b"")),
    "a directory is more": lambda entries: entries.append((zipfile.ZipInfo("more/"), b"")),
    "a file is less": lambda entries: entries.__delitem__(0),
    "a file has another name": lambda entries: setattr(entries[0][0], "filename", "apq.py"),
    "files change places": lambda entries: entries.reverse(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_package_that_was_changed_is_refused(
    change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None],
) -> None:
    package = rewrite(sign_package(FILES, SIGNER, PROFILE, JOB), change)
    with pytest.raises(InvalidCodeSignature, match="what was signed is something else"):
        find_signature(package)


@pytest.mark.parametrize("signature", [b"", b"nothing", b"0\x80", b"-----BEGIN PKCS7-----"])
def test_a_file_that_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(InvalidCodeSignature, match="cannot be read"):
        find_signature(make_zip({"app.py": "", SIGNATURE_FILE: signature}))


def test_two_signatures_are_refused() -> None:
    package = sign_package(FILES, SIGNER, PROFILE, JOB)
    other = SIGNATURE_FILE.replace("META_INF", "META-INF")
    twice = rewrite(package, lambda entries: entries.append((zipfile.ZipInfo(other), b"")))
    with pytest.raises(InvalidCodeSignature, match="more than one signature"):
        find_signature(twice)


def test_the_signature_of_another_package_is_refused() -> None:
    stolen = SIGNER.sign(b"another", TIMES)
    with pytest.raises(InvalidCodeSignature, match="what was signed is something else"):
        find_signature(pack_signed(FILES, stolen))


def test_a_signature_by_another_key_is_refused() -> None:
    forged = Signer(make_signer().key, SIGNER.chain).sign(CONTENT, TIMES)
    with pytest.raises(BadSignature, match="none of its certificates has made it"):
        verify_signed_data(forged, CONTENT)


def test_attributes_that_were_changed_after_signing_are_refused() -> None:
    assert SIGNATURE.count(TIMES["1.2.840.113549.1.9.5"]) == 1
    later = generalized_time(SIGNED_AT + timedelta(hours=1))
    changed = SIGNATURE.replace(TIMES["1.2.840.113549.1.9.5"], later)
    with pytest.raises(BadSignature, match="none of its certificates has made it"):
        verify_signed_data(changed, CONTENT)


@pytest.mark.parametrize(
    ("signer", "times", "reason"),
    [
        (SIGNER, {}, "does not say when"),
        (SIGNER, {"1.2.840.113549.1.9.5": der(0x18, b"soon")}, "cannot be read"),
        (make_signer(valid_from=SIGNED_AT + timedelta(days=2)), TIMES, "was not valid when"),
        (make_signer(is_for_code=False), TIMES, "is not for signing code"),
    ],
)
def test_a_certificate_signs_what_it_is_for_and_while_it_is_valid(
    signer: Signer, times: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(BadSignature, match=reason):
        verify_signed_data(signer.sign(CONTENT, times), CONTENT)


def test_a_certificate_that_has_not_issued_the_one_below_is_not_in_the_chain() -> None:
    other = make_signer()
    mixed = Signer(SIGNER.key, (SIGNER.chain[0], *other.chain[1:]))
    found = verify_signed_data(mixed.sign(CONTENT, TIMES), CONTENT)
    assert len(found.chain) == 1
    assert other.root not in found.chain


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, len(SIGNATURE) - 1), st.integers(1, 255))
def test_a_byte_that_changes_never_makes_another_signature(at: int, change: int) -> None:
    damaged = bytearray(SIGNATURE)
    damaged[at] ^= change
    whole = verify_signed_data(SIGNATURE, CONTENT)
    try:
        found = verify_signed_data(bytes(damaged), CONTENT)
    except BadSignature:
        return
    # The change is in what nobody looks at, or in a certificate: the key has signed all the same.
    assert found.attributes == whole.attributes


@pytest.mark.parametrize("level", [0, 1])
def test_a_certificate_that_was_changed_does_not_lead_to_the_root(level: int) -> None:
    certificate = SIGNER.chain[level]
    name = certificate.subject.public_bytes()
    changed = certificate.public_bytes(Encoding.DER).replace(name, name[:-1] + b"x")
    chain = list(SIGNER.chain)
    chain[level] = x509.load_der_x509_certificate(changed)
    found = verify_signed_data(Signer(SIGNER.key, chain).sign(CONTENT, TIMES), CONTENT)
    assert SIGNER.root in verify_signed_data(SIGNATURE, CONTENT).chain
    assert SIGNER.root not in found.chain


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this host")
def test_what_is_signed_here_holds_for_another_implementation_too(tmp_path: Path) -> None:
    (tmp_path / "signature").write_bytes(SIGNATURE)
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "root.pem").write_bytes(SIGNER.chain[-1].public_bytes(Encoding.PEM))
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any"]
    command += ["-in", "signature", "-content", "content", "-CAfile", "root.pem"]
    command += ["-attime", str(int(SIGNED_AT.timestamp()) + 60), "-out", "verified"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "verified").read_bytes() == CONTENT


def test_trusted_certificates_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "trust.pem"
    file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in SIGNER.chain[1:]))
    trusted = load_signing_trust([file])
    assert len(trusted) == 2
    assert SIGNER.root in trusted
    file.write_text("nothing")
    for path in (file, tmp_path / "missing.pem"):
        with pytest.raises(PlatformError, match=f"No certificates can be read from {path}"):
            load_signing_trust([path])
