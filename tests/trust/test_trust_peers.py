"""The same policies and images before skopeo: it must decide as we do."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import test_trust_policy
import trust_parts

import viscum.trust
from needs import needs
from viscum.errors import TrustError
from viscum.trust import policy as policies
from viscum.trust import simple

if TYPE_CHECKING:
    from trust_parts import Keys

pytestmark = needs("skopeo")
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}


def skopeo(policy: pathlib.Path, image: str, target: pathlib.Path, registries: pathlib.Path) -> str:
    """Return why skopeo refuses an image, "" where it takes it."""
    done = subprocess.run(
        ["skopeo", "--policy", policy, "--registries.d", registries, "copy", "--remove-signatures",
         "--src-tls-verify=false", image, f"dir:{target}"],
        capture_output=True, text=True, timeout=trust_parts.TIMEOUT,
    )  # fmt: skip
    assert (done.returncode == 0) == target.exists() or done.returncode
    return done.stderr if done.returncode else ""


def ours(policy: bytes, image: str) -> str:
    """Return why we refuse an image, "" where we take it."""
    sources = trust_parts.open_sources(image)
    manifest = sources.top()
    try:
        parsed = policies.parse_policy(policy, "policy", own=False)
        digest = trust_parts.digest_of(manifest)
        viscum.trust.check(image, digest, manifest, sources, policy=parsed)
    except TrustError as error:
        return error.message
    return ""


def agree(policy: object, image: str, folder: pathlib.Path) -> bool:
    """Assert that both decide in the same way, and return whether they accept."""
    data = policy if isinstance(policy, bytes) else json.dumps(policy).encode()
    path, target = folder / "judged-policy.json", folder / f"copy-{len(list(folder.iterdir()))}"
    path.write_bytes(data)
    theirs, mine = skopeo(path, image, target, folder / "registries.d"), ours(data, image)
    assert bool(theirs) == bool(mine), f"{data!r} {image}: skopeo: {theirs!r}, ours: {mine!r}"
    return not mine


@needs("registry")
def test_scopes_of_a_registry_are_those_of_skopeo(
    registry: str, layout: pathlib.Path, own_folders: pathlib.Path
) -> None:
    target = f"{registry}/peers/team/app:v1"
    trust_parts.push(layout, target)
    digest = trust_parts.digest_of(trust_parts.open_sources(target).top())
    host = registry.partition(":")[0]
    names = ["", host, registry, f"{registry}/peers", f"{registry}/peers/team", f"{registry}/pee",
             f"{registry}/peers/team/app", target, f"{target}x", f"*.{host.partition('.')[2]}",
             f"{registry}/peers/team/app@{digest}", "*.1", "docker.io"]  # fmt: skip
    images = (f"docker://{target}", f"docker://{registry}/peers/team/app@{digest}")
    accepted = set()
    for name in names:
        policy = {"default": [REJECT], "transports": {"docker": {name: [ACCEPT]}}}
        accepted |= {name for image in images if agree(policy, image, own_folders)}
    assert accepted == {*names} - {host, f"{registry}/pee", f"{target}x", "docker.io"}


@pytest.mark.parametrize("transport", ["dir", "oci"])
def test_scopes_of_folders_are_those_of_skopeo(
    transport: str, layout: pathlib.Path, own_folders: pathlib.Path
) -> None:
    image = f"oci:{layout}:v1"
    if transport == "dir":
        trust_parts.call("skopeo", "copy", image, f"dir:{own_folders}/image")
        image = f"dir:{own_folders}/image"
    path = str(layout if transport == "oci" else own_folders / "image")
    # That a scope may end in a tag stands in the manual page; skopeo does not look at the tag.
    names = ["", path, f"{path}:v2", str(own_folders), path[:-1], "/tmp", f"{path}/x"]
    found = [
        agree(
            {"default": [REJECT], "transports": {transport: {name: [ACCEPT]}}}, image, own_folders
        )
        for name in names
    ]
    assert True in found
    assert False in found


NEWER = {
    # What skopeo 1.9 does not know yet, or reads more loosely; the manual page of 2024 says so.
    "key and fulcio", "fulcio without rekor", "fulcio without anybody", "pki with rekor",
    "pki without anybody", "bundle without anybody", "bundle with anybody", "no key paths",
    # It takes them for a scope that no image has.
    "wildcard within", "wildcard and path",
    # It opens the file only where the rule is in force.
    "relative",
    # It takes any transport, and then knows of none.
    "unknown transport",
    # It takes null for nothing.
    "null for transports",
    # Bounds of ours.
    "deep", "rather deep", "large",
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(set(test_trust_policy.BAD) - NEWER))
def test_policy_that_we_refuse_is_refused_by_skopeo(
    case: str, layout: pathlib.Path, own_folders: pathlib.Path
) -> None:
    stated, _ = test_trust_policy.BAD[case]
    assert not agree(stated, f"oci:{layout}:v1", own_folders)


IDENTITIES: list[dict[str, Any]] = [
    {},
    *({"type": kind} for kind in ("matchExact", "matchRepoDigestOrExact", "matchRepository")),
    {"type": "exactReference", "dockerReference": "{name}:v1"},
    {"type": "exactReference", "dockerReference": "{name}:v2"},
    {"type": "exactRepository", "dockerRepository": "{name}"},
    {"type": "exactRepository", "dockerRepository": "{name}x"},
    {"type": "remapIdentity", "prefix": "{registry}", "signedPrefix": "vendor.example"},
    {"type": "remapIdentity", "prefix": "{registry}/signed", "signedPrefix": "{registry}/other"},
    {"type": "remapIdentity", "prefix": "{registry}/sig", "signedPrefix": "vendor.example"},
]


@needs("registry", "gpg")
@pytest.mark.parametrize("claimed", ["{name}:v1", "{name}:v2", "{name}", "vendor.example/signed/app:v1",
                                     "{registry}/other/app:v1"])  # fmt: skip
def test_identities_are_those_of_skopeo(
    claimed: str, registry: str, layout: pathlib.Path, keys: Keys, own_folders: pathlib.Path
) -> None:
    name = f"{registry}/signed/app"
    trust_parts.push(layout, f"{name}:v1")
    digest = trust_parts.digest_of(trust_parts.open_sources(f"{name}:v1").top())
    storage = f"default-docker:\n  lookaside: file://{own_folders}/lookaside\n"
    (own_folders / "registries.d" / "default.yaml").write_text(storage)
    place = own_folders / "lookaside" / "signed" / f"app@{digest.replace(':', '=')}"
    place.mkdir(parents=True)
    claim = simple.make_claim(digest, _filled(claimed, name, registry), simple.ATOMIC)
    (place / "signature-1").write_bytes(keys.sign("good", claim))
    data = base64.b64encode(keys.public("good")).decode()
    for identity in IDENTITIES:
        rule: dict[str, Any] = {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}
        if identity:
            rule["signedIdentity"] = {
                key: _filled(value, name, registry) for key, value in identity.items()
            }
        for image in (f"docker://{name}:v1", f"docker://{name}@{digest}"):
            agree({"default": [rule]}, image, own_folders)


def _filled(text: str, name: str, registry: str) -> str:
    return text.replace("{name}", name).replace("{registry}", registry)


@needs("gpg")
def test_signatures_are_judged_as_by_skopeo(
    layout: pathlib.Path, keys: Keys, own_folders: pathlib.Path
) -> None:
    """Keys and messages of many kinds; what differs is named, and is stricter here."""
    reference = "example.com/team/app:v1"
    trust_parts.call("skopeo", "copy", f"oci:{layout}:v1", f"dir:{own_folders}/image")
    digest = trust_parts.digest_of((own_folders / "image" / "manifest.json").read_bytes())
    claim = simple.make_claim(digest, reference, simple.ATOMIC)
    old = ("--faked-system-time", "20240110T000000")
    messages = {
        "good": keys.sign("good", claim),
        "another key": keys.sign("other", claim),
        "armour": keys.sign("good", claim, "--armor"),
        "expired key": keys.sign("old", claim, *old),
        "cut": keys.sign("good", claim)[:-10],
        "two signatures": keys.sign(
            "good", claim, "-u", "good@example.com", "-u", "other@example.com"
        ),
        "nothing": b"",
        "text": b"text",
        "followed": keys.sign("good", claim) + keys.sign("good", claim),
        "SHA-512": keys.sign("good", claim, "--digest-algo", "SHA512"),
        "another claim": keys.sign("good", claim.replace(b"team", b"else")),
        "more optional": keys.sign("good", claim.replace(b'"creator"', b'"x":[1],"creator"')),
        "creator is a number": keys.sign("good", claim.replace(b'"viscum"', b"5")),
        "timestamp is text": keys.sign(
            "good", claim.replace(b'"timestamp":', b'"timestamp":"a","x":')
        ),
        "timestamp is no integer": keys.sign(
            "good", claim.replace(b'"timestamp":', b'"timestamp":1.5,"x":')
        ),
    }
    data = base64.b64encode(keys.public("good", "old")).decode()
    rule = {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}
    rule["signedIdentity"] = {"type": "exactReference", "dockerReference": reference}  # type: ignore[assignment]
    decided = {}
    for name, message in messages.items():
        (own_folders / "image" / "signature-1").write_bytes(message)
        decided[name] = agree({"default": [rule]}, f"dir:{own_folders}/image", own_folders)
    assert decided["good"]
    assert decided["SHA-512"]
    assert sum(decided.values()) >= 3
