"""Signatures of packages: who says to have signed a zip.

AWS Signer leaves a file in the zip that it signs, which names the signing job and the version of
the signing profile. What it is not: proof. The certificates behind the signature are AWS's own
and cannot be checked away from AWS, so that the names are recorded and compared, no more.
Called by ``control.code_signing`` and ``control.functions``.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import replace

from firelet.model.code_signing import Signature
from firelet.model.function import FunctionVersion

SIGNATURE_FILE = "META-INF/aws_signer_signature_v1.0.SF"
_MEMBERS = ("SigningProfileVersionArn", "SigningJobArn")  # of FunctionConfiguration
_SIZE_MAX_BYTES = 65_536
_PROFILE = re.compile(rb"arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:/signing-profiles/\w{2,64}/\w{10}")
_JOB = re.compile(rb"arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:/signing-jobs/[0-9a-f-]{36}")


def find_signature(package: bytes) -> Signature | None:
    """The signature in a zip that has been checked; None when there is none to be read."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        try:
            entry = archive.getinfo(SIGNATURE_FILE)
        except KeyError:
            return None
        try:
            with archive.open(entry) as file:
                text = file.read(_SIZE_MAX_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return None
    profile, job = _PROFILE.search(text), _JOB.search(text)
    if profile is None:
        return None
    return Signature(profile[0].decode(), None if job is None else job[0].decode())


def with_signature(version: FunctionVersion, signature: Signature | None) -> FunctionVersion:
    """The version, whose package has that signature (None: has none that counts)."""
    extras = {name: value for name, value in version.extras.items() if name not in _MEMBERS}
    if signature is not None:
        extras["SigningProfileVersionArn"] = signature.profile_version_arn
        if signature.job_arn is not None:
            extras["SigningJobArn"] = signature.job_arn
    return replace(version, extras=extras)
