"""What asking the policy at every start costs: whole commands, interleaved.

    python benchmarks/trust_starts.py [--rounds N]

`viscum run` of /bin/true: in the host's root; of an image that the policy accepts unsigned; of one
that needs a cosign signature. Then starts for which the policy was written anew, so that the
signature kept with the image is verified again. Needs busybox-static, and runs best as root.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

VISCUM = os.path.join(os.path.dirname(sys.executable), "viscum")
NAME, SETTLE_SECONDS = "example.com/team/app:v1", 0.1


class Bench:
    def __init__(self, top):
        self.top = top
        places = {"DATA": "data", "RUN": "run", "POLICY": "policy.json"}
        own = {f"VISCUM_{name}": f"{top}/{place}" for name, place in places.items()}
        self.environment = {**os.environ, **own}
        self.policy({"type": "insecureAcceptAnything"})

    def policy(self, rule):
        (self.top / "policy.json").write_text(json.dumps({"default": [rule]}))

    def viscum(self, *words, **environment):
        started = time.perf_counter()
        done = subprocess.run(
            [VISCUM, *map(str, words)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr.decode()}")
        return (time.perf_counter() - started) * 1000

    def make(self):
        """Make an image, sign it in a layout, and take it from there under a policy."""
        with tarfile.open(self.top / "root.tar", "w") as archive:
            archive.add("/bin/busybox", "bin/true")
        self.viscum("import", self.top / "root.tar", "plain:1")
        self.viscum("save", "--format", "oci", "-o", f"{self.top}/layout:v1", "plain:1")
        key = ec.generate_private_key(ec.SECP256R1())
        secret, public = self.top / "key", self.top / "key.pub"
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        secret.write_bytes(key.private_bytes(*form))
        spki = PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, spki))
        image = f"oci:{self.top}/layout:v1"
        self.viscum("image", "sign", "--cosign-key", secret, "--identity", NAME, image)
        identity = {"type": "exactReference", "dockerReference": NAME}
        rule = {"type": "sigstoreSigned", "keyPath": str(public), "signedIdentity": identity}
        shutil.copy(self.top / "policy.json", self.top / "accept.json")
        self.policy(rule)
        self.viscum("pull", "-q", image)
        return rule


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    top = pathlib.Path(tempfile.mkdtemp(prefix="viscum-trust-"))
    top.chmod(0o755)
    bench = Bench(top)
    try:
        rule = bench.make()
        time.sleep(SETTLE_SECONDS)
        accept = {"VISCUM_POLICY": str(top / "accept.json")}
        sides = {
            "host's root": (("run", "/bin/true"), {}),
            "image, accepted": (("run", "localhost/plain:1", "/bin/true"), accept),
            "image, signed": (("run", "localhost/layout:v1", "/bin/true"), {}),
        }
        found = {name: [] for name in sides}
        for turn in range(rounds + 4):
            for name, (words, environment) in sides.items():
                took = bench.viscum(*words, **environment)
                if turn >= 4:
                    found[name].append(took)
        base = statistics.median(found["host's root"])
        for name, values in found.items():
            middle = statistics.median(values)
            print(f"{name:24} {middle:8.2f} ms {middle / base:6.2f} x")
        anew = []
        for _ in range(max(3, rounds // 6)):
            bench.policy(rule)
            time.sleep(SETTLE_SECONDS)
            anew.append(bench.viscum(*sides["image, signed"][0]))
        print(f"{'signed, verified anew':24} {statistics.median(anew):8.2f} ms")
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
