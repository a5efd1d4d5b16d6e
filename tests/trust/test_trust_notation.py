"""The Notary Project: envelopes in JWS and COSE, trust stores, trust policies."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import cbor2
import certificates
import cwt
import jwt
import pytest
import trust_parts
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PublicFormat

from needs import needs
from viscum.errors import TrustError
from viscum.trust import attaching
from viscum.trust.notation import chain as chains
from viscum.trust.notation import cose, envelope, jws, signing
from viscum.trust.references import parse_image

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = certificates.DAY
IDENTITY = "x509.subject: C=NL, ST=Utrecht, O=Viscum"


class House:
    """A trust store and a trust policy on disk, and an authority with a signer."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.root = certificates.make_authority("root")
        self.between = certificates.make_authority("between", self.root)
        self.signer = certificates.make_signer("signer", self.between)
        self.store("ca", "own", self.root)
        self.policy()

    def store(self, kind: str, name: str, *made: certificates.Made) -> None:
        path = self.folder / "truststore" / "x509" / kind / name
        path.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(made):
            (path / f"{number}.crt").write_bytes(one.pem())

    def policy(self, level: str = "strict", **changes: Any) -> None:
        statement: dict[str, Any] = {
            "name": "all",
            "registryScopes": ["*"],
            "signatureVerification": {"level": level, **changes.pop("signature", {})},
            "trustStores": ["ca:own"],
            "trustedIdentities": [IDENTITY],
            **changes,
        }
        kept = {key: value for key, value in statement.items() if value is not None}
        document = {"version": "1.0", "trustPolicies": [kept]}
        (self.folder / "trustpolicy.json").write_text(json.dumps(document))

    @property
    def rule(self) -> str:
        paths = {
            "trustPolicyPath": f"{self.folder}/trustpolicy.json",
            "trustStorePath": f"{self.folder}/truststore",
        }
        return json.dumps({"type": "notationSigned", **paths})


@pytest.fixture
def house(tmp_path: pathlib.Path) -> House:
    return House(tmp_path / "notation")


@pytest.fixture(params=["jws", "cose"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def image(layout: pathlib.Path) -> str:
    return f"oci:{layout}:v1"


def target_of(image: str) -> attaching.Target:
    return attaching.Target(parse_image(image), trust_parts.open_sources(image).top())


def put(image: str, data: bytes, form: str) -> None:
    sink = trust_parts.open_sources(image)
    attaching.attach_notation(target_of(image), data, form, "[]", sink)


def make(image: str, signer: certificates.Made, form: str, **options: Any) -> bytes:
    target = options.pop("target", None) or target_of(image).descriptor()
    return signing.make_envelope(target, signer.key, signer.chain, form=form, **options)


def sign(image: str, signer: certificates.Made, form: str, **options: Any) -> None:
    put(image, make(image, signer, form, **options), form)


def raw(
    image: str,
    signer: certificates.Made,
    form: str,
    headers: dict[str, Any],
    payload: bytes | None = None,
) -> bytes:
    """Return an envelope with any headers; nothing of it is checked."""
    if payload is None:
        payload = json.dumps({"targetArtifact": target_of(image).descriptor()}).encode()
    ders = [one.public_bytes(certificates.Encoding.DER) for one in signer.chain]
    algorithm = chains.algorithm_for(signer.key.public_key())
    write = jws.write_jws if form == "jws" else cose.write_cose
    return write(payload, algorithm, headers, ders, lambda data: chains.sign(signer.key, data))


def moment(form: str, away: dt.timedelta = dt.timedelta()) -> Any:
    time = dt.datetime.now(dt.UTC) + away
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if form == "jws" else int(time.timestamp())


def test_notation_signature_is_verified(
    form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, house.signer, form)
    decision = judge(image, house.rule)
    assert "CN=signer" in decision.identity
    assert "'all'" in decision.why


@pytest.mark.parametrize("kind", ["P-384", "P-521", "RSA-2048", "RSA-3072", "RSA-4096"])
def test_notation_key_of_every_kind_is_verified(
    kind: str, form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, certificates.make_signer("signer", house.between, kind=kind), form)
    judge(image, house.rule)


def test_notation_self_signed_certificate_is_verified(
    form: str, image: str, house: House, judge: Callable
) -> None:
    alone = certificates.make_signer("alone", None)
    sign(image, alone, form)
    with pytest.raises(TrustError, match="authenticity"):
        judge(image, house.rule)
    house.store("ca", "own", house.root, alone)
    judge(image, house.rule)


@needs("registry")
def test_notation_signature_in_a_registry_is_verified(
    registry: str, layout: pathlib.Path, form: str, house: House, judge: Callable
) -> None:
    target = f"{registry}/notation/{form}:v1"
    trust_parts.push(layout, target)
    sign(target, house.signer, form)
    house.policy(registryScopes=[f"{registry}/notation/{form}"])
    judge(target, house.rule)
    house.policy(registryScopes=[f"{registry}/notation/other"])
    with pytest.raises(TrustError, match="no trust policy for"):
        judge(target, house.rule)


@pytest.mark.parametrize(
    ("kind", "name"), [("P-256", "ES256"), ("P-521", "ES512"), ("RSA-2048", "PS256")]
)
def test_notation_jws_is_accepted_by_pyjwt(kind: str, name: str, image: str, house: House) -> None:
    signer = certificates.make_signer("signer", house.between, kind=kind)
    kept = json.loads(make(image, signer, "jws"))
    header = json.loads(base64.urlsafe_b64decode(kept["protected"] + "=="))
    assert (header["alg"], header["cty"]) == (name, envelope.PAYLOAD_TYPE)
    made = base64.urlsafe_b64decode(kept["signature"] + "=" * (-len(kept["signature"]) % 4))
    algorithm = jwt.PyJWS().get_algorithm_by_name(name)
    signed = f"{kept['protected']}.{kept['payload']}".encode()
    assert algorithm.verify(signed, signer.key.public_key(), made)


def test_notation_cose_is_read_by_cbor2(image: str, house: House) -> None:
    data = make(image, house.signer, "cose", expires=DAY)
    tagged = cbor2.loads(data)
    assert tagged.tag == 18
    protected = cbor2.loads(tagged.value[0])
    assert protected[1] == -7
    assert protected[3] == envelope.PAYLOAD_TYPE
    assert isinstance(protected[envelope.SIGNING_TIME], dt.datetime)
    assert len(tagged.value[1][33]) == 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("RSA-2048", "PS256")],
)
def test_notation_cose_is_accepted_by_cwt(kind: str, name: str, image: str, house: House) -> None:
    """Another implementation of COSE verifies the envelope, and refuses one that was changed."""
    signer = certificates.make_signer("signer", house.between, kind=kind)
    data = make(image, signer, "cose", expires=DAY)
    form = (certificates.Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = cwt.COSEKey.from_pem(signer.key.public_key().public_bytes(*form), alg=name, kid="x")
    judge = cwt.COSE.new(verify_kid=False)
    assert json.loads(judge.decode(data, key)) == {"targetArtifact": target_of(image).descriptor()}
    with pytest.raises(cwt.VerifyError):
        judge.decode(data[:-1] + bytes([data[-1] ^ 1]), key)


# Who is trusted.


def test_notation_unknown_authority_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    other = certificates.make_signer("signer", certificates.make_authority("root"))
    sign(image, other, form)
    with pytest.raises(TrustError, match="authenticity: no trust store"):
        judge(image, house.rule)


@pytest.mark.parametrize(
    ("identity", "good"),
    [
        ("*", True),
        (IDENTITY, True),
        (f"{IDENTITY}, CN=signer", True),
        ("x509.subject: CN=signer,O=Viscum,ST=Utrecht,C=NL", True),
        (f"{IDENTITY}, CN=other", False),
        ("x509.subject: C=NL, ST=Utrecht, O=Visc", False),
    ],
)
def test_notation_identity_decides(
    identity: str, good: bool, form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, house.signer, form)
    house.policy(trustedIdentities=[identity])
    if good:
        judge(image, house.rule)
        return
    with pytest.raises(TrustError, match="none of the trusted identities"):
        judge(image, house.rule)


def test_notation_store_of_another_kind_does_not_count(
    form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, house.signer, form)
    house.store("signingAuthority", "own", house.root)
    house.policy(trustStores=["signingAuthority:own"])
    with pytest.raises(TrustError, match="no trust store ca"):
        judge(image, house.rule)


def test_notation_store_with_a_link_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, house.signer, form)
    path = house.folder / "truststore" / "x509" / "ca" / "own"
    os.symlink(path / "0.crt", path / "link.crt")
    with pytest.raises(TrustError, match="no regular file"):
        judge(image, house.rule)


# Time.


def chain_that_ended() -> certificates.Made:
    root = certificates.make_authority("root", starts=-3 * DAY)
    return certificates.make_signer("signer", root, starts=-2 * DAY, ends=-DAY)


def times(form: str, away: dt.timedelta = dt.timedelta(), **more: dt.timedelta) -> dict[str, Any]:
    found = {envelope.SCHEME: envelope.X509, envelope.SIGNING_TIME: moment(form, away)}
    return found | {f"io.cncf.notary.{name}": moment(form, value) for name, value in more.items()}


def test_notation_expired_signature_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    put(image, raw(image, house.signer, form, times(form, -2 * DAY, expiry=-DAY)), form)
    with pytest.raises(TrustError, match="expiry: the signature expired"):
        judge(image, house.rule)
    house.policy("permissive")
    assert "only logged: expiry" in judge(image, house.rule).identity


def test_notation_signature_that_expires_later_is_verified(
    form: str, image: str, house: House, judge: Callable
) -> None:
    sign(image, house.signer, form, expires=DAY)
    judge(image, house.rule)


def test_notation_expired_certificate_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    ended = chain_that_ended()
    house.store("ca", "own", certificates.Made(ended.above[0], None))
    put(image, raw(image, ended, form, times(form)), form)
    with pytest.raises(TrustError, match=r"authenticTimestamp: .* not valid at"):
        judge(image, house.rule)


@pytest.mark.parametrize("away", [-1.5, -0.5, 1])
def test_notation_signing_authority_vouches_for_the_time(
    away: float, form: str, image: str, house: House, judge: Callable
) -> None:
    ended = chain_that_ended()
    house.store("signingAuthority", "own", certificates.Made(ended.above[0], None))
    house.policy(trustStores=["signingAuthority:own"])
    headers = {
        envelope.SCHEME: envelope.AUTHORITY,
        envelope.AUTHENTIC_TIME: moment(form, DAY * away),
    }
    put(image, raw(image, ended, form, headers), form)
    if away == -1.5:
        judge(image, house.rule)
        return
    with pytest.raises(TrustError, match="authenticTimestamp"):
        judge(image, house.rule)


def test_notation_revocation_that_cannot_be_asked_for_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    place = x509.DistributionPoint(
        [x509.UniformResourceIdentifier("http://crl.invalid/")], None, None, None
    )
    extra = [(x509.CRLDistributionPoints([place]), False)]
    sign(image, certificates.make_signer("signer", house.between, extra=extra), form)
    with pytest.raises(TrustError, match="revocation"):
        judge(image, house.rule)
    house.policy(signature={"override": {"revocation": "skip"}})
    judge(image, house.rule)


# Levels.


def test_notation_level_audit_wants_integrity_alone(
    form: str, image: str, house: House, judge: Callable
) -> None:
    stranger = certificates.make_signer("signer", certificates.make_authority("root"))
    sign(image, stranger, form)
    house.policy("audit")
    assert "only logged: authenticity" in judge(image, house.rule).identity


def test_notation_level_audit_refuses_what_was_changed(
    form: str, image: str, house: House, judge: Callable
) -> None:
    target = {**target_of(image).descriptor(), "digest": "sha256:" + "0" * 64}
    sign(image, house.signer, form, target=target)
    house.policy("audit")
    with pytest.raises(TrustError, match="integrity: it is for another manifest"):
        judge(image, house.rule)


def test_notation_level_skip_looks_at_nothing(image: str, house: House, judge: Callable) -> None:
    house.policy("skip", trustStores=None, trustedIdentities=None)
    decision = judge(image, house.rule)
    assert decision.identity == ""
    assert "skips verification" in decision.why


def test_notation_image_without_signature_is_refused(
    image: str, house: House, judge: Callable
) -> None:
    with pytest.raises(TrustError, match="no signature of the Notary Project"):
        judge(image, house.rule)


def test_notation_one_good_signature_is_enough(
    form: str, image: str, house: House, judge: Callable
) -> None:
    put(image, b"nonsense", form)
    sign(image, certificates.make_signer("signer", None), form)
    sign(image, house.signer, form)
    judge(image, house.rule)


# Certificates.


def usage_of(*usages: Any) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.ExtendedKeyUsage(list(usages)), False)]


BAD_SIGNERS: dict[str, Callable[[House], certificates.Made]] = {
    "not digitalSignature": lambda house: certificates.make_signer("s", house.between, usages=("key_agreement",)),
    "may certify": lambda house: certificates.make_signer(
        "s", house.between, usages=("digital_signature", "key_cert_sign")),
    "an authority": lambda house: certificates.make_authority("s", house.between),
    "issued by a signer": lambda house: certificates.make_signer("s", house.signer),
    "path too long": lambda house: certificates.make_signer("s", certificates.make_authority(
        "c", certificates.make_authority("b", certificates.make_authority("a", depth=0)))),
    "wrong issuer": lambda house: certificates.make_signer("s", house.between)._replace(
        above=certificates.make_signer("x", certificates.make_authority("other")).above),
    "no root": lambda house: house.signer._replace(above=house.signer.above[:1]),
    "small key": lambda house: certificates.make_signer("s", house.between, kind="RSA-1024"),
    "SHA-1 or other": lambda house: certificates.make_signer("s", house.between, hashed=hashes.SHA3_256()),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SIGNERS)
def test_notation_chain_that_is_no_good_is_refused(case: str, house: House) -> None:
    with pytest.raises(TrustError):
        chains.check_chain(BAD_SIGNERS[case](house).chain)


def test_notation_chain_that_is_good_passes(house: House) -> None:
    chains.check_chain(house.signer.chain)


# Envelopes.


HEADERS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "no scheme": lambda headers, form: headers.pop(envelope.SCHEME),
    "unknown scheme": lambda headers, form: headers.update({envelope.SCHEME: "other"}),
    "unknown header": lambda headers, form: headers.update(
        {"io.cncf.notary.verificationPlugin": "x"}
    ),
    "no time": lambda headers, form: headers.pop(envelope.SIGNING_TIME),
    "both times": lambda headers, form: headers.update({envelope.AUTHENTIC_TIME: moment(form)}),
    "another scheme": lambda headers, form: headers.update({envelope.SCHEME: envelope.AUTHORITY}),
    "time is text": lambda headers, form: headers.update({envelope.SIGNING_TIME: "yesterday"}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_notation_odd_headers_are_refused(
    case: str, form: str, image: str, house: House, judge: Callable
) -> None:
    headers = times(form)
    HEADERS[case](headers, form)
    put(image, raw(image, house.signer, form, headers), form)
    with pytest.raises(TrustError, match="no signature is good"):
        judge(image, house.rule)


def test_notation_header_that_must_be_critical_is_refused_otherwise(
    image: str, house: House, judge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jws, "SCHEME", "nothing")
    data = raw(image, house.signer, "jws", times("jws"))
    monkeypatch.undo()
    put(image, data, "jws")
    with pytest.raises(TrustError, match="must be critical"):
        judge(image, house.rule)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"targetArtifact": 1}',
        b'{"targetArtifact": {}, "targetArtifact": {}}',
        b"\xff",
    ],
)
def test_notation_odd_payload_is_refused(
    payload: bytes, form: str, image: str, house: House, judge: Callable
) -> None:
    put(image, raw(image, house.signer, form, times(form), payload), form)
    with pytest.raises(TrustError, match="no signature is good"):
        judge(image, house.rule)


def test_notation_changed_envelope_is_refused(
    form: str, image: str, house: House, judge: Callable
) -> None:
    """One bit at a time, all over the envelope; what is changed may be no more than unsigned."""
    data = make(image, house.signer, form)
    agent = data.index(b"viscum")
    for place in range(0, len(data), 41):
        if agent - 60 < place < agent + 8:
            continue  # the name of what signed is not signed
        changed = bytearray(data)
        changed[place] ^= 1
        trust_parts.make_layout(pathlib.Path(image.split(":")[1] + f"-{place}"))
        other = f"{image.rpartition(':')[0]}-{place}:v1"
        put(other, bytes(changed), form)
        with pytest.raises(TrustError):
            judge(other, house.rule)


def test_notation_algorithm_must_go_with_the_key(
    image: str, house: House, judge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ders = [one.public_bytes(certificates.Encoding.DER) for one in house.signer.chain]
    payload = json.dumps({"targetArtifact": target_of(image).descriptor()}).encode()
    for algorithm in ("ES384", "PS256"):
        data = jws.write_jws(
            payload, algorithm, times("jws"), ders, lambda d: chains.sign(house.signer.key, d)
        )
        put(image, data, "jws")
    with pytest.raises(TrustError, match="does not go with the key"):
        judge(image, house.rule)


# Trust policy documents.


DOCUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"more": 1}, "unknown key 'more'"),
    "unknown level": ({"signatureVerification": {"level": "lax"}}, "'lax' is unknown"),
    "integrity overridden": (
        {"signature": {"override": {"integrity": "log"}}},
        "cannot be overridden",
    ),
    "authenticity skipped": (
        {"signature": {"override": {"authenticity": "skip"}}},
        "cannot be skipped",
    ),
    "unknown override": ({"signature": {"override": {"other": "log"}}}, "cannot be overridden"),
    "star and more": ({"registryScopes": ["*", "a.example.com/b"]}, "stands alone"),
    "no repository": ({"registryScopes": ["a.example.com"]}, "no repository"),
    "scope twice": ({"registryScopes": ["a.io/b", "a.io/b"]}, "twice"),
    "no scopes": ({"registryScopes": []}, "must not be empty"),
    "no stores": ({"trustStores": None}, "needs trustStores"),
    "odd store": ({"trustStores": ["ca:../../etc"]}, "no trust store"),
    "dots": ({"trustStores": ["ca:.."]}, "no trust store"),
    "unknown store": ({"trustStores": ["x:own"]}, "no trust store"),
    "half identity": ({"trustedIdentities": ["x509.subject: C=NL, O=Viscum"]}, "needs C, ST and O"),
    "odd identity": ({"trustedIdentities": ["mail:me"]}, "no identity"),
    "overlapping": ({"trustedIdentities": [IDENTITY, f"{IDENTITY}, CN=x"]}, "includes another"),
    "no name": ({"name": ""}, "must not be empty"),
    "name is a number": ({"name": 5}, "must be a string"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_notation_policy_that_is_no_good_is_refused(
    case: str, image: str, house: House, judge: Callable
) -> None:
    changes, reason = DOCUMENTS[case]
    changes = dict(changes)
    verification = changes.pop("signatureVerification", None)
    house.policy(**changes, **({"signatureVerification": verification} if verification else {}))
    with pytest.raises(TrustError, match=reason) as caught:
        judge(image, house.rule)
    assert "$.trustPolicies[0]" in caught.value.message


def test_notation_policy_names_and_scopes_are_unique(
    image: str, house: House, judge: Callable
) -> None:
    path = house.folder / "trustpolicy.json"
    document = json.loads(path.read_text())
    (first,) = document["trustPolicies"]
    for second, reason in (({**first}, "name"), ({**first, "name": "b"}, "is in the policy 'all'")):
        document["trustPolicies"] = [first, second]
        path.write_text(json.dumps(document))
        with pytest.raises(TrustError, match=reason):
            judge(image, house.rule)


def test_notation_policy_of_another_version_is_refused(
    image: str, house: House, judge: Callable
) -> None:
    path = house.folder / "trustpolicy.json"
    path.write_text(path.read_text().replace("1.0", "2.0"))
    with pytest.raises(TrustError, match=r"\$\.version"):
        judge(image, house.rule)
