"""Build the validation programs of runtime-tools with Debian's Go, and run them on OCI runtimes.

    python tools/validation/run.py [--source FOLDER] [--without-v2] [RUNTIME...]

The programs are in Debian's source package golang-github-opencontainers-runtime-tools, not in the
package of that name with -dev. Without --source it is fetched with apt-get from VISCUM_SUITE,
trixie by default. A program passes where it ends with 0 and prints no "not ok" but those marked
TODO. Ends with 1 where our runtime fails one that another passes which passes `default`, so that
does not merely refuse whatever it gets. They run in a mount namespace of their own, since runc
without one changes the host's mounts; with --without-v2 nothing of version 2 is mounted there
beside version 1, which crun refuses. Building takes Debian's golang-go,
golang-github-opencontainers-runtime-tools-dev and golang-github-google-uuid-dev.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "validation"
PACKAGE = "golang-github-opencontainers-runtime-tools"
MODULE = "src/github.com/opencontainers/runtime-tools"
OURS = os.path.join(sysconfig.get_path("scripts"), "viscum-oci")
SECONDS = 60
GROUPS = pathlib.Path("/sys/fs/cgroup")
UNIFIED = "/sys/fs/cgroup/unified"
INSIDE = "VISCUM_VALIDATION_INSIDE"
APT = """
Dir::State "{folder}/state";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
APT::Sandbox::User "root";
"""


def fetch(folder: pathlib.Path) -> pathlib.Path:
    """Return the unpacked source, fetched with lists of its own: the host's stay as they are."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    suite = os.environ.get("VISCUM_SUITE", "trixie")
    (folder / "sources.list").write_text(f"deb-src http://deb.debian.org/debian {suite} main\n")
    (folder / "apt.conf").write_text(APT.format(folder=folder))
    apt = ["apt-get", "-q", "-c", str(folder / "apt.conf")]
    subprocess.run([*apt, "update"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*apt, "source", "--download-only", PACKAGE], check=False, cwd=folder)
    archive = next(folder.glob("*.orig.tar.*"), None)
    if archive is None:
        raise SystemExit(f"validation: the source of {PACKAGE} cannot be had")
    source = folder / "source"
    source.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", source, "--strip-components=1"], check=True)
    return source


def build(source: pathlib.Path | None) -> pathlib.Path:
    """Return the folder of the built programs."""
    tools = BUILD / "go" / MODULE
    if (tools / "programs").is_dir():
        return tools
    shutil.rmtree(BUILD, ignore_errors=True)
    tools.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="viscum-validation-") as work:
        shutil.copytree(source or fetch(pathlib.Path(work)), tools, symlinks=True)
    tap = BUILD / "go/src/github.com/mndrix/tap-go"
    tap.mkdir(parents=True)
    shutil.copy(HERE / "tap.go", tap)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(BUILD / "cache"),
    }
    environment["GOPATH"] = f"{BUILD / 'go'}:/usr/share/gocode"
    static = ["-tags", "netgo osusergo", "-ldflags", "-extldflags -static"]
    words = ["go", "build", *static, "-o", "runtimetest", "./cmd/runtimetest"]
    subprocess.run(words, cwd=tools, env=environment, check=True)
    made = tools / "fresh"
    for folder in sorted((tools / "validation").iterdir()):
        if folder.is_dir() and folder.name != "util":
            words = ["go", "build", "-o", str(made / folder.name), f"./validation/{folder.name}"]
            subprocess.run(words, cwd=tools, env=environment, check=True)
    made.rename(tools / "programs")
    return tools


def passes(program: pathlib.Path, runtime: str, folder: pathlib.Path) -> bool:
    """Return whether a program is content with a runtime; what it leaves is cleared away."""
    work = tempfile.mkdtemp(prefix="viscum-validation-")
    try:
        done = subprocess.run(
            [program],
            cwd=folder,
            env={**os.environ, "RUNTIME": runtime, "TMPDIR": work},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for group in [*GROUPS.glob("*/testdir/*/"), *GROUPS.glob("*/testdir/")]:
            with contextlib.suppress(OSError):  # its container may not have ended
                group.rmdir()
    bad = [line for line in done.stdout.splitlines() if line.startswith("not ok")]
    return done.returncode == 0 and all("# TODO" in line for line in bad)


def go_inside(*, without_v2: bool) -> None:
    """Go on in a mount namespace of its own."""
    if INSIDE in os.environ:
        return
    leave = f"umount {UNIFIED} && " if without_v2 else ""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{leave}exec "$@"']
    os.execvpe(words[0], [*words, "sh", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def main() -> int:
    """Print a line for each program that somebody fails, and how many each runtime passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, help="the unpacked source of runtime-tools")
    parser.add_argument(
        "runtimes", nargs="*", default=["runc", "crun"], help="what to compare with"
    )
    parser.add_argument("--without-v2", action="store_true", help="unmount version 2 there")
    given = parser.parse_args()
    go_inside(without_v2=given.without_v2)
    tools = build(given.source)
    names = [*given.runtimes, OURS]
    passed = dict.fromkeys(names, 0)
    worse = []
    judges = [passes(tools / "programs/default", name, tools) for name in given.runtimes]
    programs = sorted((tools / "programs").iterdir())
    for program in programs:
        results = [passes(program, name, tools) for name in names]
        for name, good in zip(names, results, strict=True):
            passed[name] += good
        if not all(results):
            said = ", ".join(
                os.path.basename(n) for n, r in zip(names, results, strict=True) if not r
            )
            print(f"{program.name}: not with {said}")
        if not results[-1] and any(map(min, judges, results)):
            worse.append(program.name)
    for name, count in passed.items():
        print(f"{os.path.basename(name)}: {count} of {len(programs)}")
    if worse:
        print(f"another passes, ours does not: {', '.join(worse)}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
