"""Cosign's signatures by a key: made here and by skopeo, judged here and by skopeo."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import certificates
import nacl.secret
import pytest
import rekor_log
import trust_parts
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from needs import JUDGES, needs
from viscum.cli.trust.local import write_url
from viscum.errors import TrustError
from viscum.trust import attaching, cosign, keys, secretbox, simple
from viscum.trust.attachments import COSIGN_ARTIFACT, COSIGN_LAYER
from viscum.trust.references import parse_image

if TYPE_CHECKING:
    from collections.abc import Callable


class Signer:
    """A key, and rules that trust it."""

    def __init__(self, key: Any = None) -> None:
        self.key = key or certificates.make_key()
        self.public = self.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def rule(self, identity: dict[str, str] | None = None, **more: object) -> str:
        data = base64.b64encode(self.public).decode()
        stated: dict[str, object] = {"type": "sigstoreSigned", "keyData": data, **more}
        if identity:
            stated["signedIdentity"] = identity
        return json.dumps(stated)

    def sign(self, data: bytes) -> bytes:
        return keys.sign(self.key, data)


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture
def image(layout: pathlib.Path) -> str:
    return f"oci:{layout}:v1"


EXACT = {"type": "exactReference", "dockerReference": "example.com/team/app:v1"}
REPOSITORY = {"type": "exactRepository", "dockerRepository": "example.com/team/app"}


def target_of(image: str, identity: str = "example.com/team/app:v1") -> attaching.Target:
    sources = trust_parts.open_sources(image)
    return attaching.Target(parse_image(image), sources.top(), identity)


def attach(image: str, signer: Signer, identity: str = "example.com/team/app:v1") -> str:
    target = target_of(image, identity)
    return attaching.attach_cosign(target, signer.sign, trust_parts.open_sources(image))


def put(image: str, payload: bytes, annotations: dict[str, str], *, referrer: bool = False) -> None:
    """Attach whatever is given, as a tag or as a referrer."""
    sink, target = trust_parts.open_sources(image), target_of(image)
    digest = trust_parts.digest_of(payload)
    sink.put_blob(payload, digest)
    layer = {
        "mediaType": COSIGN_LAYER,
        "digest": digest,
        "size": len(payload),
        "annotations": annotations,
    }
    empty = trust_parts.digest_of(b"{}")
    sink.put_blob(b"{}", empty)
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": empty, "size": 2}
    manifest: dict[str, object] = {"schemaVersion": 2, "config": config, "layers": [layer]}
    if referrer:
        manifest |= {"artifactType": COSIGN_ARTIFACT, "subject": target.descriptor()}
    data = json.dumps(manifest).encode()
    tag = "" if referrer else target.digest.replace(":", "-") + ".sig"
    sink.put_manifest(data, trust_parts.digest_of(data), attaching.MANIFEST, tag)


def claim(image: str, reference: str = "example.com/team/app") -> bytes:
    return simple.make_claim(target_of(image).digest, reference, simple.COSIGN)


def annotated(signer: Signer, payload: bytes) -> dict[str, str]:
    return {cosign.SIGNATURE: base64.b64encode(signer.sign(payload)).decode()}


def test_cosign_signature_under_a_tag_is_verified(
    image: str, signer: Signer, judge: Callable
) -> None:
    attach(image, signer)
    decision = judge(image, signer.rule(EXACT))
    assert hashlib.sha256(_der(signer)).hexdigest()[:16] in decision.identity


def _der(signer: Signer) -> bytes:
    return signer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_cosign_signature_of_a_referrer_is_verified(
    image: str, signer: Signer, judge: Callable
) -> None:
    payload = claim(image)
    put(image, payload, annotated(signer, payload), referrer=True)
    judge(image, signer.rule(REPOSITORY))


def test_cosign_second_signature_keeps_the_first(
    image: str, signer: Signer, judge: Callable
) -> None:
    other = Signer()
    attach(image, signer)
    attach(image, other)
    judge(image, f"{signer.rule(EXACT)}, {other.rule(EXACT)}")


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048", "ed25519"])
def test_cosign_key_of_every_kind_is_verified(kind: str, image: str, judge: Callable) -> None:
    own = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else certificates.make_key(kind)
    signer = Signer(own)
    attach(image, signer)
    judge(image, signer.rule(EXACT))


def test_cosign_signature_by_another_key_is_refused(
    image: str, signer: Signer, judge: Callable
) -> None:
    attach(image, Signer())
    with pytest.raises(TrustError, match="not by a key that is trusted"):
        judge(image, signer.rule(EXACT))


def test_cosign_image_without_signature_is_refused(
    image: str, signer: Signer, judge: Callable
) -> None:
    with pytest.raises(TrustError, match="no signature of cosign's") as caught:
        judge(image, signer.rule(EXACT))
    assert "sigstoreSigned" in caught.value.message


def test_cosign_changed_manifest_is_refused(image: str, signer: Signer, judge: Callable) -> None:
    attach(image, signer)
    manifest = trust_parts.open_sources(image).top()
    changed = manifest.replace(b'"layers"', b'"layers" ')
    with pytest.raises(TrustError):  # its digest is another one, which has no signature
        judge(image, signer.rule(EXACT), manifest=changed)


def test_cosign_claim_of_another_manifest_is_refused(
    image: str, signer: Signer, judge: Callable
) -> None:
    payload = simple.make_claim("sha256:" + "0" * 64, "example.com/team/app", simple.COSIGN)
    put(image, payload, annotated(signer, payload))
    with pytest.raises(TrustError, match="another manifest"):
        judge(image, signer.rule(REPOSITORY))


def test_cosign_changed_payload_is_refused(image: str, signer: Signer, judge: Callable) -> None:
    payload = claim(image)
    put(image, payload + b" ", annotated(signer, payload))
    with pytest.raises(TrustError, match="was changed"):
        judge(image, signer.rule(REPOSITORY))


def test_cosign_repository_claim_needs_a_rule_that_says_so(
    image: str, signer: Signer, judge: Callable
) -> None:
    payload = claim(image)
    put(image, payload, annotated(signer, payload))
    with pytest.raises(TrustError, match=r"it claims no tag|exactReference"):
        judge(image, signer.rule(EXACT))
    judge(image, signer.rule(REPOSITORY))


@pytest.mark.parametrize("annotations", [{}, {cosign.SIGNATURE: "%%"}, {cosign.SIGNATURE: ""}])
def test_cosign_malformed_annotation_is_refused(
    annotations: dict[str, str], image: str, signer: Signer, judge: Callable
) -> None:
    put(image, claim(image), annotations)
    with pytest.raises(TrustError, match="no signature is good"):
        judge(image, signer.rule(REPOSITORY))


def test_cosign_referrer_of_another_manifest_is_refused(
    image: str, signer: Signer, judge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = claim(image)
    put(image, payload, annotated(signer, payload), referrer=True)
    sources = trust_parts.open_sources(image)
    (descriptor,) = sources.referrers(target_of(image).digest, COSIGN_ARTIFACT)
    manifest = json.loads(sources.blob(str(descriptor["digest"])))
    manifest["subject"]["digest"] = "sha256:" + "1" * 64
    data = json.dumps(manifest).encode()
    own = {"digest": trust_parts.digest_of(data)}
    sources.put_blob(data, own["digest"])
    monkeypatch.setattr(type(sources), "referrers", lambda *_: [own])
    monkeypatch.setattr(
        type(sources), "manifest", lambda _, name: data if "." not in name else None
    )
    with pytest.raises(TrustError, match="subject is not"):
        judge(image, signer.rule(REPOSITORY))


# The log's promise.


def test_rekor_promise_is_verified(image: str, signer: Signer, judge: Callable) -> None:
    log, payload = rekor_log.Log(), claim(image)
    made = signer.sign(payload)
    bundle = log.promise(payload, made, signer.public)
    put(
        image,
        payload,
        {
            **annotated(signer, payload),
            cosign.SIGNATURE: base64.b64encode(made).decode(),
            cosign.BUNDLE: bundle,
        },
    )
    judge(image, signer.rule(REPOSITORY, rekorPublicKeyData=log.data))


@pytest.mark.parametrize(
    "case", ["absent", "another log", "another payload", "another key", "changed time"]
)
def test_rekor_promise_that_does_not_fit_is_refused(
    case: str, image: str, signer: Signer, judge: Callable
) -> None:
    log, payload = rekor_log.Log(), claim(image)
    made = signer.sign(payload)
    promised = payload + b" " if case == "another payload" else payload
    verifier = Signer().public if case == "another key" else signer.public
    bundle = log.promise(promised, made, verifier)
    if case == "changed time":
        bundle = bundle.replace('"integratedTime": ', '"integratedTime": 1')
    annotations = {cosign.SIGNATURE: base64.b64encode(made).decode(), cosign.BUNDLE: bundle}
    if case == "absent":
        del annotations[cosign.BUNDLE]
    put(image, payload, annotations)
    trusted = rekor_log.Log() if case == "another log" else log
    with pytest.raises(TrustError, match="log"):
        judge(image, signer.rule(REPOSITORY, rekorPublicKeyData=trusted.data))


# Certificates.


def certified(image: str, log: rekor_log.Log, signed_by: certificates.Made, **more: str) -> None:
    payload = claim(image)
    made = keys.sign(signed_by.key, payload)
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in signed_by.above)
    put(image, payload, {
        cosign.SIGNATURE: base64.b64encode(made).decode(),
        cosign.CERTIFICATE: signed_by.pem().decode(),
        cosign.CHAIN: chain.decode(),
        cosign.BUNDLE: log.promise(payload, made, signed_by.pem()),
        **more,
    })  # fmt: skip


def fulcio_rule(authority: certificates.Made, log: rekor_log.Log, **more: str) -> str:
    fulcio = {
        "caData": base64.b64encode(authority.pem()).decode(),
        "oidcIssuer": "https://issuer.example.com",
        "subjectEmail": "dev@example.com",
        **more,
    }
    stated = {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyData": log.data}
    return json.dumps({**stated, "signedIdentity": REPOSITORY})


def test_fulcio_certificate_that_expired_since_is_verified(image: str, judge: Callable) -> None:
    log, authority = (
        rekor_log.Log(),
        certificates.make_authority("fulcio", starts=-2 * certificates.DAY),
    )
    between = certificates.make_authority("between", authority, starts=-2 * certificates.DAY)
    leaf = rekor_log.make_identity(between, ends=-certificates.DAY / 2)
    log.time = int((leaf.certificate.not_valid_before_utc + certificates.DAY / 4).timestamp())
    certified(image, log, leaf)
    decision = judge(image, fulcio_rule(authority, log))
    assert decision.identity == "dev@example.com of https://issuer.example.com"


@pytest.mark.parametrize("case", ["issuer", "email", "authority", "expired", "usage"])
def test_fulcio_certificate_of_somebody_else_is_refused(
    case: str, image: str, judge: Callable
) -> None:
    log, authority = rekor_log.Log(), certificates.make_authority("fulcio")
    leaf = rekor_log.make_identity(authority, code=case != "usage")
    if case == "expired":
        log.time = int(leaf.certificate.not_valid_after_utc.timestamp()) + 60
    certified(image, log, leaf)
    changed = {
        "issuer": {"oidcIssuer": "https://evil.example.com"},
        "email": {"subjectEmail": "x@y.z"},
    }
    trusted = certificates.make_authority("other") if case == "authority" else authority
    with pytest.raises(TrustError, match="certificate"):
        judge(image, fulcio_rule(trusted, log, **changed.get(case, {})))


@pytest.mark.parametrize("case", ["good", "email", "roots", "expired"])
def test_own_authority_decides(case: str, image: str, judge: Callable) -> None:
    root = certificates.make_authority("own root")
    between = certificates.make_authority("own signing", root)
    ends = -certificates.DAY / 2 if case == "expired" else certificates.DAY
    leaf = rekor_log.make_identity(between, ends=ends)
    certified(image, rekor_log.Log(), leaf)
    trusted = certificates.make_authority("other") if case == "roots" else root
    pki = {
        "caRootsData": base64.b64encode(trusted.pem()).decode(),
        "caIntermediatesData": base64.b64encode(between.pem()).decode(),
        "subjectEmail": "x@y.z" if case == "email" else "dev@example.com",
    }
    rules = json.dumps({"type": "sigstoreSigned", "pki": pki, "signedIdentity": REPOSITORY})
    if case == "good":
        assert judge(image, rules).identity == "dev@example.com"
        return
    with pytest.raises(TrustError, match="certificate"):
        judge(image, rules)


# skopeo, both ways.


def registries_d(folder: pathlib.Path) -> list[str]:
    path = folder / "registries.d"
    (path / "default.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
    return ["skopeo", "--registries.d", str(path)]


@needs("skopeo-sigstore", "registry")
def test_signature_by_skopeo_with_our_encrypted_key_is_verified(
    registry: str, layout: pathlib.Path, signer: Signer, judge: Callable, own_folders: pathlib.Path
) -> None:
    key, password = own_folders / "cosign.key", own_folders / "password"
    key.write_bytes(keys.encrypt_key(signer.key, "secret words"))
    password.write_text("secret words")
    target = f"{registry}/cosign/by-skopeo:v1"
    trust_parts.call(
        *registries_d(own_folders), "copy", "--dest-tls-verify=false",
        "--sign-by-sigstore-private-key", str(key), "--sign-passphrase-file", str(password),
        f"oci:{layout}:v1", f"docker://{target}",
    )  # fmt: skip
    judge(target, signer.rule())
    with pytest.raises(TrustError, match="not by a key"):
        judge(target, Signer().rule())


@needs("registry")
def test_attachments_are_read_where_the_configuration_says_so(
    registry: str, layout: pathlib.Path, signer: Signer, judge: Callable
) -> None:
    target = f"{registry}/cosign/unread:v1"
    trust_parts.push(layout, target)
    attach(target, signer, identity="")
    with pytest.raises(TrustError, match="not looked for"):
        judge(target, signer.rule())


def policy_file(folder: pathlib.Path, rule: str) -> pathlib.Path:
    path = folder / "policy.json"
    path.write_text(
        '{"default": [{"type": "reject"}], "transports": {"docker": {"": [%s]}}}' % rule
    )
    return path


@needs("skopeo-sigstore", "registry")
def test_our_signature_is_accepted_by_skopeo_under_a_policy(
    registry: str, layout: pathlib.Path, signer: Signer, own_folders: pathlib.Path
) -> None:
    target = f"{registry}/cosign/by-us:v1"
    trust_parts.push(layout, target)
    attach(target, signer, identity="")
    for trusted, ok in ((signer, True), (Signer(), False)):
        trust_parts.call(
            *registries_d(own_folders), "--policy", str(policy_file(own_folders, trusted.rule())),
            "copy", "--src-tls-verify=false", f"docker://{target}", f"dir:{own_folders}/{ok}", ok=ok,
        )  # fmt: skip


def test_our_signature_is_accepted_by_openssl(
    image: str, signer: Signer, own_folders: pathlib.Path
) -> None:
    tag = attach(image, signer)
    sources = trust_parts.open_sources(image)
    (layer,) = json.loads(sources.manifest(tag))["layers"]
    (own_folders / "payload").write_bytes(sources.blob(layer["digest"]))
    made = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    (own_folders / "signature").write_bytes(made)
    (own_folders / "key.pub").write_bytes(signer.public)
    trust_parts.call(
        "openssl", "dgst", "-sha256", "-verify", str(own_folders / "key.pub"),
        "-signature", str(own_folders / "signature"), str(own_folders / "payload"),
    )  # fmt: skip


@needs("sigstore-js")
@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA-2048"])
def test_our_signature_is_accepted_by_sigstore(
    kind: str, image: str, own_folders: pathlib.Path
) -> None:
    """Sigstore's own JavaScript library, given our signature as a bundle of version 0.3."""
    key = certificates.make_key(kind)
    tag = attaching.attach_cosign(
        target_of(image), lambda data: keys.sign(key, data), trust_parts.open_sources(image)
    )
    sources = trust_parts.open_sources(image)
    (layer,) = json.loads(sources.manifest(tag))["layers"]
    payload = sources.blob(layer["digest"])
    made = layer["annotations"]["dev.cosignproject.cosign/signature"]
    digest = base64.b64encode(hashlib.sha256(payload).digest()).decode()
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
            "signature": made,
        },
    }
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = Signer().public
    for artifact, public, good in (
        (payload, pem, True),
        (payload + b" ", pem, False),
        (payload, stranger, False),
    ):
        text = base64.b64encode(artifact).decode()
        given = {"bundle": bundle, "key": public.decode(), "artifact": text}
        script = str(pathlib.Path(__file__).parent / "judge.js")
        said = trust_parts.call(
            "node", script, stdin=json.dumps(given), env={"NODE_PATH": JUDGES}, ok=good
        )
        assert good or "SIGNATURE_ERROR" in said


@needs("registry")
def test_cosign_signature_in_a_registry_is_verified(
    registry: str, layout: pathlib.Path, signer: Signer, judge: Callable, own_folders: pathlib.Path
) -> None:
    registries_d(own_folders)
    target = f"{registry}/cosign/pushed:v1"
    trust_parts.push(layout, target)
    attach(target, signer, identity="")
    judge(target, signer.rule())
    with pytest.raises(TrustError, match="not by a key"):
        judge(target, Signer().rule())


@needs("registry")
def test_cosign_referrer_in_a_registry_is_verified(
    registry: str, layout: pathlib.Path, signer: Signer, judge: Callable, own_folders: pathlib.Path
) -> None:
    registries_d(own_folders)
    target = f"{registry}/cosign/referred:v1"
    trust_parts.push(layout, target)
    payload = claim(target, target)
    put(target, payload, annotated(signer, payload), referrer=True)
    judge(target, signer.rule())


@needs("skopeo")
def test_signature_in_a_folder_is_read_as_skopeo_keeps_it(
    layout: pathlib.Path, signer: Signer, judge: Callable, own_folders: pathlib.Path
) -> None:
    trust_parts.call("skopeo", "copy", f"oci:{layout}:v1", f"dir:{own_folders}/copy")
    image = f"dir:{own_folders}/copy"
    sources = trust_parts.open_sources(image)
    attaching.store_cosign(target_of(image), signer.sign, sources, write_url)
    judge(image, signer.rule(EXACT))
    with pytest.raises(TrustError):
        judge(image, Signer().rule(EXACT))


# Keys.


def test_encrypted_key_opens_with_its_password_alone(signer: Signer) -> None:
    data = keys.encrypt_key(signer.key, "right")
    opened = keys.load_private(data, "right", "key")
    assert opened.private_numbers() == signer.key.private_numbers()
    with pytest.raises(TrustError, match="password"):
        keys.load_private(data, "wrong", "key")


@pytest.mark.parametrize("password", [None, "secret"])
def test_key_in_pem_is_read(signer: Signer, password: str | None) -> None:
    plain = certificates.NoEncryption()
    cover = BestAvailableEncryption(password.encode()) if password else plain
    data = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cover)
    opened = keys.load_private(data, password, "key")
    assert opened.private_numbers() == signer.key.private_numbers()


def test_encrypted_key_with_a_boundless_cost_is_refused(signer: Signer) -> None:
    data = keys.encrypt_key(signer.key, "right").decode()
    name = "ENCRYPTED SIGSTORE PRIVATE KEY"
    body = base64.b64decode("".join(data.split("-----")[2].split()))
    for cost in (0, 3, 1 << 40):
        changed = json.loads(body)
        changed["kdf"]["params"]["N"] = cost
        text = base64.b64encode(json.dumps(changed).encode()).decode()
        pem = f"-----BEGIN {name}-----\n{text}\n-----END {name}-----\n"
        with pytest.raises(TrustError, match="scrypt"):
            keys.load_private(pem.encode(), "right", "key")


def test_secretbox_is_that_of_nacl() -> None:
    """The published example of NaCl's crypto_secretbox (D. J. Bernstein)."""
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    text = bytes.fromhex(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d4"
        "5e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a"
        "024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
    )
    box = secretbox.make_box(text, nonce, key)
    assert box[:16].hex() == "f3ffc7703f9400e52a7dfb4b3d3305d9"
    assert box[16:48].hex() == "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    assert secretbox.open_box(box, nonce, key) == text
    for place in range(0, len(box), 7):
        changed = bytearray(box)
        changed[place] ^= 1
        with pytest.raises(ValueError):
            secretbox.open_box(bytes(changed), nonce, key)


def test_secretbox_of_any_length_is_that_of_libsodium() -> None:
    for size in (0, 1, 31, 32, 33, 64, 200):
        text, nonce, key = os.urandom(size), os.urandom(24), os.urandom(32)
        box = secretbox.make_box(text, nonce, key)
        assert box == nacl.secret.SecretBox(key).encrypt(text, nonce).ciphertext
        assert secretbox.open_box(box, nonce, key) == text
