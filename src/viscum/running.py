"""`run`: a machine from its start to its end, in one call of the core."""

from __future__ import annotations

import os

from . import launching, native
from .errors import SpecError
from .request import make_spec
from .resources.usage import oom_kills, usage_from
from .result import DEFAULT_OUTPUT_LIMIT, Result, exit_code, nanoseconds, verdict_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from .request import Options

__all__ = ["run"]


def _prepared(command: Sequence[str], options: Options) -> launching.Ready:
    """Return the loaded plan; the same command and options are not even checked again."""
    launching.this_host()
    if (
        "user" in options or "seccomp" in options or options.get("pull") in ("always", "newer")
    ):  # files may change what these mean
        return launching.ready(make_spec(command, options))
    try:
        key: tuple[object, ...] = (tuple(command), tuple(options.items()))
        if "image" in options:
            from .images import identity

            key = (*key, identity())
        known = launching.recall(key)
    except TypeError:  # an option that cannot be hashed, such as a dict
        return launching.ready(make_spec(command, options))
    if known is None:
        known = launching.ready(make_spec(command, options))
        launching.keep(key, known)
    return known


def _hold(command: Sequence[str], options: Options) -> Sequence[int]:
    """Make the volumes among the mounts ready, and keep them from being removed."""
    options["mounts"] = mounts = tuple(options["mounts"])
    if not any(mount.volume for mount in mounts):
        return ()
    from . import volumes

    spec = make_spec(command, options)
    return volumes.prepare(spec.mounts, spec.identity[:2])


def run(
    command: Sequence[str],
    *,
    input: bytes | str | None = None,  # noqa: A002 - the name that subprocess.run has
    timeout: float | None = None,
    output_limit: int = DEFAULT_OUTPUT_LIMIT,
    capture: bool = True,
    **options: Unpack[Options],
) -> Result:
    """Run `command` in a machine of its own and return how it ended.

    `timeout` is in seconds; when it runs out, everything in the machine is killed. Of each of
    stdout and stderr at most `output_limit` bytes are kept; without `capture` the machine writes
    to the caller's. Raises SpecError, HostError and LaunchError.
    """
    timeout_ns = nanoseconds(timeout)
    if not 0 <= output_limit <= 1 << 40:
        raise SpecError(f"output limit {output_limit!r} is out of range", hint="bytes from 0 up")
    held = _hold(command, options) if "mounts" in options else ()
    try:
        made = _prepared(command, options)
        compiled = made.compiled
        stat, timed_out, stdout, stderr, truncated, files = native.run(
            compiled.plan,
            made.loaded,
            launching.new_id(),
            data=input.encode() if isinstance(input, str) else input,
            captures=capture,
            limit=output_limit,
            timeout_ns=timeout_ns,
            kill_slot=compiled.kill_slot,
            files=compiled.files,
            owner=compiled.owner,
        )
    finally:
        for fd in held:
            os.close(fd)
    verdict = verdict_of(stat, timed_out=timed_out, out_of_memory=oom_kills(files) > 0)
    usage = usage_from(stat, files)
    lost = compiled.lost
    return Result(stdout, stderr, exit_code(stat), verdict, usage, bool(truncated), lost)
