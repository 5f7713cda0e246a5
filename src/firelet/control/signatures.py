"""Signatures of packages: who has signed a zip, and whether it is still what was signed.

AWS Signer puts a file with a detached signature into the zip that it signs. It is over a digest of
the names and contents of all other entries in their order; beside it are signed the version of the
signing profile, the signing job, and when the signature expires. What it is not: trust in the
certificates, or the rules of a configuration; those are in ``control.code_signing``, which calls
this.

The guide says that the digest of the package is compared with that in the signature, not how it is
made. The form checked here is what an independent implementation has observed of signed packages;
``docs/adr/0010-signed-packages.md`` says what is certain about it and what is not.
Source: docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html; RFC 5652; RFC 7468.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from firelet.model.code_signing import Signature
from firelet.model.errors import InvalidCodeSignature
from firelet.model.function import FunctionVersion

if TYPE_CHECKING:
    from firelet.wire.ber import Element

SIGNATURE_FILE = "META_INF/aws_signer_signature_v1.0.SF"
# The way that other signed archives write it is recognised too.
_SIGNATURE_FILES = (SIGNATURE_FILE, "META-INF/aws_signer_signature_v1.0.SF")
_MEMBERS = ("SigningProfileVersionArn", "SigningJobArn")  # of FunctionConfiguration
_SIZE_MAX_BYTES = 1 << 20
_CHUNK = 1 << 20
_UTF8_NAME = 0x800  # flag of an entry
_PROFILE = re.compile(r"arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:/signing-profiles/\w{2,64}/\w{10}")
_JOB = re.compile(r"arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:/signing-jobs/[0-9a-f-]{36}")
_PEM = re.compile(rb"\s*-----BEGIN (PKCS7|CMS)-----([A-Za-z0-9+/=\s]+)-----END \1-----\s*")


def find_signature(package: bytes | Path) -> Signature | None:
    """The signature in a zip that has been checked; None when there is none, or none by a signing
    profile. InvalidCodeSignature when it does not hold or the zip is not what was signed. Blocks
    for as long as it takes to read all of the zip."""
    with zipfile.ZipFile(io.BytesIO(package) if isinstance(package, bytes) else package) as archive:
        entries = archive.infolist()
        signatures = [entry for entry in entries if entry.filename in _SIGNATURE_FILES]
        if not signatures:
            return None
        if len(signatures) > 1:
            raise _refuse("it has more than one signature")
        try:
            encoded = _read_signature(archive, signatures[0])
            content = _digest(archive, [entry for entry in entries if entry is not signatures[0]])
        except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeEncodeError) as error:
            raise _refuse(f"it cannot be read: {error}") from error
    return _verify(encoded, content)


def with_signature(version: FunctionVersion, signature: Signature | None) -> FunctionVersion:
    """The version, whose package has that signature (None: has none that counts)."""
    extras = {name: value for name, value in version.extras.items() if name not in _MEMBERS}
    if signature is not None:
        extras["SigningProfileVersionArn"] = signature.profile_version_arn
        if signature.job_arn is not None:
            extras["SigningJobArn"] = signature.job_arn
    return replace(version, extras=extras)


def _read_signature(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The signature itself, out of its text form if it has one."""
    with archive.open(entry) as file:
        text = file.read(_SIZE_MAX_BYTES + 1)
    if len(text) > _SIZE_MAX_BYTES:
        raise _refuse("it is too long")
    found = _PEM.fullmatch(text)
    if found is None:
        return text
    try:
        return base64.b64decode(b"".join(found[2].split()), validate=True)
    except ValueError as error:
        raise _refuse(f"it cannot be read: {error}") from error


def _digest(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> bytes:
    """Names and contents, one after the other. Times, modes and compression are not signed."""
    digest = hashlib.sha384()
    seen: set[bytes] = set()
    for entry in entries:
        encoding = "utf-8" if entry.flag_bits & _UTF8_NAME else "cp437"
        name = entry.orig_filename.encode(encoding)
        if name in seen:
            raise _refuse(f"{entry.filename} is there twice")
        seen.add(name)
        digest.update(name)
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.digest()


def _verify(encoded: bytes, content: bytes) -> Signature | None:
    # Imported here, since most platforms never see a signed package: see there.
    from firelet.control.signed_data import SIGNING_TIME, BadSignature, verify_signed_data

    try:
        signed = verify_signed_data(encoded, content)
        profile = _find_text(signed.attributes, _PROFILE)
        if profile is None:
            return None
        times = [v.moment() for kind, v in signed.attributes.items() if kind != SIGNING_TIME]
    except BadSignature as error:
        raise _refuse(str(error)) from error
    except ValueError as error:
        raise _refuse(f"it cannot be read: {error}") from error
    expiries = [moment.timestamp() for moment in times if moment is not None]
    return Signature(
        profile_version_arn=profile,
        job_arn=_find_text(signed.attributes, _JOB),
        expires_s=min(expiries, default=None),
        chain=signed.chain,
    )


def _find_text(attributes: Mapping[str, Element], pattern: re.Pattern[str]) -> str | None:
    def texts() -> Iterator[str]:
        for value in attributes.values():
            if (text := value.text()) is not None and pattern.fullmatch(text):
                yield text

    return next(texts(), None)


def _refuse(reason: str) -> InvalidCodeSignature:
    """The code is AWS's. The sentence is firelet's own."""
    return InvalidCodeSignature(
        "Lambda cannot deploy the function. The code signature failed the integrity check:"
        f" {reason}."
    )
