"""Commands that launch machines, and the options that describe one."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .images import IMAGE

__all__ = ["COMMANDS", "DETACH_KEYS", "LIMITS", "LIVING", "MACHINE", "SDNOTIFY", "VOLUMES_FROM"]

LIMITS = (
    Option("-m --memory", "SIZE|MIN..MAX", "memory limit: 512M, 2g; bounds for the governor"),
    Option("--memory-swap", "SIZE|-1", "limit of memory and swap together"),
    Option("--memory-reservation", "SIZE", "not reclaimed below it as long as others have some"),
    Option("--memory-high", "SIZE", "reclaimed and slowed above it (cgroup v2)"),
    Option("--memory-low", "SIZE", "the same as --memory-reservation (cgroup v2)"),
    Option("--memory-min", "SIZE", "never reclaimed below it (cgroup v2)"),
    Option("--memory-zswap", "SIZE", "limit of compressed swap (cgroup v2)"),
    Option("--memory-swappiness", "NUMBER", "0 to 100: readiness to swap (cgroup v1)"),
    Option("--oom-group", "", "out of memory, kill all of the machine (cgroup v2)"),
    Option("--oom-policy", "kill|pause|grow:SIZE", "out of memory: what is done about it (kill)"),
    Option("--oom-kill-disable", "", "out of memory, wait instead of killing (cgroup v1)"),
    Option("--cpus", "NUMBER|MIN..MAX", "CPUs' worth of time: 1.5; bounds for the governor"),
    Option("--cpu-quota", "MICROSECONDS", "CPU time in each period, -1 for no limit"),
    Option("--cpu-period", "MICROSECONDS", "the period, 1000 to 1000000 (100000)"),
    Option("--cpu-burst", "MICROSECONDS", "unused quota that may be saved for later"),
    Option("-c --cpu-shares", "NUMBER", "relative weight, 2 to 262144"),
    Option("--cpu-weight", "NUMBER", "relative weight, 1 to 10000; instead of --cpu-shares"),
    Option("--cpu-idle", "", "run only when nothing else wants to"),
    Option("--cpuset-cpus", "LIST", "CPUs it may run on: 0-2,4"),
    Option("--cpuset-mems", "LIST", "memory nodes it may use: 0,1"),
    Option("--pids-limit", "NUMBER", "number of processes and threads"),
    Option(
        "--io-max", "DEVICE|PATH|VOLUME:KEY=N,…", "rbps, wbps, riops, wiops a second", repeats=True
    ),
    Option("--io-weight", "[DEVICE|PATH:]N", "relative weight of I/O, 1 to 10000", repeats=True),
    Option("--io-latency", "DEVICE|PATH:TIME", "latency that it is owed: 5ms, 800us", repeats=True),
    Option("--blkio-weight", "NUMBER", "relative weight of I/O, 10 to 1000"),
    Option("--blkio-weight-device", "DEVICE:NUMBER", "the same for one device", repeats=True),
    Option("--device-read-bps", "DEVICE:SIZE", "bytes read a second", repeats=True),
    Option("--device-write-bps", "DEVICE:SIZE", "bytes written a second", repeats=True),
    Option("--device-read-iops", "DEVICE:NUMBER", "reads a second", repeats=True),
    Option("--device-write-iops", "DEVICE:NUMBER", "writes a second", repeats=True),
    Option("--network-max", "rx=SIZE,tx=SIZE", "bytes a second received and sent; -1: no limit"),
    Option("--hugetlb", "PAGESIZE=SIZE", "huge pages it may use: 2MB=64M", repeats=True),
    Option("--rdma", "DEVICE=KEY=N,…", "hca_handle and hca_object (cgroup v2)", repeats=True),
    Option("--misc", "RESOURCE=NUMBER", "a resource of the misc controller (v2)", repeats=True),
    Option("--class", "latency|batch|idle", "how the governor treats it (latency)"),
)
"""All limits, with what they leave to the governor; `update` takes them as well."""

MACHINE = (
    Option("-i --interactive", "", "keep stdin open"),
    Option("-t --tty", "", "give the machine a terminal"),
    Option("--rm", "", "remove the machine when it ends (in the foreground it always is)"),
    Option("--name", "NAME", "name of the machine"),
    Option("-e --env", "NAME[=VALUE]", "set a variable, or pass the caller's", repeats=True),
    Option("--env-file", "FILE", "read variables from a file, one a line", repeats=True),
    Option("-v --volume", "[SOURCE:]TARGET[:ro]", "a host folder, or a volume", repeats=True),
    Option("--mount", "KEY=VALUE,…", "type=bind|volume|tmpfs, source, target…", repeats=True),
    Option("--tmpfs", "TARGET[:size=…,mode=…]", "mount a tmpfs", repeats=True),
    Option("-w --workdir", "FOLDER", "working folder in the machine"),
    Option("-u --user", "USER[:GROUP]", "user and group, by name or number"),
    Option("--group-add", "GROUP", "an additional group", repeats=True),
    Option("--hostname", "NAME", "host name of the machine"),
    Option("--entrypoint", "COMMAND", "the program; the words after the options become arguments"),
    *LIMITS,
    Option("--ulimit", "NAME=SOFT[:HARD]", "a resource limit: nofile=1024:2048", repeats=True),
    Option("--read-only", "", "no writable layer over the root"),
    Option("--cap-add", "NAME", "add a capability, or ALL", repeats=True),
    Option("--cap-drop", "NAME", "drop a capability, or ALL", repeats=True),
    Option(
        "--security-opt",
        "NAME[=VALUE]",
        "seccomp=FILE|unconfined, no-new-privileges[=false], unmask=ALL",
        repeats=True,
    ),
    Option("--device", "SOURCE[:TARGET][:rwm]", "show a device node of the host", repeats=True),
    Option("--init", "", "run an init that reaps and forwards signals"),
    Option("--network", "none|host|private|machine:NAME", "loopback, host's, a way out, another's"),
    Option("--userns", "private|host", "user namespace"),
    Option("--pid", "private|host|machine:NAME", "process id namespace"),
    Option("--ipc", "private|host|machine:NAME", "System V IPC and message queues"),
    Option("--uts", "private|host", "host name namespace"),
    Option("--rootfs", "FOLDER", "the machine's root; the host's own by default"),
    *IMAGE,
    Option("-l --label", "NAME=VALUE", "a label, for people and programs", repeats=True),
    Option("--stop-signal", "SIGNAL", "signal that asks the machine to end (TERM)"),
    Option("--stop-timeout", "SECONDS", "how long it may take over it (10)"),
    Option("--timeout", "SECONDS", "kill the machine after this time"),
    Option("--strict", "", "refuse to start where the host cannot give everything"),
    Option("--sysctl", "NAME=VALUE", "a setting of the machine's own namespaces", repeats=True),
    Option("--add-host", "NAME:ADDRESS", "a line in /etc/hosts", repeats=True),
    Option("--dns", "ADDRESS", "a name server in /etc/resolv.conf", repeats=True),
    HELP,
)

LIVING = (
    Option("--restart", "POLICY", "start it again: no, on-failure[:N], always, unless-stopped"),
    Option("--health-cmd", "COMMAND", "a command, for sh, that succeeds while it is healthy"),
    Option("--health-interval", "DURATION", "time between two checks (30s)"),
    Option("--health-timeout", "DURATION", "how long a check may take (30s)"),
    Option("--health-start-period", "DURATION", "time in which a failure does not count (0s)"),
    Option("--health-retries", "NUMBER", "failures in a row that make it unhealthy (3)"),
    Option("--log-opt", "KEY=VALUE", "max-size=64m, max-file=2, max-rate=SIZE", repeats=True),
    Option("--on-monitor-loss", "keep|end", "what becomes of it where its monitor is killed"),
    Option("--cidfile", "FILE", "write its id to a new file"),
)
VOLUMES_FROM = Option(
    "--volumes-from", "MACHINE[:ro]", "what another machine has mounted", repeats=True
)
SDNOTIFY = Option("--sdnotify", "machine|monitor|ignore", "who tells systemd that it is ready")
"""Options that only machines that live on can have."""

DETACH_KEYS = Option("--detach-keys", "KEYS", "what leaves it when typed (ctrl-p,ctrl-q)")

COMMANDS = (
    Command(
        "run",
        "run",
        "[OPTIONS] [IMAGE|--] COMMAND [ARGUMENT…]",
        "run a command in a machine of its own",
        (
            Option("-d --detach", "", "leave it running, print its id"),
            SDNOTIFY,
            VOLUMES_FROM,
            *LIVING,
            *MACHINE,
        ),
        passes=True,
    ),
    Command(
        "create",
        "machines.create",
        "[OPTIONS] [IMAGE|--] COMMAND [ARGUMENT…]",
        "write down a machine, to be started",
        (VOLUMES_FROM, *LIVING, *MACHINE),
        passes=True,
    ),
    Command(
        "plan",
        "show_plan",
        "[OPTIONS] [IMAGE|--] COMMAND [ARGUMENT…]",
        "print or compile the launch program of a machine",
        (
            Option("--format", "text|json", "how to print it"),
            Option("-o --output", "FILE", "write it compiled, for viscum-launch"),
            *MACHINE,
        ),
        passes=True,
    ),
)
