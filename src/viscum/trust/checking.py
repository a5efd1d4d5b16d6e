"""The question that everything asks before an image is unpacked: does the policy allow it?"""

from __future__ import annotations

import functools
import os
import warnings

from ..errors import TrustError, ViscumError, ViscumWarning, escaped
from ..frozen import Frozen
from ..places import data_folder, make_folder
from .attachments import cosign_signatures, digest_matches
from .policy import load_policy
from .references import parse_image
from .rules import Accept, Bundle, Notation, Reject, SignedBy, SigstoreSigned
from .sources import openpgp_messages, sigstore_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .policy import Choice, Policy
    from .references import Image
    from .rules import Rule
    from .sources import SignatureSources

    Signer = Callable[[], str]

__all__ = ["Decision", "Finding", "check"]

_SHOWN, _LENGTH = 3, 500  # of the reasons why signatures are no good


class Finding(Frozen):
    """How one rule was met: where it stands in the policy, its kind, why, and who signed.

    `identity` is empty where the rule asks for no signature.
    """

    rule: str
    kind: str
    why: str
    identity: str = ""


class Decision(Frozen):
    """An image that the policy allows, and how it came to that.

    `scope` is the one whose rules were in force, "" for a default; `transport` is "" for the
    default of all transports. `policy` is the file. Every rule of the scope has a finding.
    """

    image: str
    digest: str
    policy: str
    transport: str
    scope: str
    findings: tuple[Finding, ...]

    @property
    def rule(self) -> str:
        """The paths of the rules in the policy."""
        return ", ".join(finding.rule for finding in self.findings)

    @property
    def why(self) -> str:
        """Why the image is allowed."""
        return "; ".join(finding.why for finding in self.findings)

    @property
    def identity(self) -> str:
        """Who signed, "" where nobody had to."""
        return ", ".join(finding.identity for finding in self.findings if finding.identity)


def _first_good(attempts: Iterator[Signer], nothing: str) -> str:
    """Return who made the first signature that is good; raises TrustError with what was wrong."""
    reasons: list[str] = []
    try:
        for attempt in attempts:
            try:
                return attempt()
            except ViscumError as error:  # of ours, or of a source that lacks a part of it
                reasons.append(str(error)[:_LENGTH])
    except TrustError as error:  # what lies beside the image cannot even be listed
        reasons.append(str(error)[:_LENGTH])
    if not reasons:
        raise TrustError(nothing, hint="viscum image sign")
    more = f" (and {len(reasons) - _SHOWN} more)" if len(reasons) > _SHOWN else ""
    raise TrustError("no signature is good: " + "; ".join(reasons[:_SHOWN]) + more)


def _signed_by(rule: SignedBy, image: Image, digest: str, sources: SignatureSources) -> str:
    from .openpgp import load_keys, verify_message
    from .simple import ATOMIC, read_claim

    keys = [key for part in rule.keys for key in load_keys(part.read(), str(part))]

    def judge(message: bytes) -> str:
        signed = verify_message(message, keys)
        claim = read_claim(signed.payload, ATOMIC)
        claim.check_digest(digest)
        rule.identity.check(image, claim.reference)
        return str(signed)

    messages = openpgp_messages(image, digest, sources)
    return _first_good(
        (functools.partial(judge, message) for message in messages),
        "it has no signature of simple signing",
    )


def _check_attachments(image: Image) -> None:
    from .storage import configuration_folder, find_storage

    if image.transport != "docker" or image.name is None:
        return
    if not find_storage(image.name).attachments:
        raise TrustError(
            f"signatures of cosign are not looked for at {image.name.registry}",
            hint=f"use-sigstore-attachments: true in {configuration_folder()}",
        )


def _sigstore_signed(
    rule: SigstoreSigned, image: Image, digest: str, sources: SignatureSources
) -> str:
    from .cosign import Judge

    _check_attachments(image)
    judge = Judge(rule)
    in_files = image.transport == "dir"
    found = sigstore_in(image, digest, sources) if in_files else cosign_signatures(digest, sources)
    return _first_good(
        (functools.partial(judge.judge, signature, image, digest) for signature in found),
        "it has no signature of cosign's",
    )


def _bundled(rule: Bundle, image: Image, digest: str, sources: SignatureSources) -> str:
    from .bundles import bundles, make_judge

    judge = make_judge(rule)
    return _first_good(
        (functools.partial(judge, bundle, digest) for bundle in bundles(digest, sources)),
        f"{image} has no sigstore bundle",
    )


def _notation(rule: Notation, image: Image, digest: str, sources: SignatureSources) -> str:
    from .notation.judging import find_statement, judge_image

    statement = find_statement(rule, image)
    if statement.level == "skip":
        return ""
    return judge_image(statement, rule.store, digest, sources)


_JUDGES: dict[type, Callable[..., str]] = {
    SignedBy: _signed_by,
    SigstoreSigned: _sigstore_signed,
    Bundle: _bundled,
    Notation: _notation,
}


def _meet(rule: Rule, image: Image, digest: str, sources: SignatureSources) -> Finding:
    if isinstance(rule, Accept):
        return Finding(rule.path, rule.kind, "everything is accepted, signed or not")
    if isinstance(rule, Reject):
        raise TrustError("every image is refused", hint="viscum trust set SCOPE …")
    identity = escaped(_JUDGES[type(rule)](rule, image, digest, sources))
    why = f"signed by {identity}" if identity else "the trust policy skips verification"
    return Finding(rule.path, rule.kind, why, identity)


def _warn_once(image: Image) -> None:
    """Say that there is no policy, the first time on this host."""
    try:
        folder = make_folder(os.path.join(data_folder(), "trust"))
        os.close(os.open(f"{folder}/no-policy-said", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except (OSError, ViscumError):
        pass  # then it is said again
    text = f"there is no policy, so {image} and every other image is accepted, signed or not"
    warnings.warn(f"{text} (viscum trust set --help)", ViscumWarning, stacklevel=3)


def check(
    reference: str,
    digest: str,
    manifest: bytes,
    sources: SignatureSources,
    *,
    policy: Policy | None = None,
) -> Decision:
    """Return how the policy came to allow the image; raises TrustError where it does not.

    `reference` is what was asked for, `docker://` where it names no transport; `digest` is that
    of `manifest`, the bytes as they were received. What runs must be what `digest` names: a
    reference with a digest of its own is not compared, since that may be the digest of an index.
    """
    image = parse_image(reference)
    if not digest_matches(digest, manifest):
        raise TrustError(f"{image}: the manifest's digest is not {digest}")
    policy = policy or load_policy()
    choice = policy.choose(image)
    findings = tuple(
        _explained(rule, image, digest, sources, choice, policy) for rule in choice.rules
    )
    if policy.built_in:
        _warn_once(image)
    return Decision(str(image), digest, policy.source, choice.transport, choice.scope, findings)


def _explained(
    rule: Rule,
    image: Image,
    digest: str,
    sources: SignatureSources,
    choice: Choice,
    policy: Policy,
) -> Finding:
    try:
        return _meet(rule, image, digest, sources)
    except TrustError as error:
        raise TrustError(
            f"{image} is refused by {choice} in {policy.source}, "
            f"rule {rule.path} ({rule.kind}): {error.message}",
            hint=error.hint,
        ) from None
