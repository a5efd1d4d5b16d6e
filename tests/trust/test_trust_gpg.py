"""Simple signing: signatures by real skopeo and podman, and every way in which one is no good."""

from __future__ import annotations

import base64
import json
import pathlib
import typing
from typing import TYPE_CHECKING

import pytest
import trust_parts

from needs import needs
from viscum.errors import TrustError
from viscum.trust import openpgp, simple
from viscum.trust.references import parse_name
from viscum.trust.storage import signature_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from trust_parts import Keys

pytestmark = needs("gpg")


def rule(keys: Keys, *names: str, identity: dict[str, str] | None = None) -> str:
    data = base64.b64encode(keys.public(*names)).decode()
    stated: dict[str, object] = {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}
    if identity:
        stated["signedIdentity"] = identity
    return json.dumps(stated)


class Signed:
    """An image in a folder, with signatures put beside it."""

    reference = "registry.example.com/team/app:v1"
    identity: typing.ClassVar = {"type": "exactReference", "dockerReference": reference}

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.manifest = json.dumps({"schemaVersion": 2, "layers": []}).encode()
        self.digest = trust_parts.digest_of(self.manifest)
        (folder / "manifest.json").write_bytes(self.manifest)
        self.image = f"dir:{folder}"

    def put(self, *messages: bytes) -> None:
        for number, message in enumerate(messages, 1):
            (self.folder / f"signature-{number}").write_bytes(message)

    def claim(self, digest: str = "", reference: str = "") -> bytes:
        return simple.make_claim(digest or self.digest, reference or self.reference, simple.ATOMIC)


@pytest.fixture
def signed(tmp_path: pathlib.Path) -> Signed:
    return Signed(tmp_path / "image")


@needs("skopeo", "registry")
def test_signature_by_skopeo_is_verified(
    registry: str,
    layout: pathlib.Path,
    keys: Keys,
    judge: Callable,
    own_folders: pathlib.Path,
) -> None:
    target = f"{registry}/signed/app:v1"
    storage = f"default-docker:\n  lookaside: file://{own_folders}/lookaside\n"
    (own_folders / "registries.d" / "default.yaml").write_text(storage)
    trust_parts.call(
        "skopeo", "--registries.d", str(own_folders / "registries.d"), "copy", "--sign-by",
        keys.fingerprint("good"), "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{target}",
        env=keys.environment,
    )  # fmt: skip
    decision = judge(target, rule(keys, "good"))
    assert keys.fingerprint("good").lower() in decision.identity
    with pytest.raises(TrustError, match="not among the trusted ones"):
        judge(target, rule(keys, "other"))


@needs("podman", "registry")
def test_signature_by_podman_is_verified(
    registry: str,
    layout: pathlib.Path,
    keys: Keys,
    judge: Callable,
    own_folders: pathlib.Path,
    shop: pathlib.Path,
) -> None:
    target = f"{registry}/signed/by-podman:v1"
    storage = f"docker:\n  {registry}:\n    lookaside: file://{own_folders}/lookaside\n"
    for folder in ("registries.d", "home/.config/containers/registries.d"):
        (own_folders / folder).mkdir(parents=True, exist_ok=True)
        (own_folders / folder / "default.yaml").write_text(storage)
    podman = trust_parts.podman(shop)
    own = {"HOME": str(own_folders / "home"), **keys.environment}
    trust_parts.call(*podman, "pull", "-q", f"oci:{layout}:v1", env=own)
    image = trust_parts.call(*podman, "images", "-q", env=own).split()[0]
    trust_parts.call(
        *podman, "push", "-q", "--tls-verify=false", "--sign-by", keys.fingerprint("good"),
        image, f"docker://{target}", env=own,
    )  # fmt: skip
    assert "good@example.com" in judge(target, rule(keys, "good")).identity


def test_signature_by_gnupg_is_verified(signed: Signed, keys: Keys, judge: Callable) -> None:
    signed.put(keys.sign("good", signed.claim()))
    decision = judge(signed.image, rule(keys, "good", identity=signed.identity))
    assert decision.findings[0].kind == "signedBy"
    assert "good@example.com" in decision.identity


def test_second_signature_and_second_key_count(signed: Signed, keys: Keys, judge: Callable) -> None:
    signed.put(keys.sign("old", signed.claim(), "--faked-system-time", "20240110T000000"),
               keys.sign("other", signed.claim()))  # fmt: skip
    judge(signed.image, rule(keys, "old", "good", "other", identity=signed.identity))


@pytest.mark.parametrize("name", ["old", "gone"])
def test_key_that_counts_no_more_is_refused(
    name: str, signed: Signed, keys: Keys, judge: Callable
) -> None:
    clock = ("--faked-system-time", "20240110T000000") if name == "old" else ()
    message = keys.sign(name, signed.claim(), *clock)
    if name == "gone":
        signed.put(message)
        judge(signed.image, rule(keys, name, identity=signed.identity))  # until it is revoked
        keys.revoke(name)
    signed.put(message)
    with pytest.raises(TrustError, match=r"expired on|is revoked"):
        judge(signed.image, rule(keys, name, identity=signed.identity))
    _check_with_gnupg(keys, message)


def _check_with_gnupg(keys: Keys, message: bytes) -> None:
    """GnuPG, which Podman asks, says the same."""
    path = keys.home / "judged"
    path.write_bytes(message)
    said = keys.gpg("--status-fd", "1", "--verify", str(path))
    assert "EXPKEYSIG" in said or "REVKEYSIG" in said


def test_expired_signature_is_refused(signed: Signed, keys: Keys, judge: Callable) -> None:
    old = ("--faked-system-time", "20240110T000000", "--default-sig-expire", "1d")
    keys_home = keys.fingerprint("old")
    signed.put(keys.sign("old", signed.claim(), *old, "-u", keys_home))
    with pytest.raises(TrustError, match="expired"):
        judge(signed.image, rule(keys, "old", identity=signed.identity))


def test_expired_subkey_is_refused(signed: Signed, keys: Keys, judge: Callable) -> None:
    name = "withsub"
    at = ("--faked-system-time", "20240101T000000")
    keys.gpg(*at, "--quick-gen-key", f"{name}@example.com", "ed25519", "cert", "never")
    keys.gpg(*at, "--quick-add-key", keys.fingerprint(name), "ed25519", "sign", "2024-02-01")
    signed.put(keys.sign(name, signed.claim(), "--faked-system-time", "20240110T000000"))
    with pytest.raises(TrustError, match=r"subkey .* expired"):
        judge(signed.image, rule(keys, name, identity=signed.identity))


def test_changed_signature_is_refused(signed: Signed, keys: Keys, judge: Callable) -> None:
    message = bytearray(keys.sign("good", signed.claim(), "--compress-algo", "none"))
    place = message.index(b"team/app")
    message[place] ^= 1
    signed.put(bytes(message))
    with pytest.raises(TrustError, match="no signature is good"):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


@pytest.mark.parametrize("message", [b"", b"\x00", b"not OpenPGP", b"\xa3\x02x\x9c", b"{}"])
def test_what_is_no_message_is_refused(
    message: bytes, signed: Signed, keys: Keys, judge: Callable
) -> None:
    signed.put(message)
    with pytest.raises(TrustError):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


def test_unsigned_message_is_refused(signed: Signed, keys: Keys, judge: Callable) -> None:
    source, target = keys.home / "plain", keys.home / "stored"
    source.write_bytes(signed.claim())
    target.unlink(missing_ok=True)
    keys.gpg("--output", str(target), "--store", str(source))
    signed.put(target.read_bytes())
    with pytest.raises(TrustError, match="no signature is good"):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


def test_signature_of_another_manifest_is_refused(
    signed: Signed, keys: Keys, judge: Callable
) -> None:
    signed.put(keys.sign("good", signed.claim(digest="sha256:" + "0" * 64)))
    with pytest.raises(TrustError, match="another manifest"):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


PAYLOADS = {
    "unknown member": lambda claim: claim["critical"].update(more=1),
    "unknown in image": lambda claim: claim["critical"]["image"].update(more=1),
    "another type": lambda claim: claim["critical"].update(type=simple.COSIGN),
    "no optional": lambda claim: claim.pop("optional"),
    "digest is a number": lambda claim: claim["critical"]["image"].update(
        {"docker-manifest-digest": 1}
    ),
    "reference is none": lambda claim: claim["critical"]["identity"].update(
        {"docker-reference": "//"}
    ),
}


@pytest.mark.parametrize("case", PAYLOADS)
def test_malformed_payload_is_refused(
    case: str, signed: Signed, keys: Keys, judge: Callable
) -> None:
    claim = json.loads(signed.claim())
    PAYLOADS[case](claim)
    signed.put(keys.sign("good", json.dumps(claim).encode()))
    with pytest.raises(TrustError, match="no signature is good"):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


def test_doubled_key_in_a_payload_is_refused(signed: Signed, keys: Keys, judge: Callable) -> None:
    text = signed.claim().decode().replace('"optional":', '"optional":{},"optional":')
    signed.put(keys.sign("good", text.encode()))
    with pytest.raises(TrustError, match="twice"):
        judge(signed.image, rule(keys, "good", identity=signed.identity))


def test_name_that_a_folder_lacks_cannot_match(signed: Signed, keys: Keys, judge: Callable) -> None:
    signed.put(keys.sign("good", signed.claim()))
    with pytest.raises(TrustError, match="exactReference or exactRepository"):
        judge(signed.image, rule(keys, "good"))


def test_every_rule_of_a_scope_must_be_met(signed: Signed, keys: Keys, judge: Callable) -> None:
    signed.put(keys.sign("good", signed.claim()))
    good = rule(keys, "good", identity=signed.identity)
    other = rule(keys, "other", identity=signed.identity)
    with pytest.raises(TrustError, match=r"\$\.default\[1\] \(signedBy\)"):
        judge(signed.image, f"{good}, {other}")
    signed.put(keys.sign("good", signed.claim()), keys.sign("other", signed.claim()))
    decision = judge(signed.image, f"{good}, {other}")
    assert len(decision.findings) == 2


@needs("skopeo")
@pytest.mark.parametrize("name", ["good", "other"])
def test_our_signature_is_accepted_by_skopeo(
    name: str, signed: Signed, keys: Keys, tmp_path: pathlib.Path
) -> None:
    message = openpgp.sign_message(signed.claim(), keys.secret(name), None, "the key")
    path = tmp_path / "message"
    path.write_bytes(message)
    manifest = signed.folder / "manifest.json"
    trust_parts.call(
        "skopeo", "standalone-verify", str(manifest), signed.reference,
        keys.fingerprint(name), str(path), env=keys.environment,
    )  # fmt: skip


def test_address_of_a_signature_is_as_skopeo_writes_it() -> None:
    name = parse_name("registry.example.com:5000/team/app:v1")
    url = signature_url("https://s.example.com/x/", name, "sha256:" + "a" * 64, 2)
    assert url == f"https://s.example.com/x/team/app@sha256={'a' * 64}/signature-2"
