"""From the options of `run` and `plan` to the options of the Python API."""

from __future__ import annotations

import os

from ..errors import SpecError
from ..limits import parse_size
from ..spec import Mount, Rlimit
from .limit_options import limit_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Parsed

__all__ = ["environment", "machine_options", "seconds", "signal_number"]

MAX_ENV_FILE = 1 << 20
UNLIMITED = (1 << 64) - 1


def _pair(text: str, flag: str, separator: str = "=") -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name:
        raise SpecError(f"{flag} {text!r} is not NAME{separator}VALUE")
    return name, value


def environment(parsed: Parsed) -> dict[str, str]:
    """Return the variables of --env-file and --env."""
    variables: dict[str, str] = {}
    for path in parsed.texts("env_file"):
        variables.update(_env_file(path))
    for word in parsed.texts("env"):
        name, equals, value = word.partition("=")
        if not name:
            raise SpecError(f"--env {word!r} has no name")
        if equals:
            variables[name] = value
        elif name in os.environ:
            variables[name] = os.environ[name]
    return variables


def _env_file(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(MAX_ENV_FILE).splitlines()
    except OSError as error:
        raise SpecError(f"--env-file {path!r}: {(error.strerror or '').lower()}") from None
    environment = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = line.partition("=")
            if not name.strip() or "\0" in line:
                raise SpecError(f"--env-file {path!r}, line {number}: no NAME=VALUE")
            environment[name.strip()] = value if equals else os.environ.get(name.strip(), "")
    return environment


def _volume(text: str) -> Mount:
    parts = text.split(":")
    if parts[0][:1] == "/" and len(parts) == 1:
        parts.insert(0, os.urandom(32).hex())  # a volume without a name of its own
    if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
        raise SpecError(f"--volume {text!r} is not SOURCE:TARGET[:ro]")
    flags = set(parts[2].split(",")) if len(parts) == 3 else set()
    unknown = flags - {"ro", "rw", "noexec", "exec"}
    if unknown:
        raise SpecError(f"--volume {text!r}: option {min(unknown)!r} is unknown")
    source, name = parts[0], ""
    if source[0] in "./~":
        source = os.path.abspath(os.path.expanduser(source))
    else:
        from .. import volumes

        source, name = volumes.path_of(source), source
    read_only, may_run = "ro" in flags, "noexec" not in flags
    return Mount(source, parts[1], read_only, exec=may_run, volume=name)


def _volumes_from(text: str) -> list[Mount]:
    """Return what another machine has mounted: `NAME`, or `NAME:ro` to only read it."""
    from ..registry import find

    name, colon, flag = text.partition(":")
    if flag not in ("ro", "rw") and colon:
        raise SpecError(f"--volumes-from {text!r} is not MACHINE[:ro]")
    mounts = find(name).config.spec.mounts
    return [mount.replace(read_only=True) if flag == "ro" else mount for mount in mounts]


_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


def _mount(text: str) -> Mount:
    fields = {}
    for word in text.split(","):
        key, _, value = word.partition("=")
        fields[_MOUNT_KEYS.get(key, key)] = value
    known = {"type", "source", "target", "readonly", "tmpfs-size", "tmpfs-mode"}
    unknown = set(fields) - known
    if unknown:
        raise SpecError(f"--mount {text!r}: {min(unknown)!r} is unknown")
    kind = fields.get("type", "bind")
    if kind == "volume":
        flag = "ro" if fields.get("readonly", "false") in ("", "true", "1") else "rw"
        return _volume(f"{fields.get('source', '')}:{fields.get('target', '')}:{flag}")
    read_only = fields.get("readonly", "false") in ("", "true", "1")
    if not fields.get("target"):
        raise SpecError(f"--mount {text!r} has no target")
    size = parse_size(fields["tmpfs-size"], "tmpfs-size") if "tmpfs-size" in fields else None
    source = fields.get("source", "")
    mode = _mode(fields.get("tmpfs-mode", "1777"))
    return Mount(source, fields["target"], read_only, kind, size=size, mode=mode)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise SpecError(f"mode {text!r} is no octal file mode")
    return mode


def _tmpfs(text: str) -> Mount:
    target, _, rest = text.partition(":")
    size, mode, read_only, may_run = None, 0o1777, False, False
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        if key == "size":
            size = parse_size(value, "tmpfs size")
        elif key == "mode":
            mode = _mode(value)
        elif key in ("ro", "rw"):
            read_only = key == "ro"
        elif key in ("exec", "noexec"):
            may_run = key == "exec"
        elif key not in ("nosuid", "nodev"):
            raise SpecError(f"--tmpfs {text!r}: option {key!r} is unknown")
    return Mount("", target, read_only, "tmpfs", size=size, mode=mode, exec=may_run)


def _ulimit(text: str) -> Rlimit:
    name, value = _pair(text, "--ulimit")
    soft, _, hard = value.partition(":")
    numbers = []
    for word in (soft, hard or soft):
        if word in ("-1", "unlimited"):
            numbers.append(UNLIMITED)
        elif word.isascii() and word.isdigit() and int(word) < UNLIMITED:
            numbers.append(int(word))
        else:
            raise SpecError(f"--ulimit {text!r}: {word!r} is no number")
    if numbers[0] > numbers[1]:
        raise SpecError(f"--ulimit {text!r}: the soft limit is above the hard one")
    return Rlimit(name, numbers[0], numbers[1])


def _security(words: list[str], options: dict[str, object]) -> None:
    for word in words:
        name, equals, value = word.replace(":", "=", 1).partition("=")
        if name == "seccomp" and value:
            options["seccomp"] = value
        elif name == "no-new-privileges" and value in ("", "true", "false"):
            options["no_new_privileges"] = value != "false"
        elif (name, value) in (("unmask", "ALL"), ("systempaths", "unconfined")):
            options["unmask"] = True
        elif name in ("label", "apparmor"):
            raise SpecError(
                f"--security-opt {word!r}: this host has no {_module(name)}",
                hint="Viscum confines with namespaces, seccomp and Landlock; leave it out",
            )
        else:
            raise SpecError(
                f"--security-opt {word!r} is unknown",
                hint="seccomp=FILE|unconfined, no-new-privileges[=false], unmask=ALL",
            )
        del equals


def _module(name: str) -> str:
    return "SELinux" if name == "label" else "AppArmor"


def signal_number(text: str) -> int:
    """Return the number of a signal given as 15, TERM or SIGTERM; raises SpecError."""
    import signal

    if text.isdigit() and 0 < int(text) <= 64:
        return int(text)
    name = "SIG" + text.upper().removeprefix("SIG")
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise SpecError(f"signal {text!r} is unknown") from None


def seconds(text: str, flag: str) -> float:
    """Return a number of seconds, 0 to 1e9; raises SpecError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise SpecError(f"{flag} {text!r} is no number of seconds")
    return value


_PLAIN = "oom_policy hostname network userns pid ipc uts user workdir".split()


def _command(parsed: Parsed, options: dict[str, object]) -> list[str]:
    """Return the words of the command, and have the image in `options` where there is one."""
    from .images.choosing import choose_image, obtain

    name, entrypoint = choose_image(parsed), parsed.text("entrypoint")
    if name is not None:
        options["image"] = obtain(parsed, name)
        if parsed.text("storage") is not None:
            options["storage"] = parsed.text("storage")
        if entrypoint is not None:
            options["entrypoint"] = entrypoint
        return list(parsed.words)
    return [entrypoint, *parsed.words] if entrypoint else list(parsed.words)


def machine_options(parsed: Parsed) -> tuple[list[str], dict[str, object], dict[str, object]]:
    """Return the command, the options of the Python API, and fields of the spec beside them."""
    options = limit_options(parsed)
    for key in _PLAIN:
        value = parsed.text(key)
        if value is not None:
            options[key] = value
    if parsed.text("class") is not None:
        options["machine_class"] = parsed.text("class")
    if parsed.text("rootfs") is not None:
        options["rootfs"] = parsed.text("rootfs")
    for key in ("read_only", "init", "strict"):
        options[key] = parsed.on(key)
    mounts = [_volume(text) for text in parsed.texts("volume")]
    mounts += [_mount(text) for text in parsed.texts("mount")]
    mounts += [_tmpfs(text) for text in parsed.texts("tmpfs")]
    for text in parsed.texts("volumes_from"):
        taken = {mount.where for mount in mounts}
        mounts += [mount for mount in _volumes_from(text) if mount.where not in taken]
    options["mounts"] = mounts
    options["env"] = environment(parsed)
    options["groups"] = parsed.texts("group_add")
    options["rlimits"] = [_ulimit(text) for text in parsed.texts("ulimit")]
    options["sysctls"] = dict(_pair(text, "--sysctl") for text in parsed.texts("sysctl"))
    options["hosts"] = dict(_pair(text, "--add-host", ":") for text in parsed.texts("add_host"))
    for key, name in (("cap_add", "cap_add"), ("cap_drop", "cap_drop"), ("dns", "dns")):
        options[name] = parsed.texts(key)
    options["devices"] = parsed.texts("device")
    _security(parsed.texts("security_opt"), options)
    command = _command(parsed, options)
    fixed: dict[str, object] = {"tty": parsed.on("tty")}
    if parsed.text("stop_signal"):
        fixed["stop_signal"] = signal_number(parsed.text("stop_signal") or "")
    if parsed.text("stop_timeout"):
        fixed["stop_timeout"] = seconds(parsed.text("stop_timeout") or "", "--stop-timeout")
    return command, options, fixed
