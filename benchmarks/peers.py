"""The peers, each with the isolation that a default machine has, as far as the peer can.

What every one of them gets: pid, mount, ipc, uts, network and user namespaces (cgroup too where
it knows them), the same root, its own proc and dev, the same capabilities, no_new_privs, and a
filter that allows the same system calls. `DIFFERENCES` says what a peer does less of.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

from bare_host import blob
from viscum import launching
from viscum.drivers.process import BASE_ID, RANGE
from viscum.guard import capabilities, profile
from viscum.guard.policy import ALLOW, ERRNO
from viscum.request import make_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab import Lab
    from viscum.drivers.process import Compiled

__all__ = ["CPUS", "DIFFERENCES", "LIMITING", "LIMITS", "MEMORY", "PIDS"]
__all__ += ["config", "detached", "jobs", "trouble"]

MEMORY, CPUS, PIDS = 256 << 20, 1.0, 64
LIMITS = {"memory": MEMORY, "cpus": CPUS, "pids": PIDS}
PERIOD_US = 100_000
TRIAL_SECONDS = 60
DIFFERENCES = {
    "bwrap": "no limits, no sysfs, no masks, a user map of one id, its root without an overlay",
    "crun": "its root without an overlay",
    "runc": "its root without an overlay",
    "systemd-nspawn": "no limits, its own filter and capabilities, its root without an overlay",
}
LIMITING = ("crun", "runc")
"""Those that hold a machine to limits by themselves."""
DEFAULT_ERRNO = ERRNO | 1
DETACH = 'umount -l "$0" 2>/dev/null; exec "$@"'
UNIFIED = "/sys/fs/cgroup/unified"


def detached() -> list[str]:
    """Return a command that executes what follows in a mount namespace without the empty
    cgroup2 mount of a hybrid layout, which crun 1.8 refuses."""
    if not os.path.ismount(UNIFIED):
        return []
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", DETACH, UNIFIED]


def _filter_rules() -> list[dict[str, object]]:
    """The default profile in the words of the OCI runtime specification. Denials that depend on
    an argument are left out: libseccomp cannot order them before a general allowance."""
    rules = []
    for rule in profile.default_rules(capabilities.DEFAULT).rules:
        if rule.arches and platform.machine() not in rule.arches:
            continue
        allowed = rule.action == ALLOW
        if rule.action == DEFAULT_ERRNO or (rule.conditions and not allowed):
            continue
        conditions = [
            {"index": c.index, "value": c.value, "valueTwo": c.value_two, "op": f"SCMP_CMP_{c.op}"}
            for c in rule.conditions
        ]
        for name in rule.names:
            words: dict[str, object] = {"names": [name], "args": conditions}
            words["action"] = "SCMP_ACT_ALLOW" if allowed else "SCMP_ACT_ERRNO"
            if not allowed:
                words["errnoRet"] = rule.action & 0xFFFF
            rules.append(words)
    return rules


def _mounts() -> list[dict[str, object]]:
    guarded = ["nosuid", "noexec", "nodev"]
    rows: list[tuple[str, str, list[str]]] = [
        ("/proc", "proc", guarded),
        ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"]),
        ("/dev/shm", "tmpfs", [*guarded, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", guarded),
        ("/sys", "sysfs", [*guarded, "ro"]),
    ]
    return [
        {"destination": where, "type": kind, "source": kind, "options": options}
        for where, kind, options in rows
    ]


def _compiled(lab: Lab, options: Mapping[str, object]) -> Compiled:
    spec = make_spec(["/bin/true"], {"rootfs": lab.rootfs, **options})
    return launching.compile_machine(spec, launching.this_host())


def _paths(lab: Lab) -> tuple[list[str], list[str]]:
    """What the machine of the same spec masks, and what it makes read-only."""
    made = _compiled(lab, LIMITS)
    names = [
        str(o["target"])
        for o in made.plan.operations
        if o.name == "attach" and str(o["target"]).startswith(("/proc/", "/sys/"))
    ]
    return [n for n in names if n != "/proc/sys"], [n for n in names if n == "/proc/sys"]


def _namespaces(*, network: bool) -> list[dict[str, str]]:
    kinds = ["pid", "ipc", "uts", "mount", "cgroup", "user", *(["network"] if network else [])]
    return [{"type": kind} for kind in kinds]


def config(lab: Lab, *, network: bool) -> dict[str, object]:
    names = ["CAP_" + name for name in sorted(capabilities.DEFAULT)]
    masked, read_only = _paths(lab)
    ids = [{"containerID": 0, "hostID": BASE_ID, "size": RANGE}]
    quota = round(CPUS * PERIOD_US)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        },
        "root": {"path": lab.rootfs},
        "hostname": "viscum",
        "mounts": _mounts(),
        "linux": {
            "namespaces": _namespaces(network=network),
            "uidMappings": ids,
            "gidMappings": ids,
            "resources": {
                "memory": {"limit": MEMORY},
                "cpu": {"quota": quota, "period": PERIOD_US},
                "pids": {"limit": PIDS},
            },
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": _filter_rules()},
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    }


def _bundle(lab: Lab) -> str:
    folder = lab.folder("bundle")
    lab.write("bundle/config.json", json.dumps(config(lab, network=True), indent=1))
    return folder


def _bwrap(lab: Lab) -> dict[str, object]:
    made = _compiled(lab, {})
    program = next(o for o in made.plan.operations if o.name == "seccomp")
    path = os.path.join(lab.base, "filter.bpf")
    with open(path, "wb") as file:
        file.write(blob(program, "program"))
    argv = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "0", "--gid", "0"]
    argv += ["--hostname", "viscum", "--bind", lab.rootfs, "/", "--proc", "/proc", "--dev", "/dev"]
    argv += ["--mqueue", "/dev/mqueue", "--tmpfs", "/tmp", "--clearenv", "--cap-drop", "ALL"]
    for name in sorted(capabilities.DEFAULT):
        argv += ["--cap-add", "CAP_" + name]
    argv += ["--die-with-parent", "--new-session", "--seccomp", "{fd}", "/bin/true"]
    return {"kind": "spawn", "argv": argv, "seccomp": path}


def _runtime(name: str, lab: Lab) -> dict[str, object]:
    container = f"viscum-benchmark-{os.getpid()}-{{n}}"
    return {"kind": "spawn", "argv": [name, "run", "--bundle", _bundle(lab), container]}


def _nspawn(lab: Lab) -> dict[str, object]:
    name = f"viscum-benchmark-{os.getpid()}"
    argv = ["systemd-nspawn", f"--machine={name}", "--quiet", "--register=no", "--keep-unit"]
    argv += ["--private-network"]
    argv += [f"--private-users={BASE_ID}:{RANGE}", "--no-new-privileges=yes", "--console=pipe"]
    argv += ["--directory", lab.folder("nspawn"), "/bin/true"]
    tree = os.path.join(lab.base, "nspawn")
    shutil.copytree(lab.rootfs, tree, dirs_exist_ok=True)
    with open(os.path.join(tree, "etc", "os-release"), "w", encoding="ascii") as file:
        file.write("ID=viscum\n")
    return {"kind": "spawn", "argv": argv}


def jobs(lab: Lab) -> dict[str, dict[str, object]]:
    """Return the jobs of the peers that are installed, by name, for a Python worker."""
    made: dict[str, Callable[[], dict[str, object]]] = {
        "bwrap": lambda: _bwrap(lab),
        "crun": lambda: _runtime("crun", lab),
        "runc": lambda: _runtime("runc", lab),
        "systemd-nspawn": lambda: _nspawn(lab),
    }
    return {name: make() for name, make in made.items() if shutil.which(name)}


def trouble(job: dict[str, object]) -> str:
    """Run a peer once; return what it says if it fails, else nothing."""
    argv = [str(word).replace("{n}", "trial") for word in job["argv"]]  # type: ignore[attr-defined]
    with open(str(job.get("seccomp", os.devnull)), "rb") as file:
        argv = [word.replace("{fd}", str(file.fileno())) for word in argv]
        try:
            done = subprocess.run(
                [*detached(), *argv],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TRIAL_SECONDS,
                pass_fds=(file.fileno(),),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no end after {TRIAL_SECONDS} s"
    return "" if done.returncode == 0 else (done.stderr.strip() or f"ended with {done.returncode}")
