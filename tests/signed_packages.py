"""Packages signed as AWS Signer does, by certificates that are made here."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from firelet.control.signatures import SIGNATURE_FILE

SIGNED_AT = datetime(2026, 11, 20, 8, tzinfo=UTC)
EXPIRES = datetime(2037, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_YEARS = timedelta(days=7_000)
_SHA384 = "2.16.840.1.101.3.4.2.2"
_ECDSA_SHA384 = "1.2.840.10045.4.3.3"


def der(tag: int, *parts: bytes) -> bytes:
    """One element in the definite form."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(length)]) + length + content


def identifier(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    octets = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, 0x80 | arc & 0x7F)
        octets += bytes(groups)
    return der(0x06, bytes(octets))


def integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def generalized_time(moment: datetime) -> bytes:
    return der(0x18, moment.strftime("%Y%m%d%H%M%S.%f")[:-3].encode() + b"Z")


def attribute(kind: str, value: bytes) -> bytes:
    return der(0x30, identifier(kind), der(0x31, value))


@dataclass(frozen=True, slots=True)
class Signer:
    """A key with the certificates above it, its own first."""

    key: ec.EllipticCurvePrivateKey
    chain: Sequence[x509.Certificate]

    @property
    def root(self) -> str:
        """The fingerprint of the last certificate."""
        return self.chain[-1].fingerprint(hashes.SHA256()).hex()

    def sign(self, content: bytes, attributes: Mapping[str, bytes]) -> bytes:
        """Signed data over ``content``, in the indefinite form on the outside."""
        signed = sorted(
            attribute(kind, value)
            for kind, value in {
                "1.2.840.113549.1.9.3": identifier("1.2.840.113549.1.7.1"),
                "1.2.840.113549.1.9.4": der(0x04, hashlib.sha384(content).digest()),
                **attributes,
            }.items()
        )
        signature = self.key.sign(der(0x31, *signed), ec.ECDSA(hashes.SHA384()))
        leaf = self.chain[0]
        info = der(
            0x30,
            integer(1),
            der(0x30, leaf.issuer.public_bytes(), integer(leaf.serial_number)),
            der(0x30, identifier(_SHA384)),
            der(0xA0, *signed),
            der(0x30, identifier(_ECDSA_SHA384)),
            der(0x04, signature),
        )
        data = der(
            0x30,
            integer(1),
            der(0x31, der(0x30, identifier(_SHA384))),
            der(0x30, identifier("1.2.840.113549.1.7.1")),
            der(0xA0, *sorted(c.public_bytes(Encoding.DER) for c in self.chain)),
            der(0x31, info),
        )
        kind = identifier("1.2.840.113549.1.7.2")
        return b"\x30\x80" + kind + b"\xa0\x80" + data + b"\0\0\0\0"


def make_signer(*, is_for_code: bool = True, valid_from: datetime = SIGNED_AT) -> Signer:
    """A root, an authority below it and a certificate of a few days."""
    root_key, authority_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
    root = _certify("root", root_key, None, root_key, SIGNED_AT - _YEARS)
    authority = _certify("authority", authority_key, root, root_key, SIGNED_AT - _YEARS)
    leaf = _certify("signer", key, authority, authority_key, valid_from, is_for_code=is_for_code)
    return Signer(key, (leaf, authority, root))


def sign_package(
    files: Mapping[str, str | bytes],
    signer: Signer,
    profile: str,
    job: str,
    *,
    expires: datetime = EXPIRES,
    changed: Mapping[str, str | bytes] | None = None,
    name: str = SIGNATURE_FILE,
) -> bytes:
    """A zip with these files and a signature of them; ``changed`` are files that are put in after
    it was signed."""
    entries = {**files, "META_INF/": ""}
    plain = b"".join(
        name.encode() + (text.encode() if isinstance(text, str) else text)
        for name, text in entries.items()
    )
    attributes = {
        "1.2.840.113549.1.9.5": generalized_time(SIGNED_AT),
        "1.3.187.137.1.2": der(0x0C, job.encode()),
        "1.3.187.137.1.3": generalized_time(expires),
        "1.3.187.137.1.4": der(0x0C, profile.encode()),
    }
    signature = signer.sign(hashlib.sha384(plain).digest(), attributes)
    return pack_signed({**entries, **(changed or {})}, signature, name)


def pack_signed(
    entries: Mapping[str, str | bytes], signature: bytes, name: str = SIGNATURE_FILE
) -> bytes:
    """A zip with these entries and that signature, in its text form."""
    text = base64.encodebytes(signature)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
        archive.writestr(name, b"-----BEGIN PKCS7-----\n" + text + b"-----END PKCS7-----\n")
    return buffer.getvalue()


def _certify(
    label: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    valid_from: datetime,
    *,
    is_for_code: bool = True,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    is_leaf = label == "signer"
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from)
        .not_valid_after(valid_from + (_DAY if is_leaf else 3 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=not is_leaf, path_length=None), critical=True)
    )
    if is_leaf:
        use = ExtendedKeyUsageOID.CODE_SIGNING if is_for_code else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())
