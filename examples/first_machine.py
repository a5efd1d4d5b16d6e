"""Start a machine on the host's own root and print what it sees of itself."""

from __future__ import annotations

import sys
import time

import viscum

LOOK = """
echo "hostname     $(hostname)"
echo "pid 1        $(cat /proc/1/comm)"
echo "processes    $(ls /proc | grep -c '^[0-9]')"
ids=$(awk '{print $2 "-" $2+$3-1}' /proc/self/uid_map | tr '\\n' ' ')
echo "user         $(id -un) ($(id -u)), of the host: $ids"
memory=/sys/fs/cgroup/memory/memory.limit_in_bytes
[ -e $memory ] || memory=/sys/fs/cgroup/memory.max
echo "memory limit $(cat $memory 2>/dev/null || echo none) bytes"
quota=/sys/fs/cgroup/cpu/cpu.cfs_quota_us
[ -e $quota ] && echo "cpu limit    $(cat $quota) of $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us) us"
[ -e $quota ] || echo "cpu limit    $(cat /sys/fs/cgroup/cpu.max 2>/dev/null || echo none)"
echo "network      $(ls /sys/class/net | tr '\\n' ' ')"
touch /etc/written-by-the-machine && echo "its /etc     writable; the host's is untouched"
"""


def main() -> int:
    """Run one machine that looks around, then time the start of more."""
    options = {"memory": "256M", "cpus": 1.5, "pids": 64}
    result = viscum.run(["sh", "-c", LOOK], hostname="first", timeout=30, **options)
    print(result.text, end="")
    print(result.stderr.decode(), end="", file=sys.stderr)
    for lost in result.lost:
        print(f"not to be had here: {lost}")
    times = []
    for _ in range(21):
        start = time.perf_counter()
        viscum.run(["true"], **options)
        times.append(time.perf_counter() - start)
    median = sorted(times)[10] * 1e3
    print(f"start        {median:.2f} ms from Python to the end of `true` (median)")
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
