"""`viscum trust show`: the policy, as a table or for one image."""

from __future__ import annotations

import json

from ...errors import SpecError
from ...trust import load_policy
from ...trust.references import parse_image
from .sources import output_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...trust import Policy
    from ...trust.rules import Rule
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Run the command."""
    if len(parsed.words) > 1:
        raise SpecError(f"one image at most, not {len(parsed.words)}")
    form, policy = output_format(parsed), load_policy(parsed.text("policy") or "")
    if parsed.words:
        choice = policy.choose(parse_image(parsed.words[0]))
        rows = [(choice.transport, choice.scope, choice.rules)]
    else:
        rows = list(_rows(policy))
    if form == "json":
        shown = [
            {"transport": transport, "scope": scope, "rules": [_facts(rule) for rule in rules]}
            for transport, scope, rules in rows
        ]
        print(json.dumps({"policy": policy.source, "scopes": shown}, indent=2))
        return 0
    print(f"policy: {policy.source}")
    for transport, scope, rules in rows:
        where = f"{transport}:{scope}" if transport else "default"
        print("\n".join(f"{where:<40} {_text(rule)}" for rule in rules))
    return 0


def _rows(policy: Policy) -> Iterator[tuple[str, str, tuple[Rule, ...]]]:
    yield "", "", policy.default
    for transport, scopes in sorted(policy.transports.items()):
        for scope, rules in sorted(scopes.items()):
            yield transport, scope, rules


def _facts(rule: Rule) -> dict[str, object]:
    facts: dict[str, object] = {"type": rule.kind, "path": rule.path}
    keys = getattr(rule, "keys", ())
    if keys:
        facts["keys"] = [str(key) for key in keys]
    identity = getattr(rule, "identity", None)
    if identity is not None:
        parts = (identity.kind, identity.first, identity.second)
        facts["signedIdentity"] = " ".join(part for part in parts if part)
    for name in ("fulcio", "pki", "root"):
        if getattr(rule, name, None) is not None:
            facts[name] = True
    return facts


def _text(rule: Rule) -> str:
    facts = _facts(rule)
    keys = facts.get("keys")
    by = f" by {', '.join(keys)}" if isinstance(keys, list) else ""
    named = f", {facts['signedIdentity']}" if "signedIdentity" in facts else ""
    return f"{rule.kind}{by}{named}"
