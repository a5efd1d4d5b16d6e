"""Who crowds whom, live: waiting and I/O read from the groups, and caps on I/O written to them."""

from __future__ import annotations

import os

from .fleet import ACTIVE_CPUS
from .neighbours import Neighbours, Party

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .live import Live

__all__ = ["Crowding"]

MOVED = 0.03
"""Share of time that something of the host waited, from which victims are looked for."""
IO_BORNE = 0.3
"""Share of time that a machine may stand still for I/O: some of it is always its own."""
LEAST_BYTES = 1 << 20
"""Bytes a second below which nobody is blamed, and no cap is set."""


class Crowding:
    """Looks at every machine about once a second, and only while the host is crowded."""

    def __init__(self) -> None:
        self.io = Neighbours()
        self._host: dict[str, int] = {}
        self._last = 0.0
        self._waited: dict[tuple[str, str], tuple[int, float]] = {}
        self._bytes: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._capped: dict[str, int] = {}
        self._files: dict[str, int] = {}

    def _waited_on_host(self, kind: str) -> int:
        if kind not in self._files:
            try:
                self._files[kind] = os.open(f"/proc/pressure/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._files[kind] = -1
        fd = self._files[kind]
        return _number(os.pread(fd, 512, 0), b"some") if fd >= 0 else 0

    def close(self) -> None:
        """Close the host's files."""
        for fd in self._files.values():
            if fd >= 0:
                os.close(fd)
        self._files.clear()

    def suffering(self, lives: Iterable[Live], kind: str, now: float) -> dict[str, float] | None:
        """Return the share of time that each machine stood still for `kind` ("cpu", "io"), its own
        limit aside; None while the host as a whole did not wait.
        """
        waited = self._waited_on_host(kind)
        moved = waited - self._host.get(kind, waited)
        self._host[kind] = waited
        if moved < MOVED * (now - self._last) * 1e6:
            return None
        shares = {}
        for live in lives:
            if live.governed.manner.pressure < 1.0 and live.handles.v2:
                try:
                    stood = self._stood(live, kind)
                except OSError:
                    continue  # it has ended; the next look finds that out
                shares[live.governed.name] = stood / 1e6 / max(now - self._last, 0.1)
        return shares

    def _stood(self, live: Live, kind: str) -> float:
        """Return the microseconds that a machine stood still since the last time. One that
        hardly runs is no victim of who takes the CPU, and costs no reading.
        """
        cpu = live.member.cpu
        if kind == "cpu" and (cpu is None or cpu.used < ACTIVE_CPUS):
            self._waited.pop((live.governed.name, kind), None)
            return 0.0
        total = _total(f"{live.handles.v2}/{kind}.pressure", b"full")
        held = live.handles.cpu().throttled_us if kind == "cpu" else 0.0
        key = (live.governed.name, kind)
        before = self._waited.get(key, (total, held))
        self._waited[key] = (total, held)
        return max(total - before[0] - max(held - before[1], 0.0), 0.0)

    def looked(self, now: float) -> None:
        """Note that a look is over: shares of time are counted from here."""
        self._last = now

    def look_io(self, lives: list[Live], now: float) -> str:
        """Squeeze and release the I/O of machines that yield; return who was squeezed."""
        shares = self.suffering(lives, "io", now)
        if shares is None and not self.io.caps:
            self._bytes.clear()
            return ""
        parties = [
            self._party(live, (shares or {}).get(live.governed.name, 0.0), now) for live in lives
        ]
        squeezed = self.io.look(parties)
        for live in lives:
            self._cap(live, self.io.caps.get(live.governed.name))
        return squeezed

    def _party(self, live: Live, share: float, now: float) -> Party:
        name, manner = live.governed.name, live.governed.manner
        if manner.pressure < 1.0:
            return Party(name, manner.rank, 0.0, 0.0, max(share - IO_BORNE, 0.0), share > 0.01)
        total, devices = _served(live)
        before = self._bytes.get(name, (total, devices))[0]
        self._bytes[name] = (total, devices)
        rate = (total - before) / max(now - self._last, 0.1)
        return Party(name, manner.rank, rate, LEAST_BYTES)

    def _cap(self, live: Live, cap: float | None) -> None:
        name = live.governed.name
        if cap is None and name not in self._capped:
            return
        limit = 0 if cap is None else max(int(cap), LEAST_BYTES)
        if self._capped.get(name) == limit:
            return
        for path, text in _cap_lines(live, self._bytes.get(name, (0, ()))[1], limit):
            try:
                with open(path, "wb", buffering=0) as file:
                    file.write(text.encode())
            except OSError:
                continue  # a device that is gone, or takes no limit
        if limit:
            self._capped[name] = limit
        else:
            del self._capped[name]

    def rest_lines(self, live: Live) -> Iterator[str]:
        """Yield the lines for `viscum-rest` that lift a machine's cap."""
        if live.governed.name in self._capped:
            devices = self._bytes.get(live.governed.name, (0, ()))[1]
            for path, text in _cap_lines(live, devices, 0):
                yield f"{path}\t{text}\n"

    def forget(self, live: Live) -> None:
        """Lift a machine's cap and forget it."""
        self._cap(live, None)
        self._bytes.pop(live.governed.name, None)
        for kind in ("cpu", "io"):
            self._waited.pop((live.governed.name, kind), None)


def _total(path: str, line: bytes) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(fd, 512)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return _number(text, line)


def _number(text: bytes, line: bytes) -> int:
    """Return the total of a line of a pressure file."""
    at = text.find(b"total=", max(text.find(line), 0))
    return int(text[at + 6 :].split()[0]) if at >= 0 else 0


def _served(live: Live) -> tuple[int, tuple[str, ...]]:
    """Return the bytes that a machine read and wrote so far, and the devices that it did it on."""
    handles = live.handles
    folder = handles.v2 if handles.owns_v2 else handles.v1.get("blkio", "")
    name = "io.stat" if handles.owns_v2 else "blkio.throttle.io_service_bytes_recursive"
    total, devices = 0, []
    try:
        with open(f"{folder}/{name}", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if handles.owns_v2:
                    pairs = dict(word.partition("=")[::2] for word in words[1:])
                    total += int(pairs.get("rbytes", 0)) + int(pairs.get("wbytes", 0))
                    devices.append(words[0])
                elif len(words) == 3 and words[1] in ("Read", "Write"):
                    total += int(words[2])
                    devices.append(words[0])
    except (OSError, ValueError, IndexError):
        return 0, ()
    return total, tuple(dict.fromkeys(devices))


def _cap_lines(live: Live, devices: tuple[str, ...], limit: int) -> Iterator[tuple[str, str]]:
    handles = live.handles
    for device in devices:
        if handles.owns_v2:
            value = limit or "max"
            yield f"{handles.v2}/io.max", f"{device} rbps={value} wbps={value}"
        elif "blkio" in handles.v1:
            for way in ("read", "write"):
                path = f"{handles.v1['blkio']}/blkio.throttle.{way}_bps_device"
                yield path, f"{device} {limit}"
