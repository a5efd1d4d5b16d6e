"""`viscum doctor`: what this host offers, what is missing, what that costs, how to mend it."""

from __future__ import annotations

import os
import shutil

from ..errors import SpecError, ViscumError
from ..frozen import Frozen
from ..host import probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host
    from .parser import Parsed

__all__ = ["Finding", "examine", "main"]


class Finding(Frozen):
    """One thing that was looked at.

    `state` is "ok", "limited" or "missing"; `cost` says what it means for machines, `mend` is
    the command that changes it.
    """

    subject: str
    state: str
    found: str
    cost: str = ""
    mend: str = ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _kernel(host: Host) -> Finding:
    found = f"Linux {host.release} on {host.machine}"
    if host.kernel >= (5, 15):
        return Finding("kernel", "ok", found)
    cost = "mount_setattr, overlay in user namespaces or pidfds may be missing: no machine starts"
    return Finding("kernel", "missing", found, cost, "boot Linux 5.15 or newer")


def _privilege(host: Host) -> Finding:
    if host.capable and host.full_identity:
        return Finding("privileges", "ok", "root: every kind of machine")
    if host.capable:
        cost = "no device nodes of its own, no ids beyond these"
        return Finding("privileges", "limited", f"root of a namespace of {host.ids} ids", cost)
    return Finding("privileges", "ok", f"uid {host.uid}, rootless")


def _user_namespaces(host: Host) -> Finding:
    subject = "user namespaces"
    if not host.user_namespaces:
        cost = "machines only for root, with --userns host"
        return Finding(
            subject, "missing", "forbidden", cost, "sysctl user.max_user_namespaces=65536"
        )
    knob = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    if not host.capable and _read(knob) == "1":
        cost = "machines of ordinary users have no capabilities to set themselves up with"
        mend = "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        return Finding(subject, "missing", "restricted by AppArmor", cost, mend)
    return Finding(subject, "ok", f"up to {_read('/proc/sys/user/max_user_namespaces')}")


def _subordinate(host: Host) -> Finding:
    subject = "subordinate ids"
    if host.capable:
        return Finding(subject, "ok", "not needed by root")
    if host.subordinate:
        (uid, count), _ = host.subordinate
        return Finding(subject, "ok", f"{count} from {uid}")
    cost = "one id in each machine: no -u, no files of other owners"
    if not shutil.which("newuidmap"):
        return Finding(subject, "limited", "no newuidmap", cost, "apt-get install uidmap")
    user = os.environ.get("USER", str(host.uid))
    mend = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    return Finding(subject, "limited", "none for this user", cost, mend)


def _cgroups(host: Host) -> Finding:
    groups = host.cgroups
    have = {name for name, _ in groups.v1} | set(groups.v2_controllers)
    lacking = sorted({"cpu", "memory", "pids"} - have)
    found = f"{groups.layout}: {', '.join(sorted(have)) or 'no controllers'}"
    if not lacking:
        return Finding("control groups", "ok", found)
    mend = "run as root"
    if os.path.isdir("/run/systemd/system"):
        mend = "systemd-run --user --scope -p Delegate=yes viscum …"
    cost = f"no limits of {', '.join(lacking)}; they are said to be lost, --strict refuses"
    return Finding("control groups", "limited", found, cost, mend)


def _freezing(host: Host) -> Finding:
    if host.cgroups.v2 or "freezer" in dict(host.cgroups.v1):
        return Finding("pause, kill at once", "ok", "by cgroup")
    return Finding("pause, kill at once", "limited", "no cgroup", "machines cannot be paused")


def _landlock(host: Host) -> Finding:
    if host.landlock_scopes:
        return Finding("landlock", "ok", "scopes of sockets and signals")
    cost = "with --network host, abstract sockets of the host stay reachable"
    return Finding("landlock", "limited", "older than ABI 6", cost, "boot Linux 6.12 or newer")


def _devices(host: Host) -> Finding:
    if host.prepares_devices:
        return Finding("prepared /dev", "ok", "cloned from one that is mounted nowhere")
    cost = "about 60 us more for each start: nodes are mounted one by one"
    return Finding("prepared /dev", "limited", "needs root and Linux 6.15", cost)


def _helper(name: str, package: str, cost: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(name, "ok", path)
    return Finding(name, "limited", "not installed", cost, f"apt-get install {package}")


def _start(host: Host) -> Finding:
    """Start a machine: the only proof."""
    from ..running import run

    try:
        result = run(["true"], timeout=20)
    except ViscumError as error:
        return Finding("a machine", "missing", str(error), "machines do not start")
    finally:
        del host
    return Finding("a machine", "ok" if result.ok else "missing", f"started, {result.verdict}")


def examine(host: Host) -> list[Finding]:
    """Return what was found of `host`; starts one machine."""
    findings = [
        check(host)
        for check in (
            _kernel,
            _privilege,
            _user_namespaces,
            _subordinate,
            _cgroups,
            _freezing,
            _landlock,
            _devices,
        )
    ]
    findings.append(_helper("pasta", "passt", "no --network private"))
    findings.append(_helper("tc", "iproute2", "no --network-max"))
    findings.append(_start(host))
    return findings


_MARKS = {"ok": "+", "limited": "~", "missing": "-"}


def main(parsed: Parsed) -> int:
    """Print the findings; 1 where something is missing that machines need."""
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise SpecError(f"format {form!r} is unknown", hint="text or json")
    findings = examine(probe())
    if form == "json":
        import json

        fields = Finding.__fields__
        print(json.dumps([{name: getattr(f, name) for name in fields} for f in findings], indent=1))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.state]} {finding.subject:<20} {finding.found}")
            if finding.cost:
                print(f"    costs: {finding.cost}")
            if finding.mend:
                print(f"    mend:  {finding.mend}")
    return int(any(finding.state == "missing" for finding in findings))
