"""`viscum metrics`: what the machines use, for Prometheus."""

from __future__ import annotations

import os
import signal
import sys

from .. import launching
from ..errors import HostError, SpecError
from ..metrics import found_machines, registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from .parser import Parsed

__all__ = ["main"]

LOOPBACK = "127.0.0.1"
LOCAL = ("", LOOPBACK, "::1", "localhost")


def _raise_descriptors() -> None:
    """Take as many descriptors as are allowed: each machine keeps a dozen open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SpecError(f"--listen {text!r} is not [HOST:]PORT", hint="such as 9470")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def _serve(made: CollectorRegistry, text: str) -> int:
    from prometheus_client import start_http_server

    host, port = _address(text)
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        server, thread = start_http_server(port, host, made)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise HostError(f"cannot listen on {text}: {reason}", hint="choose another one") from None
    print(f"viscum: serving metrics on http://{host}:{port}/metrics", file=sys.stderr, flush=True)
    if host not in LOCAL:
        print("viscum: warning: whoever reaches this address can read them", file=sys.stderr)
    signal.sigwait(ending)
    server.shutdown()
    thread.join()
    return 0


def _write(made: CollectorRegistry, path: str) -> int:
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(os.path.abspath(path), made)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise HostError(f"cannot write {path!r}: {reason}", hint="does its folder exist?") from None
    return 0


def _names() -> Callable[[str], str]:
    """Return what gives a machine's name by its groups'; those that have none are their own."""
    from ..registry import machines

    known: dict[str, str] = {}

    def name_of(group: str) -> str:
        if group not in known:
            known.update({record.group: record.name for record in machines()})
        return known.setdefault(group, group)

    return name_of


def main(parsed: Parsed) -> int:
    """Print, write or serve the metrics and return the exit code."""
    listen, path = parsed.text("listen"), parsed.text("textfile")
    if listen is not None and path is not None:
        raise SpecError("--listen and --textfile exclude each other", hint="run it twice")
    _raise_descriptors()
    made = registry(found_machines(launching.this_host().cgroups, _names()))
    if listen is not None:
        return _serve(made, listen)
    if path is not None:
        return _write(made, path)
    from prometheus_client import generate_latest

    sys.stdout.write(generate_latest(made).decode())
    return 0
