"""Sigstore bundles of version 0.3: keyless, judged by sigstore's library, and by a key."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import TYPE_CHECKING, Any

import certificates
import pytest
import sigstore_world
import trust_parts
from sigstore_world import World, b64

from viscum.errors import TrustError
from viscum.trust import attaching, keys
from viscum.trust.bundles import BUNDLE_TYPE, IN_TOTO, authenticated_encoding

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUER = "https://issuer.example.com"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def image(layout: pathlib.Path) -> str:
    return f"oci:{layout}:v1"


def digest_of(image: str) -> str:
    return trust_parts.digest_of(trust_parts.open_sources(image).top())


def put(image: str, bundle: bytes) -> None:
    sink = trust_parts.open_sources(image)
    manifest = sink.top()
    digest = trust_parts.digest_of(bundle)
    sink.put_blob(bundle, digest)
    subject = {
        "mediaType": attaching.MANIFEST,
        "digest": trust_parts.digest_of(manifest),
        "size": len(manifest),
    }
    data = json.dumps(
        {
            "schemaVersion": 2,
            "artifactType": BUNDLE_TYPE,
            "layers": [{"mediaType": BUNDLE_TYPE, "digest": digest, "size": len(bundle)}],
            "subject": subject,
        }
    ).encode()
    sink.put_manifest(data, trust_parts.digest_of(data), attaching.MANIFEST)


def rule(world: World, subject: str = "dev@example.com", issuer: str = ISSUER) -> str:
    stated = {
        "type": "sigstoreBundle",
        "trustedRootData": b64(world.trusted_root()),
        "identities": [{"subject": subject, "issuer": issuer}],
    }
    return json.dumps(stated)


def test_keyless_bundle_is_verified(world: World, image: str, judge: Callable) -> None:
    put(image, world.bundle(digest_of(image), world.identity()))
    assert judge(image, rule(world)).identity == "dev@example.com"


def test_keyless_bundle_of_a_plain_signature_is_verified(
    world: World, image: str, judge: Callable
) -> None:
    manifest = trust_parts.open_sources(image).top()
    put(image, world.message_bundle(manifest, world.identity()))
    assert judge(image, rule(world)).identity == "dev@example.com"


@pytest.mark.parametrize(
    ("subject", "issuer"),
    [("other@example.com", ISSUER), ("dev@example.com", "https://evil.example.com")],
)
def test_keyless_bundle_of_somebody_else_is_refused(
    subject: str, issuer: str, world: World, image: str, judge: Callable
) -> None:
    put(image, world.bundle(digest_of(image), world.identity()))
    with pytest.raises(TrustError, match="refused"):
        judge(image, rule(world, subject, issuer))


def test_keyless_bundle_of_another_root_is_refused(
    world: World, image: str, judge: Callable
) -> None:
    put(image, World().bundle(digest_of(image), World().identity()))
    with pytest.raises(TrustError, match="refused"):
        judge(image, rule(world))


def test_keyless_bundle_of_another_manifest_is_refused(
    world: World, image: str, judge: Callable
) -> None:
    put(image, world.bundle("sha256:" + "0" * 64, world.identity()))
    with pytest.raises(TrustError, match="another manifest"):
        judge(image, rule(world))


def test_statement_that_is_no_signature_is_refused(
    world: World, image: str, judge: Callable
) -> None:
    other = "https://slsa.dev/provenance/v1"
    put(image, world.bundle(digest_of(image), world.identity(), predicate=other))
    with pytest.raises(TrustError, match="no signature of an image"):
        judge(image, rule(world))


def test_certificate_that_no_log_has_seen_is_refused(
    world: World, image: str, judge: Callable
) -> None:
    put(image, world.bundle(digest_of(image), world.identity(logged=False)))
    with pytest.raises(TrustError, match="refused"):
        judge(image, rule(world))


def entry_of(bundle: dict[str, Any]) -> dict[str, Any]:
    return bundle["verificationMaterial"]["tlogEntries"][0]


def flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return b64(bytes(data))


def _flip(path: str) -> Callable[[dict[str, Any]], None]:
    def change(bundle: dict[str, Any]) -> None:
        *above, last = path.split(".")
        place: Any = bundle
        for part in above:
            place = place[int(part)] if part.isdigit() else place[part]
        key = int(last) if last.isdigit() else last
        place[key] = flip(place[key])

    return change


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "payload": _flip("dsseEnvelope.payload"),
    "signature": _flip("dsseEnvelope.signatures.0.sig"),
    "certificate": _flip("verificationMaterial.certificate.rawBytes"),
    "root hash": _flip("verificationMaterial.tlogEntries.0.inclusionProof.rootHash"),
    "hashes": _flip("verificationMaterial.tlogEntries.0.inclusionProof.hashes.0"),
    "body": _flip("verificationMaterial.tlogEntries.0.canonicalizedBody"),
    "promise": _flip("verificationMaterial.tlogEntries.0.inclusionPromise.signedEntryTimestamp"),
    "no entry": lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[]),
    "no proof": lambda bundle: entry_of(bundle).pop("inclusionProof"),
    "no promise": lambda bundle: entry_of(bundle).pop("inclusionPromise"),
    "time": lambda bundle: entry_of(bundle).update(integratedTime="1600000000"),
    "checkpoint": lambda bundle: entry_of(bundle)["inclusionProof"]["checkpoint"].update(
        envelope=""
    ),
    "unknown version": lambda bundle: bundle.update(mediaType=BUNDLE_TYPE.replace("0.3", "0.9")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_bundle_is_refused(case: str, world: World, image: str, judge: Callable) -> None:
    bundle = json.loads(world.bundle(digest_of(image), world.identity()))
    CHANGES[case](bundle)
    put(image, json.dumps(bundle).encode())
    with pytest.raises(TrustError, match="no signature is good"):
        judge(image, rule(world))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"mediaType":1}', b"[" * 100_000, b'{"a":1,"a":2}']
)
def test_what_is_no_bundle_is_refused(
    data: bytes, world: World, image: str, judge: Callable
) -> None:
    put(image, data)
    with pytest.raises(TrustError, match="no signature is good"):
        judge(image, rule(world))


def test_trusted_root_that_is_none_is_refused(world: World, image: str, judge: Callable) -> None:
    stated = json.loads(rule(world))
    stated["trustedRootData"] = b64(b"{}")
    with pytest.raises(TrustError, match="no trusted root"):
        judge(image, json.dumps(stated))


def test_missing_library_names_its_extra(
    world: World, image: str, judge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sigstore", None)
    put(image, world.bundle(digest_of(image), world.identity()))
    with pytest.raises(TrustError) as caught:
        judge(image, rule(world))
    assert "viscum[sigstore]" in caught.value.hint


# By a key.


def keyed_rule(made: Any) -> str:
    public = made.public_key().public_bytes(
        sigstore_world.Encoding.PEM, sigstore_world.rekor_log.PublicFormat.SubjectPublicKeyInfo
    )
    return json.dumps({"type": "sigstoreBundle", "keyData": b64(public)})


def keyed(
    image: str, key: Any, *, digest: str = "", kind: str = IN_TOTO, plain: bool = False
) -> bytes:
    material = {"publicKey": {"hint": "key"}}
    top: dict[str, Any] = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material}
    if plain:
        manifest = trust_parts.open_sources(image).top()
        top["messageSignature"] = {"signature": b64(keys.sign(key, manifest))}
    else:
        payload = sigstore_world.statement(digest or digest_of(image))
        made = keys.sign(key, authenticated_encoding(kind, payload))
        signatures = [{"sig": b64(made)}]
        top["dsseEnvelope"] = {
            "payload": b64(payload),
            "payloadType": kind,
            "signatures": signatures,
        }
    return json.dumps(top).encode()


@pytest.mark.parametrize("plain", [False, True])
def test_bundle_by_a_key_is_verified(plain: bool, image: str, judge: Callable) -> None:
    key = certificates.make_key()
    put(image, keyed(image, key, plain=plain))
    assert judge(image, keyed_rule(key)).identity.startswith("the key ")
    with pytest.raises(TrustError, match="not by a key that is trusted"):
        judge(image, keyed_rule(certificates.make_key()))


def test_bundle_by_a_key_of_another_manifest_is_refused(image: str, judge: Callable) -> None:
    key = certificates.make_key()
    put(image, keyed(image, key, digest="sha256:" + "0" * 64))
    with pytest.raises(TrustError, match="another manifest"):
        judge(image, keyed_rule(key))


def test_bundle_by_a_key_of_another_type_is_refused(image: str, judge: Callable) -> None:
    key = certificates.make_key()
    put(image, keyed(image, key, kind="text/plain"))
    with pytest.raises(TrustError, match="payloadType"):
        judge(image, keyed_rule(key))


def test_bundle_by_a_key_does_not_stand_for_keyless(
    world: World, image: str, judge: Callable
) -> None:
    put(image, keyed(image, certificates.make_key()))
    with pytest.raises(TrustError, match="refused"):
        judge(image, rule(world))
