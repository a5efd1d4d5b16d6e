"""The OCI runtime beside Debian's runc and crun.

    python benchmarks/oci.py [--rounds N] [--many N]

All run the same bundle in turn, in a mount namespace without the cgroup2 mount of a hybrid host,
which crun 1.8 refuses. Times are of whole processes, as an engine pays them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import select
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

UNIFIED = "/sys/fs/cgroup/unified"
INSIDE = "VISCUM_BENCHMARK_INSIDE"
OURS = os.path.join(sysconfig.get_path("scripts"), "viscum-oci")
RUNTIMES = {"runc": "/usr/sbin/runc", "crun": "/usr/bin/crun", "viscum": OURS}
VERBS = ("create", "start", "state", "kill", "delete")
LIFE_OF_RUNC, LIFE_OF_CRUN, VERB_OF_CRUN = 0.7, 1.3, 1.5
MOST_KIB = 25 << 10
MANY_ROUNDS = 5

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))

from conformance.container import CONFIG, make_rootfs  # noqa: E402


class Bench:
    """A bundle, and state folders for each runtime."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.count = 0
        make_rootfs(folder / "rootfs")

    def bundle(self, *command: str) -> pathlib.Path:
        """Write the configuration that runs `command`."""
        config = json.loads(json.dumps(CONFIG))
        config["process"]["args"] = list(command)
        (self.folder / "config.json").write_text(json.dumps(config))
        return self.folder

    def call(self, name: str, *words: object) -> float:
        """Return how many milliseconds a call of a runtime takes."""
        command = [RUNTIMES[name], "--root", f"{self.folder}/state-{name}", *map(str, words)]
        begun = time.perf_counter()
        done = subprocess.run(command, stdin=-3, stdout=-3, stderr=-3, check=False)
        spent = (time.perf_counter() - begun) * 1e3
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed: {done.returncode}")
        return spent

    def life(self, name: str) -> float:
        """Create, start, wait for and delete a container of /bin/true: milliseconds."""
        self.count += 1
        identity, pid_file = f"bench-{os.getpid()}-{self.count}", self.folder / "pid"
        begun = time.perf_counter()
        self.call(name, "create", "--bundle", self.folder, "--pid-file", pid_file, identity)
        pidfd = os.pidfd_open(int(pid_file.read_text()))
        self.call(name, "start", identity)
        select.select([pidfd], [], [])
        os.close(pidfd)
        self.call(name, "delete", identity)
        return (time.perf_counter() - begun) * 1e3

    def verbs(self, name: str) -> dict[str, float]:
        """Return the milliseconds of each verb on a container that sleeps."""
        self.count += 1
        identity, pid_file = f"bench-{os.getpid()}-{self.count}", self.folder / "pid"
        spent = {
            "create": self.call(
                name, "create", "--bundle", self.folder, "--pid-file", pid_file, identity
            )
        }
        pidfd = os.pidfd_open(int(pid_file.read_text()))
        for verb in ("start", "state"):
            spent[verb] = self.call(name, verb, identity)
        spent["kill"] = self.call(name, "kill", identity, "KILL")
        select.select([pidfd], [], [])
        os.close(pidfd)
        spent["delete"] = self.call(name, "delete", identity)
        return spent

    def peak(self) -> tuple[int, int]:
        """Return the peak memory of our `create` in KiB, and how many of our processes stay."""
        self.count += 1
        identity = f"bench-{os.getpid()}-{self.count}"
        words = [OURS, "--root", f"{self.folder}/state-viscum", "create", "--bundle"]
        process = subprocess.Popen([*words, str(self.folder), identity], stdin=-3, stdout=-3)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        alive = 0
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            alive += identity.encode() in words
        self.call("viscum", "delete", "--force", identity)
        return usage.ru_maxrss, alive


CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/c.ttrpc"
"""


def many(bench: Bench, count: int) -> dict[str, float]:
    """Run `count` containers at once through containerd, by each: median seconds."""
    folder = bench.folder / "containerd"
    folder.mkdir()
    (folder / "config.toml").write_text(CONTAINERD.format(folder=folder))
    log = (folder / "log").open("wb")
    words = ["containerd", "-c", str(folder / "config.toml")]
    daemon = subprocess.Popen(words, stdin=-3, stdout=log, stderr=log)
    ctr = ["ctr", "-a", f"{folder}/c.sock"]
    while subprocess.run([*ctr, "version"], stdout=-3, stderr=-3, check=False).returncode:
        time.sleep(0.1)
    spent: dict[str, list[float]] = {"crun": [], "viscum": []}
    try:
        for at in range(MANY_ROUNDS):
            for name, samples in spent.items():
                words = [*ctr, "run", "--rm", "--runc-binary", RUNTIMES[name], "--rootfs"]
                words.append(str(bench.folder / "rootfs"))
                begun = time.perf_counter()
                started = [
                    subprocess.Popen(
                        [*words, f"m-{name}-{at}-{number}", "/bin/true"],
                        stdin=-3,
                        stdout=-3,
                        stderr=-3,
                    )
                    for number in range(count)
                ]
                failed = sum(process.wait() != 0 for process in started)
                samples.append(time.perf_counter() - begun)
                if failed:
                    print(f"  {failed} of {count} failed with {name}")
    finally:
        daemon.terminate()
        daemon.wait()
        log.close()
    return {name: statistics.median(samples) for name, samples in spent.items()}


def verdict(value: float, most: float) -> str:
    """Return how a ratio stands to the one that is promised."""
    return f"{value:.2f} (at most {most}) {'ok' if value <= most else 'MISSED'}"


def report(bench: Bench, rounds: int, count: int) -> None:
    """Measure everything and print it."""
    bench.bundle("/bin/true")
    lives: dict[str, list[float]] = {name: [] for name in RUNTIMES}
    for _ in range(rounds):
        for name, samples in lives.items():
            samples.append(bench.life(name))
    middle = {name: statistics.median(samples) for name, samples in lives.items()}
    print("create, start, wait, delete of /bin/true, medians in ms:")
    print("  " + "  ".join(f"{name} {value:.1f}" for name, value in middle.items()))
    print(f"  to runc: {verdict(middle['viscum'] / middle['runc'], LIFE_OF_RUNC)}")
    print(f"  to crun: {verdict(middle['viscum'] / middle['crun'], LIFE_OF_CRUN)}")
    bench.bundle("/bin/sleep", "1000")
    verbs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNTIMES}
    for _ in range(rounds):
        for name, rows in verbs.items():
            rows.append(bench.verbs(name))
    print("each verb, medians in ms (runc, crun, viscum):")
    for verb in VERBS:
        shown = {name: statistics.median(row[verb] for row in rows) for name, rows in verbs.items()}
        text = ", ".join(f"{value:.2f}" for value in shown.values())
        ratio = shown["viscum"] / shown["crun"]
        said = f"{ratio:.2f}" if verb == "create" else verdict(ratio, VERB_OF_CRUN)
        print(f"  {verb:7} {text}; to crun: {said}")
    peak, alive = bench.peak()
    print(f"peak of create: {verdict(peak / 1024, MOST_KIB >> 10)} MiB; ours alive after: {alive}")
    if count:
        seconds = many(bench, count)
        print(f"{count} at once through containerd, s: {seconds}")
        print(f"  to crun: {verdict(seconds['viscum'] / seconds['crun'], 1.0)}")


def main() -> None:
    """Measure in a mount namespace of our own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--many", type=int, default=100)
    given = parser.parse_args()
    if INSIDE not in os.environ:
        text = f'mountpoint -q {UNIFIED} && umount {UNIFIED}; exec "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", text, "sh"]
        os.environ[INSIDE] = "1"
        os.execvp("unshare", [*words, sys.executable, *sys.argv])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-oci-bench-"))
    folder.chmod(0o755)
    try:
        report(Bench(folder), given.rounds, given.many)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
