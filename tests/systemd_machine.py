"""Run a command beside a systemd of its own: in namespaces of pid, mount, cgroup, uts, ipc and network.

    python tests/systemd_machine.py COMMAND...

systemd would remount the file system that hierarchies of version 1 are mounted in: it gets one of
its own. systemd is process 1 there and starts nothing but the command, as a service; its units, /run and
/etc/systemd are on a tmpfs, and what it changes of control groups is below a group of this process.
Files are the host's else. What boots a system would empty /tmp and set the kernel's parameters there,
so sysinit.target is masked: a unit that needs it, as all do by default, does not start.
Ends with the command's exit code.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import time

GROUP = "viscum-systemd"
SETUP = """
unit=$1; shift
mount --make-rprivate / && mount -t proc proc /proc &&
mount -t tmpfs tmpfs /run && mkdir /run/groups &&
for pair; do
	mkdir -p "/run/groups${pair#*:}" && mount --bind "${pair%%:*}" "/run/groups${pair#*:}" || exit 1
done &&
umount -l -R /sys/fs/cgroup &&
if ! [ -e /run/groups/sys/fs/cgroup/cgroup.procs ]; then # the folder of hierarchies is shared
	mount -t tmpfs tmpfs /sys/fs/cgroup || exit 1
fi &&
for pair; do
	mkdir -p "${pair#*:}" && mount --move "/run/groups${pair#*:}" "${pair#*:}" || exit 1
done && mkdir -p /run/systemd/system /run/viscum-test &&
mount -t tmpfs tmpfs /etc/systemd && mkdir /etc/systemd/system &&
printf '%s' "$unit" > /run/systemd/system/viscum-test.service &&
ln -s /dev/null /run/systemd/system/sysinit.target &&
export container=viscum && exec /lib/systemd/systemd --system --unit=viscum-test.service \
    --log-target=console --log-level=warning --show-status=no
"""
UNIT = """[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
WorkingDirectory={folder}
Environment={environment}
ExecStart=/bin/sh -c {command}
StandardOutput=file:{out}
StandardError=file:{out}
TimeoutStartSec=200
"""


def groups() -> dict[pathlib.Path, str]:
    """Return a new group in each hierarchy, which the machine takes for the root, with where the
    hierarchy is mounted.
    """
    found = {}
    own = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().split()]
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, point = left.split()[3:5]
        names = set(options.split(","))
        for _, controllers, path in own:
            if (set(controllers.split(",")) & names) or (kind == "cgroup2" and not controllers):
                below = path[len(root) :] if root != "/" else path
                name = f"{GROUP}-{os.getpid()}"
                found[pathlib.Path(f"{point}/{below.strip('/')}", name)] = point
    for group in found:
        group.mkdir()
        parent = group.parent
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (parent / file).exists() and not (parent / "cgroup.controllers").exists():
                (group / file).write_text((parent / file).read_text())
        if (parent / "cgroup.controllers").exists():
            for name in (parent / "cgroup.controllers").read_text().split():
                try:
                    (parent / "cgroup.subtree_control").write_text(f"+{name}")
                except OSError:
                    continue
    return found


def remove(group: pathlib.Path) -> None:
    """Remove a group with those below it, once their processes are gone."""
    for _ in range(200):
        for path, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                continue
        if not group.exists():
            return
        time.sleep(0.02)


def main(command: list[str]) -> int:
    """Run the command and return its exit code."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="viscum-systemd-") as folder:
        out = f"{folder}/out"
        keep = {name: os.environ[name] for name in os.environ if name.startswith("VISCUM_")}
        keep |= {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        inner = f"{shlex.join(command)}; echo $? > {folder}/code"
        unit = UNIT.format(
            folder=os.getcwd(),
            environment=" ".join(f'"{name}={value}"' for name, value in keep.items()),
            command="'"
            + inner.replace("\\", "\\\\").replace("'", "\\'").replace("%", "%%").replace("$", "$$")
            + "'",
            out=out,
        )
        made = groups()
        enter = "".join(f"echo 0 > {shlex.quote(str(group))}/cgroup.procs;" for group in made)
        pairs = [f"{group}:{point}" for group, point in made.items()]
        # Process 1 alone goes into the groups: who stays outside of its pid namespace would hold them.
        words = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net"]
        words += ["sh", "-c", f'{enter} exec unshare --cgroup "$@"', "sh"]
        words += ["sh", "-c", SETUP, "sh", unit, *pairs]
        try:
            subprocess.run(words, check=False, timeout=240, stdin=subprocess.DEVNULL)
        finally:
            for group in made:
                remove(group)
        sys.stdout.write(pathlib.Path(out).read_text() if os.path.exists(out) else "")
        code = pathlib.Path(folder, "code")
        return int(code.read_text()) if code.exists() else 125


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
