"""The trust policy document and the trust store of the Notary Project, read strictly."""

from __future__ import annotations

import os
import re
import stat

from ...errors import TrustError
from ...frozen import Frozen
from ..material import read_file
from ..strict import read_json
from ..watching import note_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

    from ..strict import Value

__all__ = ["CHECKS", "Document", "Statement", "load_store", "parse_document", "subject_matches"]

CHECKS = ("integrity", "authenticity", "authenticTimestamp", "expiry", "revocation")
LEVELS = {
    "strict": "enforce enforce enforce enforce enforce",
    "permissive": "enforce enforce log log log",
    "audit": "enforce log log log log",
    "skip": "skip skip skip skip skip",
}
_NAME = re.compile(r"[a-zA-Z0-9_.-]+", re.ASCII)
_SCOPE = re.compile(r"[a-zA-Z0-9.:\[\]-]+(?:/[a-z0-9._-]+)+", re.ASCII)
STORES = ("ca", "signingAuthority", "tsa")
SUBJECT = "x509.subject:"
MAX_CERTIFICATES = 1024


class Statement(Frozen):
    """One trust policy: whom it trusts for which repositories, and how strictly.

    `actions` says for each of CHECKS whether to enforce it, to log it, or to skip it.
    """

    name: str
    scopes: tuple[str, ...]
    level: str
    actions: dict[str, str]
    stores: tuple[tuple[str, str], ...]
    identities: tuple[str, ...]


class Document(Frozen):
    """A trust policy document."""

    source: str
    statements: tuple[Statement, ...]

    def choose(self, repository: str) -> Statement:
        """Return the policy for `REGISTRY/REPOSITORY`; raises TrustError where there is none."""
        for wanted in (repository, "*"):
            for statement in self.statements:
                if wanted in statement.scopes:
                    return statement
        raise TrustError(
            f"{self.source} has no trust policy for {repository}", hint='registryScopes: ["*"]'
        )


def _actions(value: Value) -> tuple[str, dict[str, str]]:
    fields = value.fields("level", "override verifyTimestamp")
    level = fields["level"].word(*LEVELS)
    actions = dict(zip(CHECKS, LEVELS[level].split(), strict=True))
    if "verifyTimestamp" in fields:
        fields["verifyTimestamp"].word("always", "afterCertExpiry")
    if "override" not in fields:
        return level, actions
    if level == "skip":
        raise fields["override"].wrong("the level skip has nothing to override")
    for name, action in fields["override"].members().items():
        if name not in CHECKS or name == "integrity":
            raise action.wrong(f"{name!r} cannot be overridden", f"one of {', '.join(CHECKS[1:])}")
        actions[name] = action.word("enforce", "log", "skip")
        if actions[name] == "skip" and name != "revocation":
            raise action.wrong(f"{name!r} cannot be skipped", "enforce or log")
    return level, actions


def _scopes(value: Value) -> tuple[str, ...]:
    found = value.texts()
    if "*" in found and len(found) > 1:
        raise value.wrong("'*' stands alone")
    for scope in found:
        if scope != "*" and not _SCOPE.fullmatch(scope):
            raise value.wrong(f"{scope!r} is no repository", "REGISTRY/REPOSITORY, or '*'")
    if len(set(found)) != len(found):
        raise value.wrong("names a repository twice")
    return found


def _stores(value: Value) -> tuple[tuple[str, str], ...]:
    found = []
    for text in value.texts():
        kind, colon, name = text.partition(":")
        if not colon or kind not in STORES or not _NAME.fullmatch(name) or name in (".", ".."):
            raise value.wrong(f"{text!r} is no trust store", "ca:NAME or signingAuthority:NAME")
        found.append((kind, name))
    return tuple(found)


def _identities(value: Value) -> tuple[str, ...]:
    found = value.texts()
    if "*" in found:
        if len(found) > 1:
            raise value.wrong("'*' stands alone")
        return found
    subjects = []
    for text in found:
        if not text.startswith(SUBJECT):
            raise value.wrong(f"{text!r} is no identity that is known", f"{SUBJECT} C=…, ST=…, O=…")
        pairs = _pairs(_parse_subject(text.removeprefix(SUBJECT).strip(), value))
        names = {name for name, _ in pairs}
        if not {"2.5.4.6", "2.5.4.8", "2.5.4.10"} <= names:
            raise value.wrong(f"{text!r} needs C, ST and O")
        subjects.append(pairs)
    for number, one in enumerate(subjects):
        if any(one <= other for place, other in enumerate(subjects) if place != number):
            raise value.wrong("one of the identities includes another")
    return found


def _parse_subject(text: str, value: Value | None = None) -> Name:
    from cryptography.x509 import Name

    try:
        # RFC 4514 has no spaces after commas; in which order the parts stand does not matter.
        return Name.from_rfc4514_string(re.sub(r"(?<!\\),\s+", ",", text))
    except ValueError:
        if value is None:
            raise
        raise value.wrong(f"{text!r} is no name of RFC 4514") from None


def _pairs(name: Name) -> set[tuple[str, str]]:
    return {(part.oid.dotted_string, str(part.value)) for part in name}


def subject_matches(certificate: Certificate, identity: str) -> bool:
    """Return whether a certificate's subject has every part that an identity names."""
    if identity == "*":
        return True
    wanted = _parse_subject(identity.removeprefix(SUBJECT).strip())
    return _pairs(wanted) <= _pairs(certificate.subject)


def _statement(value: Value) -> Statement:
    fields = value.fields(
        "name registryScopes signatureVerification", "trustStores trustedIdentities"
    )
    name = fields["name"].text()
    if not name:
        raise fields["name"].wrong("must not be empty")
    level, actions = _actions(fields["signatureVerification"])
    given = [fields[key] for key in ("trustStores", "trustedIdentities") if key in fields]
    if level == "skip":
        for part in given:
            if list(part.items()):
                raise part.wrong("the level skip trusts nobody in particular")
        return Statement(name, _scopes(fields["registryScopes"]), level, actions, (), ())
    if len(given) != 2:
        raise value.wrong(f"the level {level} needs trustStores and trustedIdentities")
    return Statement(
        name,
        _scopes(fields["registryScopes"]),
        level,
        actions,
        _stores(fields["trustStores"]),
        _identities(fields["trustedIdentities"]),
    )


def parse_document(data: bytes, source: str) -> Document:
    """Return the document that `data` states; raises TrustError with the path of what is wrong."""
    top = read_json(data, source).fields("version trustPolicies")
    top["version"].word("1.0")
    statements: list[Statement] = []
    for value in top["trustPolicies"].items():
        statement = _statement(value)
        for other in statements:
            if other.name == statement.name:
                raise value.wrong(f"the name {other.name!r} is another policy's too")
            for scope in set(other.scopes) & set(statement.scopes):
                raise value.wrong(f"{scope!r} is in the policy {other.name!r} too")
        statements.append(statement)
    if not statements:
        raise top["trustPolicies"].wrong("must not be empty")
    return Document(source, tuple(statements))


def load_store(folder: str, kind: str, name: str) -> list[Certificate]:
    """Return the certificates of a trust store; raises TrustError where it is empty or odd.

    Links are refused, as the Notary Project asks, and everything that is no file.
    """
    path = os.path.join(folder, "x509", kind, name)
    note_file(path)
    try:
        names = sorted(os.listdir(path))
        kinds = [os.lstat(os.path.join(path, each)).st_mode for each in names]
    except OSError as error:
        raise TrustError(
            f"trust store {kind}:{name}: {path!r}: {(error.strerror or '').lower()}",
            hint=f"put certificates into {path}",
        ) from None
    found: list[Certificate] = []
    for each, mode in zip(names, kinds, strict=True):
        own = os.path.join(path, each)
        if not stat.S_ISREG(mode):
            raise TrustError(f"trust store {kind}:{name}: {own!r} is no regular file")
        found += _read_certificates(own)
    if not found or len(found) > MAX_CERTIFICATES:
        raise TrustError(f"trust store {kind}:{name} has {len(found)} certificates")
    return found


def _read_certificates(path: str) -> list[Certificate]:
    from cryptography.x509 import load_der_x509_certificate

    from ..certificates import load_certificates

    data = read_file(path, "certificate")
    if data.startswith(b"0"):
        try:
            return [load_der_x509_certificate(data)]
        except ValueError:
            raise TrustError(f"{path!r} is no certificate") from None
    return load_certificates(data, path)
