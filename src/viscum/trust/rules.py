"""The kinds of rules of a policy, and their strict reader."""

from __future__ import annotations

from ..errors import TrustError
from ..frozen import Frozen
from .identities import DEFAULT_IDENTITY, Identity, parse_identity
from .material import Material

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .strict import Value

__all__ = [
    "Accept",
    "Bundle",
    "Fulcio",
    "Notation",
    "Pki",
    "Reject",
    "Rule",
    "SignedBy",
    "SigstoreSigned",
    "parse_rule",
]


class Rule(Frozen):
    """One requirement; `path` says where in the policy it stands."""

    path: str

    @property
    def kind(self) -> str:
        """The rule's `type`."""
        return _NAMES[type(self)]


class Accept(Rule):
    """`insecureAcceptAnything`."""


class Reject(Rule):
    """`reject`."""


class SignedBy(Rule):
    """`signedBy`: a signature in the form of simple signing, by one of some OpenPGP keys."""

    keys: tuple[Material, ...]
    identity: Identity


class Fulcio(Frozen):
    """Who may sign with a certificate of Fulcio: its authority, issuer, and mail address."""

    authority: Material
    issuer: str
    email: str


class Pki(Frozen):
    """Who may sign with a certificate of one's own authorities."""

    roots: Material
    intermediates: Material | None
    email: str
    hostname: str


class SigstoreSigned(Rule):
    """`sigstoreSigned`: a signature as cosign attaches them, by a key or by a certificate."""

    keys: tuple[Material, ...]
    fulcio: Fulcio | None
    pki: Pki | None
    rekor: tuple[Material, ...]
    identity: Identity


class Bundle(Rule):
    """`sigstoreBundle`: a bundle of version 0.3, by a key, or keyless under a pinned root.

    `identities` are pairs of a subject and its issuer. A bundle claims a digest and no name.
    """

    keys: tuple[Material, ...]
    root: Material | None
    identities: tuple[tuple[str, str], ...]


class Notation(Rule):
    """`notationSigned`: a signature of the Notary Project, judged by a trust policy document."""

    document: str
    store: str


_NAMES = {
    Accept: "insecureAcceptAnything",
    Reject: "reject",
    SignedBy: "signedBy",
    SigstoreSigned: "sigstoreSigned",
    Bundle: "sigstoreBundle",
    Notation: "notationSigned",
}
_OWN = ("sigstoreBundle", "notationSigned")


def _absolute(value: Value) -> str:
    path = value.text()
    if not path.startswith("/") or "\0" in path:
        raise value.wrong(f"{path!r} is no absolute path")
    return path


def _materials(
    value: Value, fields: dict[str, Value], name: str, *, several: bool = True
) -> tuple[Material, ...]:
    """Return what is given by exactly one of NAMEPath, NAMEPaths, NAMEData and NAMEDatas."""
    given = [key for key in fields if key.startswith(name) and key[len(name) :] in _FORMS]
    if len(given) != 1:
        forms = _FORMS if several else _FORMS[::2]
        names = ", ".join(name + form for form in forms)
        raise value.wrong(f"needs exactly one of {names}")
    field, form = fields[given[0]], given[0][len(name) :]
    if form == "Path":
        return (Material(_absolute(field)),)
    if form == "Data":
        return (Material("", field.base64()),)
    items = list(field.items())
    if not items:
        raise field.wrong("must not be empty")
    if form == "Paths":
        return tuple(Material(_absolute(item)) for item in items)
    return tuple(Material("", item.base64()) for item in items)


_FORMS = ("Path", "Paths", "Data", "Datas")


def _any(fields: dict[str, Value], name: str) -> bool:
    return any(name + form in fields for form in _FORMS)


def _identity(fields: dict[str, Value]) -> Identity:
    given = fields.get("signedIdentity")
    return parse_identity(given) if given else DEFAULT_IDENTITY


def _signed_by(value: Value) -> Rule:
    fields = value.fields("type keyType", "keyPath keyPaths keyData signedIdentity")
    fields["keyType"].word("GPGKeys")
    return SignedBy(value.path, _materials(value, fields, "key"), _identity(fields))


def _fulcio(value: Value) -> Fulcio:
    fields = value.fields("oidcIssuer subjectEmail", "caPath caData")
    (authority,) = _materials(value, fields, "ca", several=False)
    return Fulcio(authority, fields["oidcIssuer"].text(), fields["subjectEmail"].text())


def _pki(value: Value) -> Pki:
    names = "caRootsPath caRootsData caIntermediatesPath caIntermediatesData"
    fields = value.fields("", f"{names} subjectEmail subjectHostname")
    (roots,) = _materials(value, fields, "caRoots", several=False)
    below = None
    if _any(fields, "caIntermediates"):
        (below,) = _materials(value, fields, "caIntermediates", several=False)
    email, hostname = (
        fields[name].text() if name in fields else ""
        for name in ("subjectEmail", "subjectHostname")
    )
    if not email and not hostname:
        raise value.wrong("needs subjectEmail or subjectHostname")
    return Pki(roots, below, email, hostname)


_KEYS = "keyPath keyPaths keyData keyDatas"
_REKOR = (
    "rekorPublicKeyPath rekorPublicKeyPaths rekorPublicKeyData rekorPublicKeyDatas"  # of the log
)


def _sigstore_signed(value: Value) -> Rule:
    fields = value.fields("type", f"{_KEYS} fulcio pki {_REKOR} signedIdentity")
    sources: list[str] = [name for name in ("fulcio", "pki") if name in fields]
    sources += ["key"] if _any(fields, "key") else []
    if len(sources) != 1:
        raise value.wrong("needs exactly one of a key, fulcio and pki")
    rekor = _materials(value, fields, "rekorPublicKey") if _any(fields, "rekorPublicKey") else ()
    if "fulcio" in fields and not rekor:
        raise value.wrong("fulcio needs rekorPublicKeyPath, which tells when was signed")
    if "pki" in fields and rekor:
        raise value.wrong("pki does not go with a key of Rekor")
    return SigstoreSigned(
        value.path,
        _materials(value, fields, "key") if sources == ["key"] else (),
        _fulcio(fields["fulcio"]) if "fulcio" in fields else None,
        _pki(fields["pki"]) if "pki" in fields else None,
        rekor,
        _identity(fields),
    )


def _pairs(value: Value) -> tuple[tuple[str, str], ...]:
    found = []
    for item in value.items():
        fields = item.fields("issuer subject")
        found.append((fields["subject"].text(), fields["issuer"].text()))
    if not found:
        raise value.wrong("must not be empty")
    return tuple(found)


def _bundle(value: Value) -> Rule:
    fields = value.fields("type", f"{_KEYS} trustedRootPath trustedRootData identities")
    if _any(fields, "key") == _any(fields, "trustedRoot"):
        raise value.wrong("needs either a key or a trusted root")
    if _any(fields, "key"):
        if "identities" in fields:
            raise fields["identities"].wrong("goes with a trusted root, not with a key")
        return Bundle(value.path, _materials(value, fields, "key"), None, ())
    if "identities" not in fields:
        raise value.wrong("lacks the key 'identities'", "anybody can sign keyless")
    (root,) = _materials(value, fields, "trustedRoot", several=False)
    return Bundle(value.path, (), root, _pairs(fields["identities"]))


def _notation(value: Value) -> Rule:
    fields = value.fields("type", "trustPolicyPath trustStorePath")
    document, store = (
        _absolute(fields[name]) if name in fields else ""
        for name in ("trustPolicyPath", "trustStorePath")
    )
    return Notation(value.path, document, store)


def parse_rule(value: Value, *, own: bool) -> Rule:
    """Return the rule that an object states; raises TrustError with its path."""
    members = value.members()
    if "type" not in members:
        raise value.wrong("lacks the key 'type'")
    kind = members["type"].text()
    if kind in _OWN and not own:
        raise members["type"].wrong(
            f"{kind!r} is Viscum's own, Podman would refuse this file",
            "put it into /etc/viscum/policy.json",
        )
    if kind == "insecureAcceptAnything":
        value.fields("type")
        return Accept(value.path)
    if kind == "reject":
        value.fields("type")
        return Reject(value.path)
    readers = {
        "signedBy": _signed_by,
        "sigstoreSigned": _sigstore_signed,
        "sigstoreBundle": _bundle,
        "notationSigned": _notation,
    }
    if kind not in readers:
        raise TrustError(
            f"{members['type'].source}: {members['type'].path}: {kind!r} is no kind of rule",
            hint=f"one of {', '.join(_NAMES.values())}",
        )
    return readers[kind](value)
