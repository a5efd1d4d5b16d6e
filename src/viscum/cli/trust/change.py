"""`viscum trust set`: the rules of one scope of the policy, changed with care."""

from __future__ import annotations

import contextlib
import json
import os

from ...errors import SpecError, TrustError
from ...trust.material import read_file
from ...trust.policy import PERMISSIVE, find_policy, parse_policy
from ...trust.references import OTHERS, PATHS
from ...trust.strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    path, own = _place(parsed.text("policy"))
    before = read_file(path, "policy") if os.path.lexists(path) else PERMISSIVE
    parse_policy(before, path, own=own)  # what is wrong already is not made worse
    policy = read_json(before, path).plain()
    if not isinstance(policy, dict):
        raise TrustError(f"{path}: is no policy")
    if parsed.on("remove"):
        _remove(policy, transport, scope)
    else:
        _put(policy, transport, scope, _rule(parsed))
    after = json.dumps(policy, indent=4).encode() + b"\n"
    parse_policy(after, path, own=own)
    _replace(path, after)
    print(path)
    return 0


def _place(given: str | None) -> tuple[str, bool]:
    if given:
        return os.path.abspath(given), True
    path, own = find_policy()
    if path:
        return path, own
    top = "/etc" if os.geteuid() == 0 else os.path.expanduser("~/.config")
    return os.path.join(top, "containers", "policy.json"), False


def _split(text: str) -> tuple[str, str]:
    """Return the transport and the scope that a word names; both empty for the default."""
    if text == "default":
        return "", ""
    transport, colon, scope = text.partition(":")
    known = (*PATHS, *OTHERS, "docker", "atomic")
    if colon and transport in known:
        return transport, scope.removeprefix("//") if transport == "docker" else scope
    return "docker", text


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


def _replace(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        reason = (error.strerror or "").lower()
        raise TrustError(f"policy {path!r}: {reason}", hint="--policy FILE") from None
