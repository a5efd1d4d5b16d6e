"""`viscum trust show`: the policy, as a table or for one image."""

from __future__ import annotations

import sys

from ...errors import SpecError
from ...trust import load_policy
from ...trust.references import parse_image
from ..format import check_form, print_rows
from ..listing import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...trust import Policy
    from ...trust.rules import Rule
    from ..parser import Parsed

__all__ = ["main"]


COLUMNS = (
    Column("Transport", "TRANSPORT"),
    Column("Scope", "SCOPE", yields=1, least=16),
    Column("Type", "TYPE"),
    Column("SignedIdentity", "SIGNED IDENTITY", yields=2),
    Column("Keys", "KEYS", yields=3, front=True),
)


def main(parsed: Parsed) -> int:
    """Run the command."""
    if len(parsed.words) > 1:
        raise SpecError(f"one image at most, not {len(parsed.words)}")
    form = parsed.text("format")
    check_form(form)
    policy = load_policy(parsed.text("policy") or "")
    if parsed.words:
        choice = policy.choose(parse_image(parsed.words[0]))
        scopes = [(choice.transport, choice.scope, choice.rules)]
    else:
        scopes = list(_scopes(policy))
    if form is None:
        print(f"viscum: the policy is {policy.source}", file=sys.stderr)
    rows = [_row(policy, where, rule) for *where, rules in scopes for rule in rules]
    print_rows(rows, COLUMNS, form)
    return 0


def _scopes(policy: Policy) -> Iterator[tuple[str, str, tuple[Rule, ...]]]:
    yield "", "", policy.default
    for transport, scopes in sorted(policy.transports.items()):
        for scope, rules in sorted(scopes.items()):
            yield transport, scope, rules


def _row(policy: Policy, where: Sequence[str], rule: Rule) -> dict[str, object]:
    identity = getattr(rule, "identity", None)
    parts = (identity.kind, identity.first, identity.second) if identity is not None else ()
    named = [name for name in ("fulcio", "pki", "root") if getattr(rule, name, None) is not None]
    keys = [str(key) for key in getattr(rule, "keys", ())]
    return {
        "Policy": policy.source,
        "Transport": where[0] or "every",
        "Scope": where[1] or "(default)",
        "Rule": rule.path,
        "Type": rule.kind,
        "SignedIdentity": " ".join(part for part in parts if part),
        "Keys": ", ".join(keys + named),
    }
