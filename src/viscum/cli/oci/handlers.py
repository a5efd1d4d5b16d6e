"""Where engines are told of a runtime, and what has to stand there.

CRI-O and Podman read files from a folder beside their main one, so what they get is a whole file of
ours. containerd 1 replaces a plugin's whole section by that of another file, so its own file gets
our tables at its end, between two marks; Docker's one file gets a member.
"""

from __future__ import annotations

import json
import os

from ...errors import HostError, SpecError

__all__ = ["ENGINES", "Change", "plan_install", "plan_uninstall", "present"]

BEGIN = "# viscum oci install: begin"
END = "# viscum oci install: end"
MADE = "# made by viscum oci install"
NAME = "viscum"
ENGINES = {
    "containerd": "/etc/containerd/config.toml",
    "crio": "/etc/crio/crio.conf.d/50-viscum.conf",
    "podman": "/etc/containers/containers.conf.d/50-viscum.conf",
    "docker": "/etc/docker/daemon.json",
}
_FOLDERS = {
    "containerd": "/etc/containerd",
    "crio": "/etc/crio",
    "podman": "/etc/containers",
    "docker": "/etc/docker",
}


def present(root: str = "") -> list[str]:
    """Return the engines that are configured on this host."""
    return [engine for engine, folder in _FOLDERS.items() if os.path.isdir(root + folder)]


class Change:
    """A file and its text before and after; None where there is no such file."""

    __slots__ = ("after", "before", "path")

    def __init__(self, path: str, before: str | None, after: str | None) -> None:
        self.path = path
        self.before = before
        self.after = after


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _containerd_version(text: str) -> int:
    """Return the version of containerd's format: 2 with containerd 1, 3 with containerd 2."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "version" and value.strip().isdigit():
            return int(value.strip())
        if line.strip().startswith("["):
            break
    return 1 if text.strip() else 2


def _containerd(before: str | None, runtime: str) -> str:
    text = _without_block(before) or f"{MADE}\nversion = 2\n"
    version = _containerd_version(text)
    if version < 2:
        raise SpecError(
            "containerd's configuration has the format of version 1",
            hint="run: containerd config migrate",
        )
    plugin = "io.containerd.grpc.v1.cri" if version < 3 else "io.containerd.cri.v1.runtime"
    for quote in "\"'":
        if f"{quote}{plugin}{quote}.containerd.runtimes.{NAME}]" in text:
            raise SpecError(f"containerd's configuration has a runtime {NAME!r} that is not ours")
    table = f'plugins."{plugin}".containerd.runtimes.{NAME}'
    lines = [
        BEGIN,
        f"[{table}]",
        '  runtime_type = "io.containerd.runc.v2"',
        f"  [{table}.options]",
        f"    BinaryName = {json.dumps(runtime)}",
        END,
    ]
    return text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"


def _without_block(text: str | None) -> str | None:
    """Return containerd's configuration without our tables; None where nothing else is left."""
    if text is None or BEGIN not in text or END not in text:
        return text
    head, _, rest = text.partition(BEGIN)
    left = head.rstrip("\n") + "\n" + rest.partition(END)[2].lstrip("\n")
    return None if left.split() == f"{MADE}\nversion = 2".split() else left


def _crio(runtime: str) -> str:
    return (
        f"{MADE}\n[crio.runtime.runtimes.{NAME}]\nruntime_path = {json.dumps(runtime)}\n"
        'runtime_type = "oci"\nruntime_root = "/run/viscum/oci"\n'
    )


def _podman(runtime: str) -> str:
    return f"{MADE}\n[engine.runtimes]\n{NAME} = [{json.dumps(runtime)}]\n"


def _docker(before: str | None, runtime: str | None) -> str | None:
    try:
        document = json.loads(before or "{}")
    except ValueError as error:
        raise SpecError(f"{ENGINES['docker']} is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("runtimes", {}), dict):
        raise SpecError(f"{ENGINES['docker']} is no object with runtimes in it")
    runtimes = {key: each for key, each in document.pop("runtimes", {}).items() if key != NAME}
    if runtime is not None:
        runtimes[NAME] = {"path": runtime}
    if runtimes:
        document["runtimes"] = runtimes
    return json.dumps(document, indent=4) + "\n" if document else None


def plan_install(engine: str, runtime: str, root: str = "") -> Change:
    """Return what has to change so that `engine` knows the runtime."""
    path = root + ENGINES[engine]
    before = _read(path)
    if engine == "docker":
        after = _docker(before, runtime)
    elif engine == "containerd":
        after = _containerd(before, runtime)
    else:
        if before is not None and MADE not in before:
            raise SpecError(f"{path!r} is not ours", hint="move it away first")
        after = _crio(runtime) if engine == "crio" else _podman(runtime)
    return Change(path, before, after)


def plan_uninstall(engine: str, root: str = "") -> Change:
    """Return what has to change so that `engine` no longer knows the runtime."""
    path = root + ENGINES[engine]
    before = _read(path)
    after = before
    if before is None:
        return Change(path, None, None)
    if engine == "containerd":
        after = _without_block(before)
    elif engine == "docker":
        document = json.loads(before)
        runtimes = document.get("runtimes", {}) if isinstance(document, dict) else {}
        after = _docker(before, None) if NAME in runtimes else before
    elif MADE in before:
        after = None
    return Change(path, before, after)
