"""Credentials for registries: auth.json and config.json (containers-auth.json(5)), and helpers."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os

from ..errors import ImageError
from ..frozen import Frozen
from . import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Credentials", "auth_file", "find_credentials", "forget", "remember"]

MAX_FILE = 4 << 20
HELPER_SECONDS = 30
DOCKER_HUB = "https://index.docker.io/v1/"
IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - what helpers say instead of a name


class Credentials(Frozen):
    """A user and a password, or a token to get other tokens with."""

    user: str = ""
    password: str = ""
    token: str = ""

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def parse_pair(text: str) -> Credentials:
    """Return `USER[:PASSWORD]` of `--creds`; raises ImageError."""
    user, _, password = text.partition(":")
    if not user:
        raise ImageError("--creds names no user", hint="USER:PASSWORD")
    return Credentials(user, password)


def auth_file(given: str | None = None) -> str:
    """Return the file that `login` writes: the one given, or the one of containers-auth.json(5)."""
    chosen = given or os.environ.get("REGISTRY_AUTH_FILE")
    if chosen:
        return os.path.abspath(chosen)
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    tail = "containers/auth.json" if os.environ.get("XDG_RUNTIME_DIR") else "auth.json"
    return f"{runtime}/{tail}"


def _files(given: str | None) -> list[str]:
    if given or os.environ.get("REGISTRY_AUTH_FILE"):
        return [auth_file(given)]
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    docker = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return [auth_file(), f"{config}/containers/auth.json", f"{docker}/config.json"]


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
    return document.parse(data, path, MAX_FILE) if data.strip() else {}


def _keys(registry: str, path: str) -> list[str]:
    """Return the names that credentials may stand under, the most specific first."""
    parts = f"{registry}/{path}".rstrip("/").split("/")
    keys = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    if registry == "docker.io":
        keys += [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"]
    return keys


def _plain(key: str) -> str:
    """Return a key of Docker's older files, which may be a URL, as a host."""
    for scheme in ("https://", "http://"):
        key = key.removeprefix(scheme)
    return key.partition("/")[0]


def _entry(value: object, path: str, key: str) -> Credentials | None:
    if not isinstance(value, dict):
        raise ImageError(f"{path}: credentials of {key!r} are no object")
    token = document.field(value, "identitytoken", str, "", path)
    user = document.field(value, "username", str, "", path)
    password = document.field(value, "password", str, "", path)
    coded = document.field(value, "auth", str, "", path)
    if coded:
        try:
            text = base64.b64decode(coded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ImageError(f"{path}: credentials of {key!r} are not base64") from None
        user, _, password = text.partition(":")
        password = password.rstrip("\0")
    if user == IDENTITY_TOKEN_USER:
        return Credentials(token=password)
    return Credentials(user, password, token) if user or token else None


def _from_file(path: str, registry: str, repository: str) -> Credentials | None:
    content = _read(path)
    auths = document.fields(content, "auths", path)
    helpers = document.text_map(content, "credHelpers", path)
    keys = _keys(registry, repository)
    for key in keys:
        helper = helpers.get(key)
        if helper:
            return ask_helper(helper, registry)
        if key in auths and auths[key] != {}:
            return _entry(auths[key], path, key)
    for key, value in auths.items():
        if key not in keys and "://" in key and _plain(key) == registry:
            return _entry(value, path, key)
    store = document.field(content, "credsStore", str, "", path)
    return ask_helper(store, registry) if store else None


def find_credentials(
    registry: str, repository: str = "", *, file: str | None = None, helpers: tuple[str, ...] = ()
) -> Credentials | None:
    """Return the credentials for a repository, None where there are none.

    `helpers` are those of registries.conf; `containers-auth.json` among them stands for files.
    """
    for helper in helpers or ("containers-auth.json",):
        if helper != "containers-auth.json":
            found = ask_helper(helper, registry)
            if found:
                return found
            continue
        for path in _files(file):
            found = _from_file(path, registry, repository)
            if found:
                return found
    return None


def _run_helper(name: str, verb: str, data: bytes) -> tuple[int, bytes]:
    import subprocess

    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise ImageError(f"credential helper {name!r} is no name of a program")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, verb], input=data, capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise ImageError(
            f"credential helper {program} is not there", hint="install it, or change auth.json"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"credential helper {program}: {error}") from None
    return done.returncode, done.stdout[:MAX_FILE]


def ask_helper(name: str, registry: str) -> Credentials | None:
    """Return what the program docker-credential-NAME knows for a registry."""
    server = DOCKER_HUB if registry == "docker.io" else registry
    code, output = _run_helper(name, "get", server.encode())
    if code:
        if b"not found" in output.lower():
            return None
        reason = output.decode("utf-8", "replace").strip()[:200]
        raise ImageError(f"credential helper {name!r}: {reason or f'exit status {code}'}")
    value = document.parse(output, f"answer of credential helper {name!r}")
    user = document.field(value, "Username", str, "", name)
    secret = document.field(value, "Secret", str, "", name)
    if user == IDENTITY_TOKEN_USER:
        return Credentials(token=secret)
    return Credentials(user, secret) if user else None


def _change(path: str, change: Callable[[dict[str, object]], None]) -> None:
    """Rewrite a file of credentials: never half of it, never readable for others."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = _read(path)
            change(content)
            temporary = f"{path}.{os.getpid()}"
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
            os.rename(temporary, path)
        finally:
            os.close(lock)
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None


def _helper_for(content: dict[str, object], key: str, path: str) -> str:
    named = document.text_map(content, "credHelpers", path).get(key)
    return named or document.field(content, "credsStore", str, "", path)


def remember(path: str, key: str, credentials: Credentials) -> None:
    """Keep credentials for a registry or a repository, in the file or with its helper."""
    helper = _helper_for(_read(path), key, path)
    if helper:
        pair = {"ServerURL": key, "Username": credentials.user, "Secret": credentials.password}
        code, output = _run_helper(helper, "store", json.dumps(pair).encode())
        if code:
            reason = output.decode("utf-8", "replace").strip()[:200]
            raise ImageError(f"credential helper {helper!r}: {reason}")
        return

    def change(content: dict[str, object]) -> None:
        auths = content.setdefault("auths", {})
        if isinstance(auths, dict):
            auths[key] = {"auth": credentials.basic.removeprefix("Basic ")}

    _change(path, change)


def forget(path: str, key: str | None) -> list[str]:
    """Drop the credentials of a registry, or all; return whose were dropped."""
    gone: list[str] = []
    helper = _helper_for(_read(path), key, path) if key else ""
    if helper and key:
        code, _ = _run_helper(helper, "erase", key.encode())
        gone += [key] if code == 0 else []

    def change(content: dict[str, object]) -> None:
        auths = content.get("auths")
        if isinstance(auths, dict):
            for name in list(auths) if key is None else [key]:
                if auths.pop(name, None) is not None:
                    gone.append(name)

    with contextlib.suppress(FileNotFoundError):
        if os.path.exists(path):
            _change(path, change)
    return list(dict.fromkeys(gone))
