"""From an image, and the options beside it, to what a spec is made of."""

from __future__ import annotations

import os

from . import folders, images
from .admission import admit
from .errors import SpecError
from .images import Image, Root
from .showing import shown
from .spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["apply_image", "pin"]

_roots: dict[tuple[object, ...], Root] = {}
MAX_KEPT = 64


def _admitted(options: Mapping[str, object]) -> Root:
    """Return what a machine needs of the image in `options`, if the policy allows it now; looked up
    once while the names of the store stand for the same.
    """
    asked = options["image"]
    if isinstance(asked, Root):
        return _allowed(asked)
    storage = None if options.get("storage") is None else str(options["storage"])
    if isinstance(asked, Image):
        return _prepared(asked, storage)
    if not isinstance(asked, str) or not asked:
        raise SpecError(f"image {asked!r} is no name", hint="such as debian:12")
    policy = str(options.get("pull") or "missing")
    platform = options.get("platform")
    key = (asked, policy, platform, storage, images.identity())
    known = _roots.get(key)
    if known is not None and os.path.exists(known.layers[0]):
        return _allowed(known)
    from . import image_pulling

    given = None if platform is None else str(platform)
    found = image_pulling.obtain(asked, policy=policy, platform=given, storage=storage)
    root = _prepared(found, storage)
    if policy in ("missing", "never"):
        if len(_roots) >= MAX_KEPT:
            _roots.clear()
        _roots[(*key[:-1], images.identity())] = root
    return root


def _allowed(root: Root) -> Root:
    if root.descriptor is not None:
        admit(images.own_store(), root.name, root.descriptor)
    return root


def _prepared(image: Image, storage: str | None) -> Root:
    """Have what is missing of an image unpacked, once the policy allows it."""
    admit(images.own_store(), image.name, image.descriptor)
    return images.prepare(image, storage)


def pin(options: Mapping[str, object]) -> Root:
    """Return the image in `options` as it is now, whatever its name comes to stand for."""
    return _admitted(options)


def _command(root: Root, given: Sequence[str], options: Mapping[str, object]) -> tuple[str, ...]:
    """Return entrypoint and command: what is given takes the place of what the image says."""
    entrypoint, command = root.config.entrypoint, tuple(given)
    own = options.get("entrypoint")
    if own is not None:
        words = [own] if isinstance(own, str) else list(own)  # type: ignore[call-overload]
        entrypoint = tuple(str(word) for word in words if word != "")
    elif not command:
        command = root.config.command
    return (*entrypoint, *command)


def _environment(root: Root) -> dict[str, str]:
    pairs = (word.partition("=") for word in root.config.env)
    return {name: value for name, _, value in pairs if name}


def signal_of(text: str) -> int:
    """Return the number of a signal as images write it; raises SpecError."""
    import signal

    if text.isascii() and text.isdigit() and 0 < int(text) <= 64:
        return int(text)
    base, plus, offset = text.upper().removeprefix("SIG").partition("+")
    if base == "RTMIN" and plus and offset.isdigit():
        return int(signal.SIGRTMIN) + int(offset)
    try:
        return int(signal.Signals["SIG" + base])
    except KeyError:
        raise SpecError(f"the image's stop signal {text!r} is unknown") from None


def _missing_folder(root: Root, path: str) -> bool:
    """Return whether no layer has a folder, which is made then."""
    from . import native
    from .image import trees

    below = path.strip("/").encode("utf-8", "surrogateescape")
    with shown(root.layers) as layers:
        for layer in layers:
            with folders.opened(layer) as folder:
                try:
                    os.close(native.open_inside(folder, below, os.O_PATH | os.O_DIRECTORY))
                except OSError:
                    if trees.hides(folder, below, native.open_inside):
                        return True
                    continue
                return False
    return True


def apply_image(
    command: Sequence[str], options: Mapping[str, object], fixed: Mapping[str, object]
) -> tuple[tuple[str, ...], dict[str, object], dict[str, object]]:
    """Return command, options and fields of the spec, with those of the image in `options`.

    An idle machine in the foreground stays idle: commands are run in it. One that lives on runs
    the image's command.
    """
    if options.get("rootfs") is not None:
        raise SpecError("an image and a rootfs were given", hint="leave one of them out")
    root = _admitted(options)
    config, made, fields = root.config, dict(options), dict(fixed)
    idle = bool(fields.get("idle")) and not fields.get("detached")
    words = () if idle else _command(root, command, options)
    if words:
        fields["idle"] = False
    elif not idle and not fields.get("detached"):
        raise SpecError(f"image {root.name} has no command", hint="give one after its name")
    for name in ("image", "pull", "platform", "storage", "entrypoint"):
        made.pop(name, None)
    given = dict(made.get("env") or {})  # type: ignore[call-overload]
    made["env"] = {**_environment(root), **given}
    if made.get("user") is None and config.user:
        made["user"] = config.user
    if made.get("workdir") is None and config.workdir:
        made["workdir"] = os.path.join("/", config.workdir)
    if config.stop_signal and "stop_signal" not in fields:
        fields["stop_signal"] = signal_of(config.stop_signal)
    _volumes(root, made)
    fields.update(layers=root.layers, image=root.name, image_digest=root.digest)
    if root.descriptor is not None:
        fields["image_notes"] = root.descriptor.annotations
    workdir = made.get("workdir")
    if workdir and _missing_folder(root, str(workdir)):
        fields["folders"] = _with_parents(str(workdir))
    return words, made, fields


def _with_parents(path: str) -> tuple[str, ...]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return tuple("/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _volumes(root: Root, made: dict[str, object]) -> None:
    """What an image calls a volume is a folder of the writable layer; without that, a tmpfs."""
    mounts: list[Mount] = list(made.get("mounts") or ())  # type: ignore[call-overload]
    if made.get("read_only"):
        taken = {mount.where.rstrip("/") for mount in mounts}
        paths = [os.path.join("/", path) for path in root.config.volumes]
        mounts += [Mount("", path, kind="tmpfs", mode=0o755) for path in paths if path not in taken]
    made["mounts"] = mounts
