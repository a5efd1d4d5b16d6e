"""Images against podman, skopeo with umoci, and bsdtar: the same registry, the same disk, in turns.

Starts a registry on loopback, makes images there, and prints medians and ratios. `--rounds N`,
`--size MIB` (of the image of 12 layers), `--json FILE`. Run as root on a quiet host.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

VISCUM = os.path.join(sysconfig.get_path("scripts"), "viscum")
OCI = "application/vnd.oci.image."


def run(*words, env=None):
    done = subprocess.run(
        [str(word) for word in words],
        check=False,
        capture_output=True,
        env={**os.environ, **(env or {})},
    )
    if done.returncode:
        sys.exit(f"{words}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def timed(*words, env=None):
    """Return seconds and the peak memory in KiB of a command.

    time(1) starts it: a child of this process would begin with this one's peak.
    """
    with tempfile.NamedTemporaryFile("r") as peak:
        command = ["/usr/bin/time", "-f", "%M", "-o", peak.name, *map(str, words)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = time.perf_counter()
        done = subprocess.run(command, check=False, env={**os.environ, **(env or {})}, **quiet)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{words} failed with {done.returncode}")
        return seconds, int(peak.read().split()[-1])


# Images.


def content(seed, size):
    """Bytes that compress to about half, as programs do."""
    rng = random.Random(seed)
    half = rng.randbytes(size // 2 + 512)
    text = (b"%x " % seed) * 512
    return b"".join(half[n : n + 512] + text[:512] for n in range(0, len(half), 512))[:size]


def layer(seed, size, files=400):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        each = max(1, size // files)
        for number in range(files):
            info = tarfile.TarInfo(f"d{seed}/{number % 20}/f{number}")
            info.size, info.mode = each, 0o644
            made.addfile(info, io.BytesIO(content(seed * 1000 + number, each)))
    return out.getvalue()


def shell_layer():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name in ("bin", "etc", "tmp"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            made.addfile(info)
        made.add("/bin/busybox", "bin/busybox")
        info = tarfile.TarInfo("bin/true")
        info.type, info.linkname = tarfile.SYMTYPE, "busybox"
        made.addfile(info)
    return out.getvalue()


class Layout:
    def __init__(self, path):
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries = []

    def put(self, data, kind):
        name = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / name).write_bytes(data)
        return {"mediaType": OCI + kind, "digest": "sha256:" + name, "size": len(data)}

    def packed(self, raw):
        blob = self.put(gzip.compress(raw, 6, mtime=0), "layer.v1.tar+gzip")
        return blob, "sha256:" + hashlib.sha256(raw).hexdigest()

    def image(self, name, layers):
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, ""),
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
        }
        made = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": self.put(json.dumps(config).encode(), "config.v1+json"),
            "layers": [blob for blob, _ in layers],
        }
        entry = self.put(json.dumps(made).encode(), "manifest.v1+json")
        self.entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
        index = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))


def make_images(top, host, size, rounds):
    layout = Layout(top / "layout")
    shell = layout.packed(shell_layer())
    parts = [layout.packed(layer(n, (size << 20) // 12)) for n in range(1, 13)]
    layout.image("big", [shell, *parts[:11]])
    for turn in range(rounds):
        new = layout.packed(layer(1000 + turn, 10 << 20))
        layout.image(f"more-{turn}", [shell, *parts[:11], new])
        layout.image(f"only-{turn}", [new])
    layout.image("one", [shell])
    small = [layout.packed(layer(200 + n, 2000, 2)) for n in range(59)]
    layout.image("sixty", [shell, *small])
    own = layout.packed(layer(400, 2000, 1))
    layout.image("one-erofs", [own, shell])
    layout.image("sixty-erofs", [own, shell, *small])
    whole = layer(300, 200 << 20, 4000)
    layout.image("whole", [layout.packed(whole)])
    packed = top / "whole.tar.gz"
    packed.write_bytes(gzip.compress(whole, 6, mtime=0))
    for entry in layout.entries:
        name = entry["annotations"]["org.opencontainers.image.ref.name"]
        flags = ("-q", "--dest-tls-verify=false")
        run("skopeo", "copy", *flags, f"oci:{layout.path}:{name}", f"docker://{host}/b/{name}:1")
    return packed


def start_registry(top):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (top / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {top}/registry}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}", secret: x}}\n'
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["docker-registry", "serve", str(top / "registry.yml")], **quiet)
    for _ in range(500):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/").close()
            break
        except OSError:
            time.sleep(0.02)
    return process, f"127.0.0.1:{port}"


# What is compared.


class Bench:
    def __init__(self, top, host, packed, rounds):
        self.top, self.host, self.packed, self.rounds = top, host, packed, rounds
        self.env = {"VISCUM_DATA": str(top / "data"), "VISCUM_RUN": str(top / "run")}
        self.podman = ["podman", "--root", str(top / "pod"), "--runroot", str(top / "podrun")]
        self.results = {}

    def clear(self, *names):
        for name in names:
            shutil.rmtree(self.top / name, ignore_errors=True)
        os.sync()

    def pull(self, name, *options, env=None):
        words = ("-q", "--tls-verify=false", *options, f"{self.host}/b/{name}:1")
        return timed(VISCUM, "pull", *words, env=env or self.env)

    def podman_pull(self, name):
        return timed(*self.podman, "pull", "-q", "--tls-verify=false", f"{self.host}/b/{name}:1")

    def skopeo_umoci(self, name):
        self.clear("skopeo", "bundle")
        copy = ["skopeo", "copy", "-q", "--src-tls-verify=false"]
        first = timed(*copy, f"docker://{self.host}/b/{name}:1", f"oci:{self.top}/skopeo:x")
        second = timed("umoci", "unpack", "--image", f"{self.top}/skopeo:x", self.top / "bundle")
        return first[0] + second[0], max(first[1], second[1])

    def cold_pulls(self):
        rows = {"viscum": [], "viscum, EROFS": [], "podman": [], "skopeo+umoci": []}
        for _ in range(self.rounds):
            self.clear("data")
            rows["viscum"].append(self.pull("big"))
            self.clear("data")
            rows["viscum, EROFS"].append(self.pull("big", "--storage", "erofs"))
            self.clear("data")
            self.clear("pod")
            rows["podman"].append(self.podman_pull("big"))
            rows["skopeo+umoci"].append(self.skopeo_umoci("big"))
        self.report("pull of 12 layers, cold", rows)

    def warm_pulls(self):
        """Each round has a layer of its own, and nothing is removed before the end: ext4 takes
        longer to make files for a while after others went.
        """
        names = "one more layer", "curl and bsdtar", "an image of that layer", "nothing new"
        rows = {name: [] for name in names}
        self.clear("data")
        self.pull("big")
        for turn in range(self.rounds):
            os.sync()  # what is measured is not how the disk takes what came before
            rows["one more layer"].append(self.pull(f"more-{turn}"))
            rows["nothing new"].append(self.pull(f"more-{turn}"))
            os.sync()
            rows["curl and bsdtar"].append(self.only_layer(turn))
            os.sync()
            alone = {**self.env, "VISCUM_DATA": str(self.top / f"only/{turn}")}
            rows["an image of that layer"].append(self.pull(f"only-{turn}", env=alone))
        self.report("pull again with one new layer of 10 MB", rows)

    def only_layer(self, turn):
        """The new layer's bytes fetched and unpacked by curl and bsdtar."""
        base, target = f"http://{self.host}/v2/b/more-{turn}", self.top / f"alone/{turn}"
        asked = urllib.request.Request(
            f"{base}/manifests/1", headers={"Accept": OCI + "manifest.v1+json"}
        )
        with urllib.request.urlopen(asked) as answer:
            blob = json.loads(answer.read())["layers"][-1]["digest"]
        target.mkdir(parents=True)
        return timed("sh", "-c", f"curl -s {base}/blobs/{blob} | bsdtar -xpf - -C {target}")

    def unpacking(self):
        code = (
            "import os,sys,time\n"
            "from viscum.unpacker import LocalWorker\n"
            "from viscum.image.incoming import Stored\n"
            "from viscum.image.room import Part, Room\n"
            "blob, room = Stored(sys.argv[1]), Part(Room())\n"
            "LocalWorker().unpack(blob, sys.argv[2], sys.argv[3], [], lambda: None, room)\n"
        )
        with gzip.open(self.packed) as file:
            diff = "sha256:" + hashlib.sha256(file.read()).hexdigest()
        rows = {"viscum": [], "bsdtar": []}
        for _ in range(max(3, self.rounds)):
            for name, values in rows.items():
                self.clear("layer")
                (self.top / "layer").mkdir()
                words = (sys.executable, "-c", code, self.packed, diff, self.top / "layer")
                if name == "bsdtar":
                    words = ("bsdtar", "-xpf", self.packed, "-C", self.top / "layer")
                values.append(timed(*words))
        self.report("unpacking a layer of 200 MB (with Python's start)", rows)

    def starts(self):
        os.environ.update(self.env)
        import viscum

        for name in ("one", "sixty"):
            self.pull(name)
            self.pull(f"{name}-erofs", "--storage", "erofs")
        cases = {
            "host's root": {},
            "one layer": {"image": f"{self.host}/b/one:1"},
            "sixty layers": {"image": f"{self.host}/b/sixty:1"},
            "one layer, EROFS": {"image": f"{self.host}/b/one-erofs:1"},
            "sixty, EROFS": {"image": f"{self.host}/b/sixty-erofs:1"},
        }
        rows = {name: [] for name in cases}
        for turn in range(60 * self.rounds + 5):
            for name, options in cases.items():
                started = time.perf_counter()
                viscum.run(["/bin/true"], **options)
                if turn >= 5:
                    rows[name].append((time.perf_counter() - started, 0))
        self.report("start and end of a machine, from Python", rows)

    def report(self, title, rows):
        print(f"\n{title}")
        base = statistics.median(seconds for seconds, _ in next(iter(rows.values())))
        found = {}
        for name, values in rows.items():
            middle = statistics.median(seconds for seconds, _ in values)
            peak = max(memory for _, memory in values)
            found[name] = {"seconds": middle, "peak_kib": peak}
            memory = f"{peak / 1024:8.1f} MiB" if peak else ""
            print(f"  {name:18} {middle * 1000:10.2f} ms  {middle / base:5.2f} x {memory}")
        self.results[title] = found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the image of 12 layers")
    parser.add_argument("--json")
    parser.add_argument("--only", choices=("cold", "warm", "unpack", "start"))
    chosen = parser.parse_args()
    top = pathlib.Path(tempfile.mkdtemp(prefix="viscum-images-", dir="/var/tmp"))
    process, host = start_registry(top)
    try:
        packed = make_images(top, host, chosen.size, chosen.rounds)
        bench = Bench(top, host, packed, chosen.rounds)
        wanted = {"cold": bench.cold_pulls, "warm": bench.warm_pulls}
        wanted |= {"unpack": bench.unpacking, "start": bench.starts}
        for name, measure in wanted.items():
            if chosen.only in (None, name):
                measure()
        if chosen.json:
            pathlib.Path(chosen.json).write_text(json.dumps(bench.results, indent=1))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
