"""Changes of well-made documents, thrown at every reader of trust.

    python tests/trust/fuzz.py [SECONDS] [SEED]

A reader may return what it read or raise one error of Viscum's; anything else is a finding, which
is printed with its input. Documents are changed as bytes and, where they are JSON, as values:
members dropped, doubled, moved, replaced by values of other kinds.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import certificates
import test_trust_policy

from viscum.errors import ViscumError
from viscum.image import document, manifest, reference
from viscum.trust import (
    attachments,
    bundles,
    evidence,
    policy,
    references,
    rekor,
    simple,
    strict,
    yamlsubset,
)
from viscum.trust.material import Reading
from viscum.trust.notary.metadata import Root
from viscum.trust.notation import signing, trustpolicy
from viscum.trust.notation.envelope import read_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    Target = tuple[Callable[[bytes], object], list[bytes]]

ODD: list[Any] = [
    None, True, 0, -1, 1 << 70, 1.5, "", "a", "..", "\x1b[2J", "\ud800", "/", "a" * 5000, [], {}, [[]],
    "sha256:" + "0" * 64, "docker.io/library/a:b", "*.example.com",
]  # fmt: skip
DIGEST = "sha256:" + "0" * 64


def _policies() -> list[bytes]:
    stated = [value for value, _ in test_trust_policy.BAD.values()]
    kept = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in stated]
    return [each for each in kept if 0 < len(each) < 10_000]


def _envelope(form: str) -> bytes:
    signer = certificates.make_signer("signer", certificates.make_authority("root"))
    target: dict[str, object] = {"mediaType": "a/b", "digest": DIGEST, "size": 1}
    hour = dt.timedelta(hours=1)
    return signing.make_envelope(target, signer.key, signer.chain, form=form, expires=hour)


def _read_layers(data: bytes) -> None:
    for layer in attachments._layers(data, "manifest", evidence.Replay()):
        layer.read()


def _read_replay(data: bytes) -> None:
    replay = evidence.Replay(data)
    replay.lookaside("a")
    replay.manifest("a")
    replay.blob("a")
    replay.referrers("a", "b")
    replay.signature_extension("a")


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


def _reading(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """What libraries raise is turned into an error of ours by whoever calls these."""

    def run(data: bytes) -> object:
        with Reading("it"):
            return read(data)
        raise AssertionError

    return run


def targets() -> dict[str, Target]:
    """Return the readers, each with documents that it reads well."""
    statement = {
        "name": "a", "registryScopes": ["*"], "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:own"], "trustedIdentities": ["x509.subject: C=NL, ST=Utrecht, O=V"],
    }  # fmt: skip
    trust_policy = json.dumps({"version": "1.0", "trustPolicies": [statement]}).encode()
    layer = {"mediaType": attachments.COSIGN_LAYER, "digest": DIGEST, "size": 3}
    tagged = {"schemaVersion": 2, "layers": [{**layer, "annotations": {"a": "b"}}]}
    image = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": {**layer, "mediaType": manifest.OCI_CONFIG},
        "layers": [{**layer, "mediaType": manifest.OCI + "layer.v1.tar+gzip"}],
    }
    kept = {"lookaside a": "AAAA", "referrers a b": [{"digest": DIGEST}], "extension a": ["AA=="]}
    yaml = b"default-docker:\n  lookaside: file:///a\ndocker:\n  a.io/b:\n    lookaside: 'b'\n"
    names = [b"docker.io/library/a:b", b"a.b:5/c@" + DIGEST.encode(), b"oci:/a:b", b"dir:/x/../y"]
    promise = {"SignedEntryTimestamp": "AAAA", "Payload": {"body": "e30=", "integratedTime": 1}}
    signed = {"signed": {"_type": "root", "version": 1, "keys": {}, "roles": {}}, "signatures": []}
    return {
        "policy": (lambda data: policy.parse_policy(data, "p"), _policies()),
        "registries.d": (lambda data: yamlsubset.read_yaml(data, "y"), [yaml]),
        "trust policy": (lambda data: trustpolicy.parse_document(data, "t"), [trust_policy]),
        "claim": (
            lambda data: simple.read_claim(data, simple.COSIGN),
            [simple.make_claim(DIGEST, "a.io/b:c", simple.COSIGN)],
        ),
        "cosign's manifest": (_read_layers, [json.dumps(tagged).encode()]),
        "promise": (
            lambda data: rekor.read_promise(strict.read_json(data, "j") and data.decode(), []),
            [json.dumps(promise).encode()],
        ),
        "statement": (lambda data: bundles.check_statement(data, DIGEST), [json.dumps(kept).encode()]),
        "kept signatures": (_read_replay, [json.dumps(kept).encode()]),
        "root of Notary": (_reading(Root), [json.dumps(signed).encode()]),
        "JWS": (_reading(lambda data: read_envelope(data, signing.FORMATS["jws"])), [_envelope("jws")]),
        "COSE": (_reading(lambda data: read_envelope(data, signing.FORMATS["cose"])), [_envelope("cose")]),
        "name": (_text(references.parse_image), names),
        "reference": (_text(reference.parse_reference), names),
        "manifest": (
            lambda data: manifest.parse_manifest(data, "", "m"), [json.dumps(image).encode()]
        ),
        "document": (lambda data: document.parse(data, "d"), [json.dumps(image).encode()]),
        "JSON": (lambda data: strict.read_json(data, "j").plain(), [json.dumps(image).encode()]),
    }  # fmt: skip


def _change_bytes(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        place = dice.randint(0, len(changed))
        end = place + dice.choice((1, 1, 2, 9, 60))
        pieces = (
            b"",
            bytes([dice.randrange(256)]),
            dice.randbytes(5),
            bytes(changed[place:end]) * 2,
        )
        changed[place:end] = dice.choice((*pieces, b"\\u0000", b"{", b'"', b"[" * 70))
    return bytes(changed)


def _change_value(value: Any, dice: random.Random, depth: int = 0) -> Any:
    if depth > 6 or dice.random() < 0.15:
        return dice.choice(ODD)
    if isinstance(value, dict) and value:
        name = dice.choice(sorted(value))
        how = dice.random()
        if how < 0.15:
            return {key: each for key, each in value.items() if key != name}
        if how < 0.3:
            return {**value, dice.choice((name.upper(), "", "more", name + " ")): value[name]}
        return {**value, name: _change_value(value[name], dice, depth + 1)}
    if isinstance(value, list) and value:
        place = dice.randrange(len(value))
        kept = [*value[:place], _change_value(value[place], dice, depth + 1), *value[place + 1 :]]
        return kept * dice.choice((1, 1, 1, 2))
    return dice.choice(ODD)


def change(data: bytes, dice: random.Random) -> bytes:
    """Return `data` with some change."""
    if dice.random() < 0.5:
        try:
            value = json.loads(data)
        except ValueError:
            pass
        else:
            for _ in range(dice.randint(1, 3)):
                value = _change_value(value, dice)
            return json.dumps(value).encode()
    return _change_bytes(data, dice)


def run(rounds: int, seed: int, readers: dict[str, Target]) -> tuple[int, int]:
    """Throw changes at every reader; return how many were read and how many refused."""
    dice, read, refused = random.Random(seed), 0, 0
    for _ in range(rounds):
        for name, (reader, seeds) in readers.items():
            data = change(dice.choice(seeds), dice)
            try:
                reader(data)
                read += 1
            except ViscumError as error:
                assert error.message, (name, data)
                refused += 1
            except BaseException as error:
                raise AssertionError(
                    f"{name}: {type(error).__name__}: {error}: {data!r}"
                ) from error
    return read, refused


def main() -> None:
    """Run for some seconds."""
    end = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 10)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    readers, inputs = targets(), 0
    print(f"seed {seed}")
    while time.monotonic() < end:
        inputs += sum(run(50, seed, readers))
        seed += 1
    print(f"{inputs} inputs, every one read or refused")


if __name__ == "__main__":
    main()
