"""`viscum top`: all machines on the screen, or the processes of one, with ids as they are in it."""

from __future__ import annotations

from ...errors import MachineError, SpecError
from ...host import probe
from ...resources.groups import GroupSet
from ..format import check_form, print_rows
from ..listing import Column
from ..machines.finding import find
from .processes import IdMap, Process, names_of_ids, pids_of, read_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = {
    "user": Column("User", "USER", yields=1),
    "uid": Column("Uid", "UID", right=True),
    "group": Column("Group", "GROUP", yields=1),
    "gid": Column("Gid", "GID", right=True),
    "pid": Column("Pid", "PID", right=True),
    "ppid": Column("ParentPid", "PPID", right=True),
    "hpid": Column("HostPid", "HPID", right=True),
    "stat": Column("State", "STAT"),
    "pcpu": Column("Cpu", "%CPU", right=True),
    "etime": Column("Elapsed", "ELAPSED", right=True),
    "tty": Column("Terminal", "TTY"),
    "time": Column("Time", "TIME", right=True),
    "ni": Column("Nice", "NI", right=True),
    "vsz": Column("VirtualKiB", "VSZ", right=True),
    "rss": Column("ResidentKiB", "RSS", right=True),
    "comm": Column("Name", "COMM", yields=1),
    "args": Column("Command", "COMMAND", yields=2, least=10),
}
SYNONYMS = {
    "%cpu": "pcpu",
    "cmd": "args",
    "command": "args",
    "euser": "user",
    "egroup": "group",
    "nice": "ni",
    "vsize": "vsz",
    "state": "stat",
    "s": "stat",
    "tname": "tty",
    "tt": "tty",
}
USUAL = "user pid ppid pcpu etime tty time args".split()
FULL = "user pid pcpu vsz rss tty stat etime time args".split()
STYLES = {"aux": FULL, "-aux": FULL, "u": FULL, "-ef": USUAL, "-e": USUAL, "-f": USUAL, "ax": USUAL}


def chosen(words: Sequence[str]) -> list[str]:
    """Return the names of the columns that `ps` options or column names ask for."""
    names: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in STYLES:
            names += [name for name in STYLES[word] if name not in names]
            continue
        if word in ("-o", "-eo", "o") and rest:
            word = rest.pop(0)
        for name in word.replace(",", " ").split():
            key = SYNONYMS.get(name.lower(), name.lower())
            if key not in COLUMNS:
                hint = f"aux, -ef, or columns: {', '.join(COLUMNS)}"
                raise SpecError(f"column {name!r} is unknown", hint=hint)
            names.append(key)
    return names or USUAL


def clock(seconds: float) -> str:
    """Return a length of time as ps(1) does: `02:03`, `1:02:03`, `3-01:02:03`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    text = f"{minutes:02}:{whole % 60:02}"
    if days:
        return f"{days}-{hours:02}:{text}"
    return f"{hours}:{text}" if hours else text


def _uptime() -> float:
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def processes(machine: DetachedMachine) -> list[Process]:
    """Return the processes of a running machine by their ids in it; raises MachineError."""
    status = machine.status
    if status.state not in ("running", "paused"):
        hint = f"viscum start {machine.name}"
        raise MachineError(f"machine {machine.name!r} is {status.state}", hint=hint)
    groups = GroupSet.of(machine.config.group, probe().cgroups)
    pids = pids_of(groups.folders, status.pid)
    uids, gids = (IdMap(f"/proc/{status.pid}/{kind}_map") for kind in ("uid", "gid"))
    uptime = _uptime()
    found = (read_process(pid, uids, gids, uptime) for pid in pids)
    return sorted(filter(None, found), key=lambda process: process.pid)


def rows(machine: DetachedMachine) -> list[dict[str, object]]:
    """Return what templates and columns see of the processes of a machine."""
    found = processes(machine)
    inside = {process.host_pid: process.pid for process in found}
    users = names_of_ids(machine.pid, "etc/passwd")
    groups = names_of_ids(machine.pid, "etc/group")
    return [
        {
            "User": users.get(process.uid, str(process.uid)),
            "Uid": process.uid,
            "Group": groups.get(process.gid, str(process.gid)),
            "Gid": process.gid,
            "Pid": process.pid,
            "ParentPid": inside.get(process.host_parent, 0),
            "HostPid": process.host_pid,
            "State": process.state,
            "Cpu": f"{100 * process.cpu_seconds / max(process.age_seconds, 0.01):.1f}",
            "Elapsed": clock(process.age_seconds),
            "Terminal": process.terminal,
            "Time": clock(process.cpu_seconds),
            "Nice": process.nice,
            "VirtualKiB": process.virtual_bytes >> 10,
            "ResidentKiB": process.resident_bytes >> 10,
            "Name": process.name,
            "Command": process.command,
        }
        for process in found
    ]


def main(parsed: Parsed) -> int:
    """Show the machines, or print the processes of one."""
    if not parsed.words:
        from .overview import show

        return show(parsed.text("format"), whole=parsed.on("no_trunc"))
    form = parsed.text("format")
    check_form(form)
    columns = [COLUMNS[name] for name in chosen(parsed.words[1:])]
    print_rows(rows(find(parsed.words[0])), columns, form, whole=parsed.on("no_trunc"))
    return 0
