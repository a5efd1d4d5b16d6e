"""Signatures of the Notary Project, judged by a trust policy document.

What is not looked at: revocation over the network, and countersignatures of time stamp
authorities. A certificate that says where it can be looked up, under a policy that enforces
revocation, is refused; so is one that has expired.
"""

from __future__ import annotations

import datetime as dt
import os

from ...errors import TrustError, ViscumError
from ..attachments import referring_layers
from ..material import Reading, need_library, read_file
from ..strict import read_json
from ..watching import note_end, note_file
from .chain import check_chain, check_signature, check_validity
from .envelope import read_envelope
from .trustpolicy import load_store, parse_document, subject_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..attachments import Layer
    from ..references import Image
    from ..rules import Notation
    from ..sources import SignatureSources
    from .envelope import Envelope
    from .trustpolicy import Document, Statement

__all__ = ["ARTIFACT", "find_statement", "judge_envelope", "judge_image"]

ARTIFACT = "application/vnd.cncf.notary.signature"
_REVOCABLE = ("1.3.6.1.5.5.7.1.1", "2.5.29.31")  # where OCSP answers, where lists are


def notation_folder() -> str:
    """Return the folder in which `notation` keeps its configuration."""
    top = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(top, "notation")


def _document(rule: Notation) -> Document:
    path = rule.document
    if not path:
        folder = notation_folder()
        names = ("trustpolicy.oci.json", "trustpolicy.json")
        paths = [os.path.join(folder, name) for name in names]
        for each in paths:
            note_file(each)
        path = next((each for each in paths if os.path.exists(each)), paths[1])
    return parse_document(read_file(path, "trust policy"), path)


def find_statement(rule: Notation, image: Image) -> Statement:
    """Return the trust policy that a rule has for an image; raises TrustError for none."""
    need_library("cryptography", "sign")
    name = image.name.repository if image.name is not None else str(image)
    return _document(rule).choose(name)


def judge_image(statement: Statement, store: str, digest: str, sources: SignatureSources) -> str:
    """Return who signed a manifest; raises TrustError where no signature shows it.

    `store` is the folder of trust stores, "" for the one of `notation`.
    """
    store = store or os.path.join(notation_folder(), "truststore")
    reasons: list[str] = []
    for layer in referring_layers(digest, ARTIFACT, sources):
        try:
            return judge_envelope(layer, statement, store, digest)
        except ViscumError as error:
            reasons.append(str(error)[:500])
    if not reasons:
        raise TrustError("it has no signature of the Notary Project", hint="viscum image sign")
    raise TrustError("no signature is good: " + "; ".join(reasons[:3]))


class _Outcome:
    """What failed and is only to be logged."""

    def __init__(self, statement: Statement) -> None:
        self.actions = statement.actions
        self.logged: list[str] = []

    def run(self, name: str, check: Callable[[], None]) -> None:
        """Run a check as the policy says."""
        if self.actions[name] == "skip":
            return
        try:
            with Reading("the envelope"):
                check()
        except TrustError as error:
            if self.actions[name] == "enforce":
                raise TrustError(f"{name}: {error.message}", hint=error.hint) from None
            self.logged.append(f"{name}: {error.message}")


def judge_envelope(layer: Layer, statement: Statement, store: str, digest: str) -> str:
    """Return who signed; raises TrustError where a check fails that the policy enforces."""
    with Reading("the envelope"):
        envelope = read_envelope(layer.read(), layer.media_type)
        signer = envelope.chain[0].subject.rfc4514_string()
    outcome = _Outcome(statement)

    def integrity() -> None:
        check_chain(envelope.chain)
        check_signature(envelope)
        _check_target(envelope.payload, digest)

    outcome.run("integrity", integrity)
    outcome.run("authenticity", lambda: _check_authenticity(envelope, statement, store))
    outcome.run("authenticTimestamp", lambda: _check_time(envelope))
    outcome.run("expiry", lambda: _check_expiry(envelope))
    outcome.run("revocation", lambda: _check_revocation(envelope))
    said = f" (only logged: {'; '.join(outcome.logged)})" if outcome.logged else ""
    return f"{signer} under the trust policy {statement.name!r}{said}"


def _check_target(payload: bytes, digest: str) -> None:
    target = read_json(payload, "payload").fields("targetArtifact")["targetArtifact"]
    fields = target.fields("mediaType digest size", "annotations urls data platform artifactType")
    fields["mediaType"].text()
    fields["size"].integer()
    if fields["digest"].text() != digest:
        raise TrustError(f"it is for another manifest, {fields['digest'].text()}")


def _check_authenticity(envelope: Envelope, statement: Statement, store: str) -> None:
    kind = "signingAuthority" if envelope.authority else "ca"
    names = [name for own, name in statement.stores if own == kind]
    if not names:
        raise TrustError(f"the trust policy {statement.name!r} has no trust store {kind}:…")
    trusted = {each for name in names for each in load_store(store, kind, name)}
    if not trusted & set(envelope.chain):
        last = envelope.chain[-1].subject.rfc4514_string()
        raise TrustError(f"no trust store of {statement.name!r} has {last}")
    leaf = envelope.chain[0]
    if not any(subject_matches(leaf, each) for each in statement.identities):
        raise TrustError(f"{leaf.subject.rfc4514_string()} is none of the trusted identities")


def _check_time(envelope: Envelope) -> None:
    now = dt.datetime.now(dt.UTC)
    if envelope.authority and envelope.time > now:
        raise TrustError(f"it was signed in the future, at {envelope.time}")
    check_validity(envelope.chain, envelope.time if envelope.authority else now)
    if not envelope.authority:
        for certificate in envelope.chain:
            note_end(certificate.not_valid_after_utc)


def _check_expiry(envelope: Envelope) -> None:
    if envelope.expiry is not None and envelope.expiry <= dt.datetime.now(dt.UTC):
        raise TrustError(f"the signature expired at {envelope.expiry}")
    note_end(envelope.expiry)


def _check_revocation(envelope: Envelope) -> None:
    for certificate in envelope.chain:
        if any(part.oid.dotted_string in _REVOCABLE for part in certificate.extensions):
            name = certificate.subject.rfc4514_string()
            raise TrustError(
                f"whether {name} was revoked is not looked up",
                hint='"override": {"revocation": "skip"} in the trust policy',
            )
