"""Keys and certificates that a rule names: a file, or the bytes themselves."""

from __future__ import annotations

from ..errors import TrustError, ViscumError
from ..frozen import Frozen
from .watching import note_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["MAX_MATERIAL", "Material", "Reading", "need_library", "read_file"]

MAX_MATERIAL = 4 * 1024 * 1024


def read_file(path: str, what: str, *, limit: int = MAX_MATERIAL) -> bytes:
    """Return what the file `path` holds; raises TrustError, which calls it `what`."""
    note_file(path)
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise TrustError(f"{what} {path!r}: {reason}") from None
    if len(data) > limit:
        raise TrustError(f"{what} {path!r} has more than {limit} bytes")
    return data


class Material(Frozen):
    """A file's path, or bytes that stand in the policy itself."""

    path: str
    data: bytes = b""

    def read(self) -> bytes:
        """Return the bytes; raises TrustError where the file cannot be read."""
        return read_file(self.path, "key file") if self.path else self.data

    def __str__(self) -> str:
        return self.path or "the key in the policy"


def need_library(name: str, extra: str) -> None:
    """Import the library `name`; raises TrustError that names the extra which installs it."""
    try:
        __import__(name)
    except ImportError:
        raise TrustError(
            f"the Python library {name.partition('.')[0]!r} is not installed",
            hint=f"pip install 'viscum[{extra}]'",
        ) from None


class Reading:
    """A block that reads what strangers made: whatever a library raises there is a TrustError.

    Libraries parse certificates and keys late and in parts, and say that one is malformed with
    errors of many kinds.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, ViscumError | OSError):
            return
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise TrustError(f"{self.what} is malformed: {reason[:1].lower()}{reason[1:]}") from None
