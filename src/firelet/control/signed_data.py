"""Signed data in the Cryptographic Message Syntax: who has signed some content, and what with it.

What it is: the check that a detached signature is whole, made by the certificate that it names,
over this content and the attributes beside it. What it is not: trust; the certificates come with
the signature, and whether to believe the last of them is the caller's to decide.
Called by ``control.signatures``, which imports it only when there is a signature: ``x509`` takes
20 ms to import.

Source: RFC 5652, sections 5.1, 5.3, 5.4 and 11; RFC 5280, section 4.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from firelet.wire.ber import OCTET_STRING, SEQUENCE, SET, Element, parse_ber

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
_DIGESTS: Mapping[str, type[hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
}
_EXPLICIT_0 = 0xA0
_CHAIN_MAX = 10
# What reading a certificate that anybody may have written raises.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class BadSignature(ValueError):
    """The signature does not hold; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class SignedData:
    """What holds. ``attributes`` are the signed ones, by object identifier; ``chain`` are the
    SHA-256 fingerprints in hex of the signer's certificate and of those above it, as far as they
    came along."""

    attributes: Mapping[str, Element]
    signed_at: datetime
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Signer:
    """A SignerInfo, read but not believed."""

    serial: int
    digest: hashes.HashAlgorithm
    signed: bytes  # what the signature is over
    attributes: Mapping[str, Element]
    signature: bytes


def verify_signed_data(encoded: bytes, content: bytes) -> SignedData:
    """Checks a detached signature (BER) over ``content``. BadSignature."""
    try:
        return _verify(encoded, content)
    except BadSignature:
        raise
    except (*_UNREADABLE, IndexError, KeyError) as error:
        # Certificates are read as far as they are asked: any look at them may end here.
        raise BadSignature(f"it cannot be read: {error}") from error


def fingerprints(pem: bytes) -> list[str]:
    """Of the certificates in a PEM file, as in ``SignedData.chain``. ValueError."""
    return [_fingerprint(one) for one in x509.load_pem_x509_certificates(pem)]


def _verify(encoded: bytes, content: bytes) -> SignedData:
    certificates, signer = _parse(parse_ber(encoded))
    digest = signer.attributes.get(_MESSAGE_DIGEST)
    if digest is None or digest.tag != OCTET_STRING:
        raise BadSignature("it has no digest of what it is over")
    if digest.content != _hash(signer.digest, content):
        raise BadSignature("what was signed is something else")
    time = signer.attributes.get(SIGNING_TIME)
    signed_at = None if time is None else time.moment()
    if signed_at is None:
        raise BadSignature("it does not say when it was made")
    certificate = _find_signer(certificates, signer)
    _check_use(certificate, signed_at)
    return SignedData(signer.attributes, signed_at, _chain(certificate, certificates, signed_at))


def _parse(root: Element) -> tuple[list[x509.Certificate], _Signer]:
    kind, holder = root.expect(SEQUENCE).children()
    if kind.identifier() != _SIGNED_DATA:
        raise ValueError("it is not signed data")
    (signed_data,) = holder.expect(_EXPLICIT_0).children()
    _version, _algorithms, content, *rest = signed_data.expect(SEQUENCE).children()
    if len(content.expect(SEQUENCE).children()) != 1:
        raise ValueError("it holds what it is over: it is not detached")
    (signer,) = rest[-1].expect(SET).children()
    certificates = [
        x509.load_der_x509_certificate(found.encoded)
        for part in rest[:-1]
        if part.tag == _EXPLICIT_0
        for found in part.children()
    ]
    return certificates, _parse_signer(signer)


def _parse_signer(info: Element) -> _Signer:
    _version, identity, algorithm, attributes, _scheme, signature, *_ = info.expect(
        SEQUENCE
    ).children()
    _issuer, serial = identity.expect(SEQUENCE).children()
    found: dict[str, Element] = {}
    for attribute in attributes.expect(_EXPLICIT_0).children():
        kind, values = attribute.expect(SEQUENCE).children()
        (value,) = values.expect(SET).children()
        if kind.identifier() in found:
            raise ValueError(f"it has two attributes {kind.identifier()}")
        found[kind.identifier()] = value
    return _Signer(
        serial=serial.integer(),
        digest=_DIGESTS[algorithm.expect(SEQUENCE).children()[0].identifier()](),
        # Section 5.4: over the attributes as a SET, which is not how they are tagged in here.
        signed=bytes([SET]) + attributes.encoded[1:],
        attributes=found,
        signature=signature.expect(OCTET_STRING).content,
    )


def _hash(algorithm: hashes.HashAlgorithm, content: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(content)
    return digest.finalize()


def _find_signer(certificates: list[x509.Certificate], signer: _Signer) -> x509.Certificate:
    """The certificate whose key has made the signature."""
    for certificate in certificates:
        if certificate.serial_number == signer.serial and _has_signed(certificate, signer):
            return certificate
    raise BadSignature("none of its certificates has made it")


def _has_signed(certificate: x509.Certificate, signer: _Signer) -> bool:
    try:
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signer.signature, signer.signed, ec.ECDSA(signer.digest))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signer.signature, signer.signed, padding.PKCS1v15(), signer.digest)
        else:
            return False
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def _check_use(certificate: x509.Certificate, signed_at: datetime) -> None:
    if not _is_valid_at(certificate, signed_at):
        raise BadSignature("its certificate was not valid when it was made")
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CODE_SIGNING not in uses:
        raise BadSignature("its certificate is not for signing code")


def _chain(
    certificate: x509.Certificate, certificates: list[x509.Certificate], signed_at: datetime
) -> tuple[str, ...]:
    chain = [certificate]
    while len(chain) < _CHAIN_MAX and chain[-1].issuer != chain[-1].subject:
        issuers = (c for c in certificates if _has_issued(c, chain[-1], signed_at))
        issuer = next(issuers, None)
        if issuer is None:
            break
        chain.append(issuer)
    return tuple(map(_fingerprint, chain))


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate, at: datetime) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, *_UNREADABLE):
        return False
    return constraints.ca and _is_valid_at(issuer, at)


def _is_valid_at(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc
