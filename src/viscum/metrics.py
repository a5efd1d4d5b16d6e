"""What machines use, as metrics for Prometheus.

Names follow its conventions: base units, `_total` for what only grows. Needs the extra `metrics`.
"""

from __future__ import annotations

import os

from .errors import HostError
from .resources.groups import GroupSet
from .resources.limits import PREFIX
from .resources.meter import Meter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from .host import Cgroups

    Machines = Callable[[], Iterable[tuple[str, str, GroupSet]]]
    """Gives name, id and groups of each machine that there is at the moment."""

__all__ = ["Collector", "found_machines", "registry"]

COUNTERS = (
    ("cpu_seconds", "cpu_seconds", "CPU time used"),
    ("cpu_user_seconds", "user_seconds", "CPU time used in user mode"),
    ("cpu_system_seconds", "system_seconds", "CPU time used by the kernel"),
    ("cpu_periods", "periods", "periods that ran under a CPU quota"),
    ("cpu_throttled_periods", "throttled_periods", "periods in which the quota ran out"),
    ("cpu_throttled_seconds", "throttled_seconds", "time that was waited for the quota"),
    ("memory_refaults", "refaults", "pages that were reclaimed and needed again"),
    ("oom_kills", "oom_kills", "processes killed for the memory limit"),
    ("io_read_bytes", "read_bytes", "bytes read from block devices"),
    ("io_written_bytes", "written_bytes", "bytes written to block devices"),
    ("io_reads", "reads", "reads from block devices"),
    ("io_writes", "writes", "writes to block devices"),
)
GAUGES = (
    ("memory_bytes", "memory_bytes", "memory charged to the machine"),
    ("memory_peak_bytes", "peak_bytes", "the most memory that was charged"),
    ("memory_working_set_bytes", "working_set_bytes", "memory without idle file pages"),
    ("memory_swap_bytes", "swap_bytes", "memory that was swapped out"),
    ("tasks", "pids", "processes and threads"),
)
PRESSURES = (
    ("pressure_waiting_seconds", "some", "time in which a task waited for the resource"),
    ("pressure_stalled_seconds", "full", "time in which all tasks waited for the resource"),
)
RESOURCES = ("cpu", "memory", "io")
LABELS = ("machine", "id")


def found_machines(cgroups: Cgroups, names: Callable[[str], str]) -> Machines:
    """Return a source of the machines that have groups on this host; `names` gives a name by id."""
    folder = cgroups.v2 or next((path for _, path in cgroups.v1), "")

    def machines() -> Iterator[tuple[str, str, GroupSet]]:
        for entry in sorted(os.listdir(folder)) if folder else ():
            if entry.startswith(PREFIX):
                yield names(entry), entry, GroupSet.of(entry, cgroups)

    return machines


class Collector:
    """Reads all machines at each scrape, through descriptors that stay open between scrapes."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._meter = Meter()
        self._known: dict[str, tuple[str, GroupSet]] = {}

    def _refresh(self) -> None:
        now = {machine_id: (name, groups) for name, machine_id, groups in self._machines()}
        for machine_id in self._known.keys() - now.keys():
            self._meter.remove(machine_id)
        for machine_id, known in now.items():
            if self._known.get(machine_id, ("", None))[1] != known[1]:
                self._meter.add(known[1])
        self._known = now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, as prometheus_client asks for it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._refresh()
        rows = [
            (self._known[machine_id], machine_id, figures)
            for machine_id, figures in self._meter.read().items()
        ]
        yield GaugeMetricFamily("viscum_machines", "machines that are running", len(rows))
        for table, family in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
            for name, field, text in table:
                made = family(f"viscum_machine_{name}", text, labels=LABELS)
                for (machine, _), machine_id, figures in rows:
                    made.add_metric([machine, machine_id], getattr(figures, field))
                yield made
        for name, kind, text in PRESSURES:
            made = CounterMetricFamily(f"viscum_machine_{name}", text, labels=(*LABELS, "resource"))
            for (machine, groups), machine_id, figures in rows:
                for resource in RESOURCES if groups.v2 else ():
                    seconds = getattr(figures, f"{resource}_{kind}_seconds")
                    made.add_metric([machine, machine_id, resource], seconds)
            yield made
        yield from self._limits(rows)

    def _limits(self, rows: Sequence[tuple[tuple[str, GroupSet], str, object]]) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        memory = GaugeMetricFamily(
            "viscum_machine_memory_limit_bytes",
            "the memory limit, where there is one",
            labels=LABELS,
        )
        cpu = GaugeMetricFamily(
            "viscum_machine_cpu_limit_cores", "the CPU limit, where there is one", labels=LABELS
        )
        for (machine, groups), machine_id, _ in rows:
            limits = groups.limits()
            if limits.memory is not None:
                memory.add_metric([machine, machine_id], limits.memory)
            if limits.cpu_quota is not None and limits.cpu_period:
                cpu.add_metric([machine, machine_id], limits.cpu_quota / limits.cpu_period)
        yield memory
        yield cpu

    def close(self) -> None:
        """Give back the descriptors."""
        self._meter.close()


def registry(machines: Machines) -> CollectorRegistry:
    """Return a registry with the metrics of `machines`; raises HostError without the extra."""
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise HostError(
            "metrics need prometheus_client, which is not installed",
            hint="pip install 'viscum[metrics]'",
        ) from None
    made = CollectorRegistry(auto_describe=False)
    made.register(Collector(machines))
    return made
