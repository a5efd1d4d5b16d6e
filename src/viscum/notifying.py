"""The protocol by which a service tells systemd that it is ready (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time

from .errors import ViscumError
from .places import make_folder, run_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INSIDE", "Listener", "notify"]

INSIDE = "/run/viscum-notify"
"""The folder that the socket of a machine stands in, in the machine."""
LONGEST = 4096
STEP_SECONDS = 0.2
PASSED_ON = ("READY=1", "STATUS=", "ERRNO=", "EXTEND_TIMEOUT_USEC=")
"""What a machine may tell of itself; of its process ids systemd has others."""


def notify(address: str, *lines: str) -> None:
    """Send lines to the socket `address`; raises ViscumError where nobody listens."""
    where = "\0" + address[1:] if address[:1] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(where)
            sender.send("\n".join(lines).encode("utf-8", "surrogateescape"))
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise ViscumError(f"NOTIFY_SOCKET {address!r}: {reason}") from None


class Listener:
    """A socket that a machine tells its readiness to."""

    def __init__(self) -> None:
        base = make_folder(run_folder(), "notify", hint="make it writable, or set VISCUM_RUN")
        self.folder = os.path.join(base, "notify", os.urandom(8).hex())
        os.mkdir(self.folder, 0o700)
        os.chmod(self.folder, 0o755)  # noqa: S103 - `notify` above it is the caller's alone
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)  # noqa: S103 - any user of the machine
        self.socket.settimeout(STEP_SECONDS)

    @property
    def path(self) -> str:
        """The socket."""
        return f"{self.folder}/socket"

    def wait(self, runs: Callable[[], bool], tell: Callable[[str], None]) -> bool:
        """Pass on what the machine tells until it is ready; False where it ended before."""
        while True:
            try:
                message = self.socket.recv(LONGEST).decode("utf-8", "replace")
            except TimeoutError:
                if not runs():
                    return False
                time.sleep(0)
                continue
            lines = [line for line in message.splitlines() if line.startswith(PASSED_ON)]
            for line in lines:
                if line != "READY=1":
                    tell(line)
            if "READY=1" in lines:
                return True

    def close(self) -> None:
        """Remove the socket. What the machine has mounted stays, and leads nowhere."""
        self.socket.close()
        for remove, path in ((os.unlink, self.path), (os.rmdir, self.folder)):
            try:
                remove(path)
            except OSError:
                continue
