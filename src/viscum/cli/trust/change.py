"""`viscum trust set`: the rules of one scope of the policy, changed with care."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os

from ...errors import SpecError, TrustError
from ...trust.material import read_file
from ...trust.policy import PERMISSIVE, find_policy, parse_policy
from ...trust.references import ELSEWHERE, OTHERS, PATHS, valid_scope
from ...trust.strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..parser import Parsed

__all__ = ["main"]

_KINDS = {
    "accept": "insecureAcceptAnything",
    "insecureAcceptAnything": "insecureAcceptAnything",
    "reject": "reject",
    "signedBy": "signedBy",
    "sigstoreSigned": "sigstoreSigned",
    "notationSigned": "notationSigned",
}
_ARGUMENTS = {"exactReference": "dockerReference", "exactRepository": "dockerRepository"}


def main(parsed: Parsed) -> int:
    """Run the command."""
    if len(parsed.words) != 1:
        raise SpecError(f"one scope is needed, not {len(parsed.words)}", hint="default, or a scope")
    transport, scope = _split(parsed.words[0])
    rule = None if parsed.on("remove") else _rule(parsed)
    path, own = _place(parsed.text("policy"))
    with _locked(path):
        before = read_file(path, "policy") if os.path.lexists(path) else PERMISSIVE
        parse_policy(before, path, own=own)  # what is wrong already is not made worse
        policy = read_json(before, path).plain()
        if not isinstance(policy, dict):
            raise TrustError(f"{path}: is no policy")
        if rule is None:
            _remove(policy, transport, scope)
        else:
            _put(policy, transport, scope, rule)
        after = json.dumps(policy, indent=4).encode() + b"\n"
        parse_policy(after, path, own=own)
        _replace(path, after)
    print(path)
    return 0


def _place(given: str | None) -> tuple[str, bool]:
    if given:
        return os.path.realpath(given), True
    path, own = find_policy()
    if path:
        return os.path.realpath(path), own
    top = "/etc" if os.geteuid() == 0 else os.path.expanduser("~/.config")
    return os.path.join(top, "containers", "policy.json"), False


def _split(text: str) -> tuple[str, str]:
    """Return the transport and the scope that a word names; both empty for the default."""
    if text == "default":
        return "", ""
    transport, colon, scope = text.partition(":")
    if colon and transport in (*PATHS, *OTHERS, *ELSEWHERE):
        return transport, scope
    scope = text.removeprefix("docker:").removeprefix("//")
    if scope and not valid_scope(scope):
        raise SpecError(
            f"no image falls under the scope {scope!r}",
            hint="a registry, *.DOMAIN, or a name with its registry: docker.io/library/busybox",
        )
    return "docker", scope


def _rule(parsed: Parsed) -> dict[str, object]:
    kind = _KINDS.get(parsed.text("type") or "")
    if kind is None:
        raise SpecError(f"--type {parsed.text('type')!r} is unknown", hint=", ".join(_KINDS))
    rule: dict[str, object] = {"type": kind}
    keys = [os.path.abspath(key) for key in parsed.texts("key")]
    if kind not in ("signedBy", "sigstoreSigned"):
        if keys or parsed.text("signed_identity"):
            raise SpecError(f"--type {kind} takes no key and no identity")
        return rule
    if not keys:
        raise SpecError(f"--type {kind} needs a key", hint="--key FILE")
    for key in keys:
        read_file(key, "key file")
    if kind == "signedBy":
        rule["keyType"] = "GPGKeys"
    rule |= {"keyPath": keys[0]} if len(keys) == 1 else {"keyPaths": keys}
    identity = parsed.text("signed_identity")
    if identity:
        rule["signedIdentity"] = _identity(identity)
    return rule


def _identity(text: str) -> dict[str, str]:
    kind, equals, argument = text.partition("=")
    if kind == "remapIdentity":
        prefix, _, signed = argument.partition("=")
        return {"type": kind, "prefix": prefix, "signedPrefix": signed}
    if kind in _ARGUMENTS:
        return {"type": kind, _ARGUMENTS[kind]: argument}
    if equals:
        raise SpecError(f"--signed-identity {kind} takes no name")
    return {"type": kind}


def _put(policy: dict[str, object], transport: str, scope: str, rule: dict[str, object]) -> None:
    if not transport:
        policy["default"] = [rule]
        return
    transports = policy.setdefault("transports", {})
    if isinstance(transports, dict):
        transports.setdefault(transport, {})[scope] = [rule]


def _remove(policy: dict[str, object], transport: str, scope: str) -> None:
    transports = policy.get("transports", {})
    section = transports.get(transport, {}) if isinstance(transports, dict) else {}
    if not transport:
        raise SpecError("the default cannot be removed", hint="--type reject")
    if scope not in section:
        raise TrustError(f"the policy has no scope {scope!r} of {transport}")
    del section[scope]


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep others who change a policy of the same folder waiting."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _failed(path: str, error: OSError) -> TrustError:
    return TrustError(f"policy {path!r}: {(error.strerror or '').lower()}", hint="--policy FILE")


def _replace(path: str, data: bytes) -> None:
    """Put a file in the place of another, with its mode and owner; under the lock."""
    temporary = f"{path}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # of one who was killed
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            if os.path.exists(path):
                is_ = os.stat(path)
                os.fchown(descriptor, is_.st_uid, is_.st_gid)
                os.fchmod(descriptor, is_.st_mode & 0o777)
            else:
                os.fchmod(descriptor, 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise _failed(path, error) from None
