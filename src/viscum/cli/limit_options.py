"""From the options that limit a machine to those of the Python API."""

from __future__ import annotations

import os

from ..errors import SpecError
from ..limits import IoLimit, parse_size
from ..resources.settings import blkio_to_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .parser import Parsed

__all__ = ["limit_options"]

_TEXTS = (
    "memory memory_swap memory_reservation memory_high memory_low memory_min memory_zswap "
    "memory_swappiness cpus cpu_quota cpu_period cpu_burst cpu_shares cpu_weight cpuset_cpus "
    "cpuset_mems"
).split()
_FLAGS = ("oom_group", "oom_kill_disable", "cpu_idle")
_RATES = (
    ("device_read_bps", "rbps"),
    ("device_write_bps", "wbps"),
    ("device_read_iops", "riops"),
    ("device_write_iops", "wiops"),
)
_TIMES = {"us": 1, "ms": 1000, "s": 1_000_000}


def limit_options(parsed: Parsed) -> dict[str, object]:
    """Return the limits among the options, for `request.make_limits`; raises SpecError."""
    options: dict[str, object] = {
        key: value for key in _TEXTS if (value := parsed.text(key)) is not None
    }
    options.update({key: True for key in _FLAGS if parsed.on(key)})
    if parsed.text("pids_limit") not in (None, "-1", "0"):
        options["pids"] = parsed.text("pids_limit")
    bounds = [*_maxima(parsed), *_weights(parsed), *_latencies(parsed), *_by_device(parsed)]
    if bounds:
        options["io"] = bounds
    weight = _weight(parsed)
    if weight is not None:
        options["io_weight"] = weight
    options.update(_network(parsed))
    for key in ("hugetlb", "rdma", "misc"):
        if parsed.texts(key):
            options[key] = dict(_named(text, key) for text in parsed.texts(key))
    return options


def _named(text: str, key: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise SpecError(f"--{key} {text!r} is not NAME=VALUE")
    return name, value.replace(",", " ") if key == "rdma" else value


def _split(text: str, flag: str) -> tuple[str, str]:
    """Return the device and the rest: a number has a colon of its own, a path may have some."""
    device, colon, rest = text.rpartition(":")
    if not colon or not device or not rest:
        raise SpecError(f"{flag} {text!r} is not DEVICE:VALUE")
    if device[0] != "/" and not device[0].isdigit():
        from .. import volumes

        volumes.find(device)
        os.close(volumes.hold(device))  # its own disk is mounted from now on
        device = volumes.path_of(device)
    return device, rest


def _network(parsed: Parsed) -> Iterator[tuple[str, object]]:
    text = parsed.text("network_max")
    for word in text.split(",") if text is not None else ():
        name, _, value = word.partition("=")
        if name not in ("rx", "tx"):
            raise SpecError(f"--network-max {text!r}: {name!r} is unknown", hint="rx=10M,tx=2M")
        yield f"network_{name}", value


def _count(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise SpecError(f"{flag}: {text!r} is not a whole number above 0")
    return int(text)


def _rate(name: str, text: str, flag: str) -> int:
    return parse_size(text, flag) if name.endswith("bps") else _count(text, flag)


def _maxima(parsed: Parsed) -> Iterator[IoLimit]:
    for text in parsed.texts("io_max"):
        device, rest = _split(text, "--io-max")
        values: dict[str, Any] = {}
        for word in rest.split(","):
            name, _, value = word.partition("=")
            if name not in ("rbps", "wbps", "riops", "wiops"):
                raise SpecError(
                    f"--io-max {text!r}: {name!r} is unknown", hint="rbps, wbps, riops, wiops"
                )
            values[name] = _rate(name, value, f"--io-max {name}")
        yield IoLimit(device, **values)


def _weights(parsed: Parsed) -> Iterator[IoLimit]:
    for text in parsed.texts("io_weight"):
        if ":" in text:
            device, rest = _split(text, "--io-weight")
            yield IoLimit(device, weight=_count(rest, "--io-weight"))
    for text in parsed.texts("blkio_weight_device"):
        device, rest = _split(text, "--blkio-weight-device")
        yield IoLimit(device, weight=_blkio(rest, "--blkio-weight-device"))


def _blkio(text: str, flag: str) -> int:
    weight = _count(text, flag)
    if not 10 <= weight <= 1000:
        raise SpecError(f"{flag} {text} is out of range", hint="10 to 1000")
    return blkio_to_weight(weight)


def _weight(parsed: Parsed) -> int | None:
    plain = [text for text in parsed.texts("io_weight") if ":" not in text]
    blkio = parsed.text("blkio_weight")
    if plain and blkio is not None:
        raise SpecError("--io-weight and --blkio-weight are the same", hint="give one of them")
    if blkio is not None:
        return _blkio(blkio, "--blkio-weight")
    return _count(plain[-1], "--io-weight") if plain else None


def _latencies(parsed: Parsed) -> Iterator[IoLimit]:
    for text in parsed.texts("io_latency"):
        device, rest = _split(text, "--io-latency")
        number = rest.rstrip("usm")
        unit = _TIMES.get(rest[len(number) :])
        if unit is None:
            raise SpecError(f"--io-latency {rest!r} is not a time", hint="such as 5ms or 800us")
        yield IoLimit(device, latency_us=_count(number, "--io-latency") * unit)


def _by_device(parsed: Parsed) -> Iterator[IoLimit]:
    for key, name in _RATES:
        flag = "--" + key.replace("_", "-")
        for text in parsed.texts(key):
            device, rest = _split(text, flag)
            given: dict[str, Any] = {name: _rate(name, rest, flag)}
            yield IoLimit(device, **given)
