"""From a machine's config back to the words of `viscum create` that would make it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...limits import IoLimit
    from ...record import Config
    from ...spec import Mount, Spec

__all__ = ["create_words"]

UNLIMITED = (1 << 64) - 1
TEXTS = ("rootfs", "workdir", "user", "hostname")
NAMESPACES = ("network", "userns", "pid", "ipc", "uts")
SWITCHES = ("read_only", "init", "strict", "tty")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _mount(mount: Mount) -> Iterator[str]:
    if mount.kind == "tmpfs":
        words = [f"mode={mount.mode:o}", *([f"size={mount.size}"] if mount.size else [])]
        words += ["ro"] if mount.read_only else []
        words += ["exec"] if mount.exec else []
        yield from ("--tmpfs", f"{mount.where}:{','.join(words)}")
        return
    flags = ["ro"] if mount.read_only else []
    flags += [] if mount.exec else ["noexec"]
    if ":" in mount.source + mount.where:
        read_only = ",readonly" if mount.read_only else ""
        yield from ("--mount", f"type=bind,source={mount.source},target={mount.where}{read_only}")
        return
    third = ":" + ",".join(flags) if flags else ""
    yield from ("--volume", f"{mount.volume or mount.source}:{mount.where}{third}")


LIMITS = (
    "memory memory_swap memory_reservation memory_high memory_low memory_min memory_zswap "
    "memory_swappiness cpus cpu_quota cpu_period cpu_burst cpu_shares cpu_weight cpuset_cpus "
    "cpuset_mems io_weight"
).split()
LIMIT_SWITCHES = ("oom_group", "oom_kill_disable", "cpu_idle")


def _io(bound: IoLimit) -> Iterator[str]:
    """Yield the bounds of a device by its number, which was found when they were asked for."""
    rates = [
        f"{name}={value}"
        for name in ("rbps", "wbps", "riops", "wiops")
        if (value := getattr(bound, name)) is not None
    ]
    if rates:
        yield from ("--io-max", f"{bound.device}:{','.join(rates)}")
    if bound.weight is not None:
        yield from ("--io-weight", f"{bound.device}:{bound.weight}")
    if bound.latency_us is not None:
        yield from ("--io-latency", f"{bound.device}:{bound.latency_us}us")


def _limits(spec: Spec) -> Iterator[str]:
    limits = spec.limits
    bounds = {"cpus": spec.cpu_bounds, "memory": spec.memory_bounds}
    if spec.machine_class:
        yield from ("--class", spec.machine_class)
    if spec.oom_policy != "kill":
        yield from ("--oom-policy", spec.oom_policy)
    for name in LIMITS:
        value, ends = getattr(limits, name), bounds.get(name)
        if ends is not None:
            yield from (_flag(name), f"{ends[0]:.15g}..{ends[1]:.15g}")
        elif value is not None:
            yield from (_flag(name), f"{value:g}" if isinstance(value, float) else str(value))
    yield from (_flag(name) for name in LIMIT_SWITCHES if getattr(limits, name))
    for bound in limits.io:
        yield from _io(bound)
    for name in ("hugetlb", "rdma", "misc"):
        for key, value in getattr(limits, name):
            yield from (_flag(name), f"{key}={str(value).replace(' ', ',')}")
    link = [("rx", limits.network_rx), ("tx", limits.network_tx)]
    if limits.of_network:
        given = (f"{name}={value}" for name, value in link if value is not None)
        yield from ("--network-max", ",".join(given))
    if limits.pids is not None:
        yield from ("--pids-limit", str(limits.pids))
    for limit in spec.rlimits:
        soft, hard = (
            "unlimited" if number >= UNLIMITED else str(number)
            for number in (limit.soft, limit.hard)
        )
        yield from ("--ulimit", f"{limit.name}={soft}:{hard}")


def _guard(spec: Spec) -> Iterator[str]:
    for name in ("cap_add", "cap_drop"):
        for capability in getattr(spec, name):
            yield from (_flag(name), capability)
    if spec.seccomp != "default":
        yield from ("--security-opt", f"seccomp={spec.seccomp}")
    if not spec.no_new_privileges:
        yield from ("--security-opt", "no-new-privileges=false")
    if spec.unmask:
        yield from ("--security-opt", "unmask=ALL")
    for device in spec.devices:
        yield from ("--device", f"{device.source}:{device.target or device.source}:{device.access}")


def _spec(spec: Spec, target: str) -> Iterator[str]:
    for name in TEXTS:
        value = getattr(spec, name)
        if value:
            yield from (_flag(name), value)
    for name in NAMESPACES:
        value = getattr(spec, name)
        if value == "machine":
            yield from (_flag(name), f"machine:{target}")
        elif value != getattr(type(spec), name):
            yield from (_flag(name), value)
    yield from (_flag(name) for name in SWITCHES if getattr(spec, name))
    for name, value in spec.env:
        yield from ("--env", f"{name}={value}")
    for group in spec.groups:
        yield from ("--group-add", group)
    for mount in spec.mounts:
        yield from _mount(mount)
    for name, value in spec.sysctls:
        yield from ("--sysctl", f"{name}={value}")
    for name, value in spec.hosts:
        yield from ("--add-host", f"{name}:{value}")
    for server in spec.dns:
        yield from ("--dns", server)
    if spec.stop_signal != type(spec).stop_signal:
        yield from ("--stop-signal", str(spec.stop_signal))
    if spec.stop_timeout != type(spec).stop_timeout:
        yield from ("--stop-timeout", f"{spec.stop_timeout:g}")
    yield from _limits(spec)
    yield from _guard(spec)


def _living(config: Config) -> Iterator[str]:
    if config.restart.policy != "no":
        maximum = f":{config.restart.maximum}" if config.restart.maximum else ""
        yield from ("--restart", config.restart.policy + maximum)
    for name, value in config.labels:
        yield from ("--label", f"{name}={value}")
    if config.health is not None:
        health = config.health
        yield from ("--health-cmd", health.command[-1])
        for name in ("interval", "timeout", "start_period"):
            yield from (_flag(f"health_{name}"), f"{getattr(health, name):.3f}")
        yield from ("--health-retries", str(health.retries))
    for key, field in (("size", "max_size"), ("file", "max_files"), ("rate", "max_rate")):
        number = getattr(config.log, field)
        if number != getattr(type(config.log), field):
            yield from ("--log-opt", f"max-{key}={number}")
    if config.interactive:
        yield "--interactive"
    if config.timeout is not None:
        yield from ("--timeout", f"{config.timeout:g}")
    if config.spec.ends_with_monitor:
        yield from ("--on-monitor-loss", "end")


def create_words(config: Config) -> list[str]:
    """Return options and command; the name is left to the caller."""
    spec = config.spec
    words = [*_living(config), *_spec(spec, config.target)]
    if not spec.image:
        return [*words, "--", *spec.command]
    # The image is asked again at each start; entrypoint and command are told whole.
    words += ["--image", spec.image, "--entrypoint", spec.command[0]]
    return [*words, "--", *spec.command[1:]]
