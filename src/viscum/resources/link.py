"""The bandwidth of a machine's own link, held by tc(8) in its network namespace.

What the machine sends is shaped where it leaves eth0. What it receives cannot be shaped there, so
it is sent through a second device, ifb0, and shaped where it leaves that. Both have one token
bucket (tc-tbf(8)).

pasta(1) stands at the other end of eth0 and takes it for a wire that loses nothing: it resends all
that follows a lost packet. So the queues are long, and the machine's receive windows short, for
those not to fill them; a window is that of the local leg alone, and costs nothing far away.
"""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os

from ..errors import HostError, MachineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..limits import Limits

__all__ = ["NSENTER", "hold_link", "shaping"]

NSENTER = "/usr/bin/nsenter"
PACKET = 65536
"""A packet can be this long: pasta's links have the longest that there are."""
LEAST_BURST, BURST_SECONDS = 5 * PACKET // 2, 0.01
RECEIVE_QUEUE, SEND_QUEUE, QUEUE_SECONDS = 256 * PACKET, 16 * PACKET, 0.2
LEAST_WINDOW, WINDOW_SECONDS, MOST_WINDOW = 65536, 0.1, 262144
NO_LIMIT, KEEP = "0", ""
SECONDS = 10

# Arguments: what to receive and what to send in bytes a second (0: no limit, empty: as it is), the
# burst and the queue of each in bytes, and the receive window.
_SCRIPT = """set -e
hold() { tc qdisc replace dev "$1" root tbf rate "$2"bps burst "$3" limit "$4"; }
free() { tc qdisc del dev "$1" "$2" 2>/dev/null || :; }
if [ "$1" = 0 ]; then
    free eth0 ingress
    ip link del ifb0 2>/dev/null || :
elif [ -n "$1" ]; then
    echo "4096 65536 $7" >/proc/sys/net/ipv4/tcp_rmem
    if ! ip link show ifb0 >/dev/null 2>&1; then
        trap 'free eth0 ingress; ip link del ifb0 2>/dev/null || :' EXIT
        ip link add name ifb0 up type ifb
        tc qdisc add dev eth0 ingress
        tc filter add dev eth0 parent ffff: protocol all prio 1 u32 match u32 0 0 \\
            action mirred egress redirect dev ifb0
    fi
    hold ifb0 "$1" "$3" "$4"
    trap - EXIT
fi
if [ "$2" = 0 ]; then free eth0 root; elif [ -n "$2" ]; then hold eth0 "$2" "$5" "$6"; fi
"""


def _sizes(rate: int | None, least: int) -> list[str]:
    """Return burst and queue for a rate, in bytes; the queue is at least `least`."""
    rate = max(rate or 0, 0)
    return [
        str(max(int(rate * BURST_SECONDS), LEAST_BURST)),
        str(min(max(int(rate * QUEUE_SECONDS), least), 0xFFFFFFFF)),
    ]


def _word(rate: int | None) -> str:
    return KEEP if rate is None else NO_LIMIT if rate < 0 else str(rate)


def shaping(where: Sequence[str], limits: Limits) -> list[str]:
    """Return the arguments of nsenter(1) that bound a link; `where` are for the namespaces."""
    receive, send = limits.network_rx, limits.network_tx
    window = min(max(int((receive or 0) * WINDOW_SECONDS), LEAST_WINDOW), MOST_WINDOW)
    words = [_word(receive), _word(send)]
    words += [*_sizes(receive, RECEIVE_QUEUE), *_sizes(send, SEND_QUEUE), str(window)]
    return [*where, "/bin/sh", "-c", _SCRIPT, "sh", *words]


def hold_link(pid: int, pidfd: int, limits: Limits) -> None:
    """Bound the link of the machine of a process, which `pidfd` vouches for, as `limits` say.

    Raises HostError, the link is then as it was; or MachineError where the machine has ended.
    """
    opened: list[int] = []
    try:
        opened.extend(_namespace(pid, name) for name in ("net", "user"))
        signals.pidfd_send_signal(pidfd, 0)  # the pid was that process's until here
        where = [f"--net=/proc/self/fd/{opened[0]}"]
        if os.geteuid():  # root is obeyed in the machine's network without being in it
            where += [f"--user=/proc/self/fd/{opened[1]}", "--preserve-credentials"]
        _run([NSENTER, *shaping(where, limits)], opened)
    except ProcessLookupError:
        raise MachineError("the machine has ended") from None
    finally:
        for fd in opened:
            os.close(fd)


def _namespace(pid: int, name: str) -> int:
    try:
        return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise HostError(f"the machine's network cannot be entered: {reason}") from None


def _run(words: list[str], descriptors: list[int]) -> None:
    import subprocess

    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(
            words,
            env=environment,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"the link cannot be bounded: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = lines[-1] if lines else f"status {done.returncode}"
        raise HostError(f"the link cannot be bounded: {reason}", hint="nothing was changed")
