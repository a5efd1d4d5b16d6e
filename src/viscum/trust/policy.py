"""The policy that decides which images may be used: containers-policy.json(5), parsed strictly.

Viscum's own file may hold two further kinds of rules, `sigstoreBundle` and `notationSigned`; in a
file that Podman reads too they are refused, because Podman would refuse that file.
"""

from __future__ import annotations

import os

from ..frozen import Frozen
from .references import ELSEWHERE, OTHERS, PATHS
from .rules import parse_rule
from .scopes import scopes
from .strict import member_path, read_json
from .watching import note_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .references import Image
    from .rules import Rule
    from .strict import Value

__all__ = ["Choice", "Policy", "find_policy", "load_policy", "parse_policy"]

PERMISSIVE = b'{"default": [{"type": "insecureAcceptAnything"}]}'
BUILT_IN = "built-in default"
_TRANSPORTS = frozenset(("docker", *PATHS, *OTHERS, *ELSEWHERE))
_UNSCOPED = ("docker-archive", "tarball")


class Choice(Frozen):
    """The rules that are in force for an image, and where they stand.

    `transport` and `scope` are empty for the default of all transports.
    """

    transport: str
    scope: str
    path: str
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        if not self.transport:
            return "the default"
        return f"scope {self.scope!r} of {self.transport}" if self.scope else self.transport


class Policy(Frozen):
    """A policy: default rules, and rules by transport and scope; `source` is its file."""

    source: str
    default: tuple[Rule, ...]
    transports: dict[str, dict[str, tuple[Rule, ...]]]

    @property
    def built_in(self) -> bool:
        """Whether there was no file."""
        return self.source == BUILT_IN

    def choose(self, image: Image) -> Choice:
        """Return the rules of the most specific scope that `image` falls under."""
        known = self.transports.get(image.transport, {})
        for scope in scopes(image):
            if scope in known:
                path = member_path(member_path("$.transports", image.transport), scope)
                return Choice(image.transport, scope, path, known[scope])
        return Choice("", "", "$.default", self.default)


def _rules(value: Value, *, own: bool) -> tuple[Rule, ...]:
    rules = tuple(parse_rule(item, own=own) for item in value.items())
    if not rules:
        raise value.wrong("must not be empty", '{"type": "reject"} or insecureAcceptAnything')
    return rules


def _check_scope(value: Value, transport: str, scope: str) -> None:
    if not scope:
        return
    if transport in _UNSCOPED:
        raise value.wrong(f"{transport} has no scopes but ''")
    if transport in ("dir", "oci", "oci-archive"):
        path = scope.partition(":")[0] if transport != "dir" else scope
        if path == "/" or not path.startswith("/"):
            raise value.wrong("must be an absolute path below '/'", "'' is the default")
        if os.path.normpath(path) != path:
            raise value.wrong("must not hold '.', '..' or doubled slashes", os.path.normpath(path))
    elif transport == "docker" and "*" in scope.removeprefix("*."):
        raise value.wrong("a wildcard stands for subdomains alone", "*.example.com")


def parse_policy(data: bytes, source: str, *, own: bool = True) -> Policy:
    """Return the policy that `data` states; raises TrustError with the path of what is wrong.

    With `own` false the kinds that only Viscum knows are refused.
    """
    top = read_json(data, source).fields("default", "transports")
    transports: dict[str, dict[str, tuple[Rule, ...]]] = {}
    if "transports" in top:
        for transport, section in top["transports"].members().items():
            if transport not in _TRANSPORTS:
                known = ", ".join(sorted(_TRANSPORTS))
                raise top["transports"].wrong(f"unknown transport {transport!r}", known)
            found = transports[transport] = {}
            for scope, value in section.members().items():
                _check_scope(value, transport, scope)
                found[scope] = _rules(value, own=own)
    return Policy(source, _rules(top["default"], own=own), transports)


def find_policy() -> tuple[str, bool]:
    """Return the path of the policy in force, or "", and whether it is Viscum's own."""
    given = os.environ.get("VISCUM_POLICY")
    if given:
        return given, True
    for top in (os.path.expanduser("~/.config"), "/etc"):
        for name in ("viscum", "containers"):
            path = os.path.join(top, name, "policy.json")
            note_file(path)
            if os.path.lexists(path):
                return path, name == "viscum"
    return "", True


def load_policy(path: str = "") -> Policy:
    """Return the policy of the file `path`, or the one in force; without any, Podman's default.

    The default accepts everything. Raises TrustError for a file that cannot be read or parsed.
    """
    from .material import read_file

    own = True
    if not path:
        path, own = find_policy()
    if not path:
        return parse_policy(PERMISSIVE, BUILT_IN)
    return parse_policy(read_file(path, "policy"), path, own=own)
