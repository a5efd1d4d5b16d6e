"""What asking the policy costs: whole checks, warm, and whole commands.

    python benchmarks/trust.py [--rounds N] [--json FILE]

A check is everything that `viscum.trust.check` does: the policy read and parsed, its scope found,
keys loaded, the signature fetched from files, verified, and the name compared. Warm means that the
process has made one such check before; `whole command` starts Python and imports all of it.
The peer is `skopeo standalone-verify`, a whole command that verifies one OpenPGP signature by a
key of GnuPG's, and reads no policy. Needs gpg and skopeo.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from measure import Figure, at_most, interleave
from viscum.cli.trust.local import DirectorySources, LayoutSources
from viscum.trust import attaching, check, keys, load_policy, simple
from viscum.trust.references import parse_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from measure import Side

ROUNDS = 25
BATCH = 5
MOST_MS = 50.0
NAME = "example.com/team/app:v1"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": attaching.MANIFEST,
        "config": {"mediaType": attaching.CONFIG, "digest": "sha256:" + "0" * 64, "size": 1},
        "layers": [],
    }
).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _gpg(home: pathlib.Path, *words: str) -> None:
    fixed = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    environment = {**os.environ, "GNUPGHOME": str(home)}
    subprocess.run([*fixed, *words], check=True, env=environment, capture_output=True)


def _fingerprint(home: pathlib.Path) -> str:
    environment = {**os.environ, "GNUPGHOME": str(home)}
    listed = subprocess.run(
        ["gpg", "--list-keys", "--with-colons"],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))


def make_gpg(folder: pathlib.Path, home: pathlib.Path) -> str:
    """Make an image in a folder, signed by an RSA key of 3072 bits, as GnuPG's default was."""
    image = folder / "gpg-image"
    image.mkdir()
    (image / "manifest.json").write_bytes(MANIFEST)
    home.mkdir(mode=0o700)
    _gpg(home, "--quick-gen-key", "bench@example.com", "rsa3072", "sign", "never")
    payload = folder / "payload"
    payload.write_bytes(simple.make_claim(_digest(MANIFEST), NAME, simple.ATOMIC))
    _gpg(home, "--output", str(image / "signature-1"), "--sign", str(payload))
    _gpg(home, "--output", str(folder / "key.gpg"), "--export")
    return f"dir:{image}"


def make_cosign(folder: pathlib.Path) -> str:
    """Make an image in a layout, signed by a key on P-256."""
    layout = folder / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    image = parse_image(f"oci:{layout}:v1")
    sources = LayoutSources(image)
    sources.put_manifest(MANIFEST, _digest(MANIFEST), attaching.MANIFEST, "v1")
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "cosign.pub").write_bytes(public)
    target = attaching.Target(image, MANIFEST, NAME)
    attaching.attach_cosign(target, lambda data: keys.sign(key, data), sources)
    return str(image)


def write_policy(folder: pathlib.Path) -> pathlib.Path:
    """Write a policy of a usual size: forty scopes, of which one is in force for each image."""
    identity = {"type": "exactReference", "dockerReference": NAME}
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": f"{folder}/key.gpg"}
    cosign = {"type": "sigstoreSigned", "keyPath": f"{folder}/cosign.pub"}
    others = {f"registry{number}.example.com/team": [signed] for number in range(38)}
    policy = {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": others,
            "dir": {str(folder): [{**signed, "signedIdentity": identity}]},
            "oci": {str(folder): [{**cosign, "signedIdentity": identity}]},
        },
    }
    path = folder / "policy.json"
    path.write_text(json.dumps(policy))
    return path


def _checks(image: str, policy: pathlib.Path) -> Callable[[int], list[int]]:
    parsed = parse_image(image)

    def measure(count: int) -> list[int]:
        durations = []
        for _ in range(count):
            start = time.perf_counter_ns()
            kind = LayoutSources if parsed.transport == "oci" else DirectorySources
            decision = check(
                image, _digest(MANIFEST), MANIFEST, kind(parsed), policy=load_policy(str(policy))
            )
            durations.append(time.perf_counter_ns() - start)
            if not decision.identity:
                raise SystemExit(f"{image}: nobody signed")
        return durations

    return measure


def _commands(words: list[str], environment: Mapping[str, str]) -> Callable[[int], list[int]]:
    def measure(count: int) -> list[int]:
        durations = []
        for _ in range(count):
            start = time.perf_counter_ns()
            subprocess.run(words, check=True, env=environment, capture_output=True)
            durations.append(time.perf_counter_ns() - start)
        return durations

    return measure


def _sides(folder: pathlib.Path, home: pathlib.Path) -> dict[str, Side]:
    images = {"GPG": make_gpg(folder, home), "cosign": make_cosign(folder)}
    policy = write_policy(folder)
    command = os.path.join(os.path.dirname(sys.executable), "viscum")
    peer = ["skopeo", "standalone-verify", f"{folder}/gpg-image/manifest.json", NAME]
    peer += [_fingerprint(home), f"{folder}/gpg-image/signature-1"]
    plain = dict(os.environ)
    sides: dict[str, Side] = {}
    for kind, image in images.items():
        sides[f"{kind} signature, warm check"] = (_checks(image, policy), BATCH)
        words = [command, "trust", "test", "--policy", str(policy), image]
        sides[f"{kind} signature, whole command"] = (_commands(words, plain), 1)
    sides["skopeo standalone-verify"] = (_commands(peer, {**plain, "GNUPGHOME": str(home)}), 1)
    return sides


def figures(rounds: int) -> Iterator[Figure]:
    """Yield what was measured, in milliseconds."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vb-"))
    home = folder / "g"
    try:
        measured = interleave(_sides(folder, home), rounds)
    finally:
        with contextlib.suppress(OSError):
            ended = {**os.environ, "GNUPGHOME": str(home)}
            subprocess.run(["gpgconf", "--kill", "all"], check=False, env=ended)
        shutil.rmtree(folder, ignore_errors=True)
    for name, results in measured.items():
        values = [statistics.median(durations) / 1e6 for durations in results]
        low, middle, high = statistics.quantiles(values, n=4)
        target = at_most(MOST_MS, "ms") if name.endswith("warm check") else None
        yield Figure(
            "trust", name, middle, None, middle, "ms", (low, high), target, value_unit="ms"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    found = list(figures(given.rounds))
    for figure in found:
        low, high = figure.quartiles or (0.0, 0.0)
        bound = f"  {figure.target} {figure.verdict}" if figure.target else ""
        print(f"{figure.name:<36} {figure.ours:8.2f} ms  ({low:.2f} to {high:.2f}){bound}")
    if given.json:
        data = json.dumps([figure.as_dict() for figure in found], indent=2)
        pathlib.Path(given.json).write_text(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
