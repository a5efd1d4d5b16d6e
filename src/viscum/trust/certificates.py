"""Certificates: chains verified at a time, and whom they name."""

from __future__ import annotations

import datetime as dt

from ..errors import TrustError
from .material import need_library
from .watching import note_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from .rules import Fulcio, Pki

__all__ = ["check_fulcio", "check_pki", "load_certificates", "verify_chain"]

_ISSUER_RAW = "1.3.6.1.4.1.57264.1.1"
_ISSUER_DER = "1.3.6.1.4.1.57264.1.8"


def load_certificates(data: bytes, source: str) -> list[Certificate]:
    """Return the certificates of a PEM text; raises TrustError where there is none."""
    need_library("cryptography", "sign")
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(data)
    except Exception:
        raise TrustError(f"{source}: holds no certificate", hint="PEM, BEGIN CERTIFICATE") from None


def verify_chain(
    leaf: Certificate,
    between: list[Certificate],
    roots: list[Certificate],
    time: dt.datetime,
) -> None:
    """Raise TrustError unless `leaf` signs code and led to one of `roots` at `time`."""
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from cryptography.x509.verification import (
        Criticality,
        ExtensionPolicy,
        PolicyBuilder,
        Store,
    )

    def usage(policy: ExtensionPolicy) -> ExtensionPolicy:
        return policy.may_be_present(ExtendedKeyUsage, Criticality.AGNOSTIC, None)

    # The library's own rule asks for certificates of TLS clients; these are for code.
    builder = PolicyBuilder().store(Store(roots)).time(time)
    verifier = builder.extension_policies(
        ca_policy=usage(ExtensionPolicy.webpki_defaults_ca()),
        ee_policy=usage(ExtensionPolicy.webpki_defaults_ee()),
    ).build_client_verifier()
    try:
        verifier.verify(leaf, between)
        usages = leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        raise TrustError("the certificate is not for signing code") from None
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise TrustError(f"the certificate leads to no trusted authority: {reason}") from None
    if ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        raise TrustError("the certificate is not for signing code")


def _issuers(leaf: Certificate) -> set[str]:
    """Return every issuer of OpenID tokens that the certificate's extensions name."""
    found = set()
    for extension in leaf.extensions:
        value = getattr(extension.value, "value", b"")
        if extension.oid.dotted_string == _ISSUER_RAW:
            found.add(value.decode("utf-8", "replace"))
        elif extension.oid.dotted_string == _ISSUER_DER:
            if value[:1] != b"\x0c" or len(value) < 2 or value[1] != len(value) - 2:
                raise TrustError("the certificate's issuer extension is malformed")
            found.add(value[2:].decode("utf-8", "replace"))
    return found


def _names(leaf: Certificate) -> tuple[list[str], list[str]]:
    """Return the mail addresses and the host names that the certificate is for."""
    from cryptography.x509 import DNSName, ExtensionNotFound, RFC822Name, SubjectAlternativeName

    try:
        names = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return [], []
    return names.get_values_for_type(RFC822Name), names.get_values_for_type(DNSName)


def check_fulcio(leaf: Certificate, between: list[Certificate], rule: Fulcio, time: int) -> str:
    """Return who signed, if Fulcio certified them as `rule` asks; raises TrustError."""
    roots = load_certificates(rule.authority.read(), str(rule.authority))
    verify_chain(leaf, between, roots, dt.datetime.fromtimestamp(time, dt.UTC))
    issuers, (emails, _) = _issuers(leaf), _names(leaf)
    if issuers != {rule.issuer}:
        found = ", ".join(sorted(issuers)) or "none"
        raise TrustError(f"the certificate's issuer is {found}, not {rule.issuer}")
    if rule.email not in emails:
        found = ", ".join(emails) or "nobody"
        raise TrustError(f"the certificate is for {found}, not {rule.email}")
    return f"{rule.email} of {rule.issuer}"


def check_pki(leaf: Certificate, between: list[Certificate], rule: Pki) -> str:
    """Return who signed, if one's own authorities certify them now; raises TrustError."""
    roots = load_certificates(rule.roots.read(), str(rule.roots))
    if rule.intermediates:
        own = rule.intermediates
        between = [*between, *load_certificates(own.read(), str(own))]
    verify_chain(leaf, between, roots, dt.datetime.now(dt.UTC))
    for certificate in (leaf, *between, *roots):
        note_end(certificate.not_valid_after_utc)
    emails, hosts = _names(leaf)
    for wanted, found in ((rule.email, emails), (rule.hostname, hosts)):
        if wanted and wanted not in found:
            listed = ", ".join(found) or "nobody"
            raise TrustError(f"the certificate is for {listed}, not {wanted}")
    return " and ".join(name for name in (rule.email, rule.hostname) if name)
