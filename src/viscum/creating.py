"""From the options of a new machine that lives on to its config."""

from __future__ import annotations

import time

from .errors import SpecError
from .limits import Limits, check_limits
from .record import Config, Health, LogOptions, Restart
from .registry import Record, find, new_machine_id
from .request import make_limits, make_spec, merged_bounds, take_bounds
from .resources.limits import PREFIX
from .resources.settings import DEFAULT_PERIOD_US
from .result import nanoseconds
from .spec import SHARED, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .spec import Spec


__all__ = ["changed_spec", "make_config", "parse_restart", "random_name"]

POLICIES = ("no", "on-failure", "always", "unless-stopped")
SHAREABLE = ("network", "pid", "ipc")
FIRST = (
    "able agile amber ample avid bold brisk calm civil clear cool deft eager early fair fleet fond "
    "fresh gentle glad grand green hardy keen kind light lively lucid mellow merry mild neat"
).split()
SECOND = (
    "alder apple ash aspen beech birch cedar cherry citrus cypress elder elm fir hazel holly ivy "
    "juniper larch laurel linden maple medlar oak olive pear pine plum poplar rowan spruce willow"
).split()
"""Trees, on most of which mistletoe grows."""


def random_name(machine_id: str) -> str:
    """Return a name for a machine that was given none, from the digits of its id."""
    number = int(machine_id[:12], 16)
    first, second = FIRST[number % len(FIRST)], SECOND[number // len(FIRST) % len(SECOND)]
    return f"{first}_{second}_{machine_id[-4:]}"


def parse_restart(text: str) -> Restart:
    """Return the policy in "no", "on-failure[:N]", "always", "unless-stopped"; or SpecError."""
    policy, colon, maximum = text.partition(":")
    known = policy in POLICIES and (not colon or policy == "on-failure")
    if not known or (colon and not (maximum.isascii() and maximum.isdigit())):
        raise SpecError(
            f"restart policy {text!r} is unknown",
            hint=f"one of {', '.join(POLICIES)}; on-failure:N",
        )
    return Restart(policy, min(int(maximum or 0), 1 << 30))


def _check_labels(labels: tuple[tuple[str, str], ...]) -> None:
    for name, _ in labels:
        if not name:
            raise SpecError("a label has no name", hint="--label NAME=VALUE")


def target_of(share: Mapping[str, str]) -> Record:
    """Return the machine whose namespaces are shared; raises SpecError for two of them."""
    unknown = set(share) - set(SHAREABLE)
    if unknown:
        raise SpecError(f"namespace {min(unknown)!r} cannot be shared", hint=", ".join(SHAREABLE))
    found = {find(word).id for word in share.values()}
    if len(found) > 1:
        raise SpecError("namespaces of two machines cannot be mixed", hint="share those of one")
    return Record(found.pop())


def _from_image(
    spec: Spec, labels: Mapping[str, str] | None, health: Health | None
) -> tuple[Mapping[str, str], Health | None]:
    """Return labels and health check with those of the image behind what was given."""
    from . import images

    config = images.config_of(spec.image_digest)
    asked = config.health
    if health is None and asked is not None:
        health = Health(
            asked.test[1:] if asked.test[0] == "CMD" else ("sh", "-c", asked.test[1]),
            interval=max(asked.interval, 0.001),
            timeout=max(asked.timeout, 0.001),
            start_period=max(asked.start_period, 0.0),
            retries=min(max(asked.retries, 1), 1000),
        )
    return {**dict(config.labels), **(labels or {})}, health


def make_config(
    command: Sequence[str],
    options: Mapping[str, object],
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    restart: str = "no",
    health: Health | None = None,
    log: LogOptions = LogOptions(),  # noqa: B008 - frozen
    interactive: bool = False,
    remove: bool = False,
    timeout: float | None = None,
    share: Mapping[str, str] | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Config:
    """Return the checked config of a new machine; raises SpecError, MachineError."""
    share = share or {}
    machine_id = new_machine_id()
    target = target_of(share) if share else None
    words = dict.fromkeys(share, SHARED)
    layer = Record(machine_id).path("layer")
    spec = make_spec(
        command, {**options, **words}, detached=True, layer=layer, idle=not command, **(fixed or {})
    )
    if spec.image:
        labels, health = _from_image(spec, labels, health)
    if target is not None and target.config.spec.userns != spec.userns:
        raise SpecError("the machines have different user namespaces", hint="the same --userns")
    policy = parse_restart(restart)
    if remove and policy.policy != "no":
        raise SpecError("--rm and --restart contradict each other", hint="leave one of them out")
    pairs = tuple((labels or {}).items())
    _check_labels(pairs)
    nanoseconds(timeout)
    return Config(
        id=machine_id,
        name=random_name(machine_id) if name is None else check_name(name),
        created=time.time_ns(),
        spec=spec,
        group=PREFIX + machine_id,
        labels=pairs,
        restart=policy,
        log=log,
        health=health,
        interactive=interactive,
        remove=remove,
        timeout=timeout,
        target=target.id if target else "",
    )


def _other_way_of_cpus(wanted: Limits) -> dict[str, None]:
    """Return what the new limit of the CPU replaces: it is said by `cpus`, or quota and period."""
    if wanted.cpus is not None:
        return {"cpu_quota": None, "cpu_period": None}
    return {} if wanted.cpu_quota is None else {"cpus": None}


def changed_spec(spec: Spec, changes: Mapping[str, object]) -> tuple[Limits, Spec]:
    """Return the limits among `changes`, and `spec` with them; raises SpecError.

    Bounds (`cpus="0.5..2"`) are new ones for the governor, and their upper end is the limit. A
    plain limit where there were bounds ends them.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    unknown = set(given) - set(Limits.__fields__) - {"machine_class"}
    if unknown:
        raise TypeError(f"unknown limit {min(unknown)!r}")
    fields: dict[str, object] = {}
    for name, bounds in (("cpus", "cpu_bounds"), ("memory", "memory_bounds")):
        if name in given:
            fields[bounds] = None
    if "cpu_quota" in given and spec.limits.cpus is not None:
        fields["cpu_bounds"] = None
        given.setdefault("cpu_period", DEFAULT_PERIOD_US)  # a governor may have chosen another
    wanted = make_limits(take_bounds(given, fields))
    check_limits(wanted)
    plain = {name: value for name, value in wanted.__dict__.items() if value not in (None, ())}
    fields["limits"] = spec.limits.replace(
        **{**_other_way_of_cpus(wanted), **plain, "io": merged_bounds(spec.limits.io, wanted.io)}
    )
    changed = spec.replace(**fields)
    if not changed.bounded:
        changed = changed.replace(machine_class="")
    if "machine_class" in given:
        changed = changed.replace(machine_class=given["machine_class"])
    return wanted, changed.check()
