"""Certificates made for tests: authorities, signers of code, services."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)
SUBJECT = {"C": "NL", "ST": "Utrecht", "O": "Viscum"}
_OIDS = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "CN": NameOID.COMMON_NAME,
}


class Made(NamedTuple):
    """A certificate with its key and its issuers."""

    certificate: x509.Certificate
    key: Any
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.above)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def chain_pem(self) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)

    def secret(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@functools.cache
def _rsa(kind: str) -> Any:
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))


def make_key(kind: str = "P-256") -> Any:
    if kind.startswith("RSA"):
        return _rsa(kind)  # the large ones take seconds
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]())


def name_of(common: str, **parts: str) -> x509.Name:
    given = {**SUBJECT, **parts, "CN": common}
    return x509.Name(
        [x509.NameAttribute(_OIDS[key], value) for key, value in given.items() if value]
    )


def usage(*wanted: str) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{name: name in wanted for name in names})


def make(
    name: x509.Name,
    key: Any,
    extensions: list[tuple[x509.ExtensionType, bool]],
    issuer: Made | None = None,
    *,
    starts: dt.timedelta = -DAY,
    ends: dt.timedelta = 365 * DAY,
    hashed: Any = None,
) -> Made:
    """Return a certificate, self-signed without `issuer`."""
    now = dt.datetime.now(dt.UTC)
    by, signer = (issuer.certificate.subject, issuer.key) if issuer else (name, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(signer, hashed or hashes.SHA256())
    return Made(made, key, issuer.chain if issuer else ())


def make_authority(
    common: str,
    issuer: Made | None = None,
    *,
    kind: str = "P-256",
    depth: int | None = None,
    **options: Any,
) -> Made:
    constraints = x509.BasicConstraints(ca=True, path_length=depth)
    extensions = [(constraints, True), (usage("key_cert_sign", "crl_sign"), True)]
    return make(name_of(common), make_key(kind), extensions, issuer, **options)


def make_signer(
    common: str,
    issuer: Made | None,
    *,
    kind: str = "P-256",
    extra: list[tuple[x509.ExtensionType, bool]] | None = None,
    usages: tuple[str, ...] = ("digital_signature",),
    **options: Any,
) -> Made:
    code = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    extensions = [(usage(*usages), True), (code, False), *(extra or [])]
    return make(name_of(common), make_key(kind), extensions, issuer, **options)


def make_service(issuer: Made, common: str) -> Made:
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    extensions = [
        (x509.SubjectAlternativeName(names), False),
        (x509.ExtendedKeyUsage(both), False),
        (usage("digital_signature"), True),
    ]
    return make(name_of(common), make_key(), extensions, issuer)
