"""`viscum image verify` and `viscum trust test`: whether an image may be used, and why."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings

from ...errors import SpecError, TrustError, ViscumWarning
from ...trust import check, load_policy
from .sources import asked_image, open_sources, output_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...trust import Decision
    from ...trust.references import Image
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Run the command."""
    server = parsed.text("notary_server")
    if server is not None:
        return _ask_notary(server, parsed)
    text, image = asked_image(parsed)
    form = output_format(parsed)
    policy = load_policy(parsed.text("policy") or "")
    sources = open_sources(image, parsed)
    manifest = sources.top()
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ViscumWarning)
        decision = check(text, digest, manifest, sources, policy=policy)
    for warning in said:
        print(f"viscum: {warning.message}", file=sys.stderr)
    print(_as_json(decision) if form == "json" else _as_text(decision))
    return 0


def _as_json(decision: Decision) -> str:
    names = ("image", "digest", "policy", "transport", "scope", "why", "identity")
    shown: dict[str, object] = {name: getattr(decision, name) for name in names}
    parts = ("rule", "kind", "why", "identity")
    shown["rules"] = [
        {name: getattr(finding, name) for name in parts} for finding in decision.findings
    ]
    return json.dumps(shown, indent=2)


def _as_text(decision: Decision) -> str:
    scope = decision.scope or ("(default)" if decision.transport else "(default of all)")
    lines = [
        f"{decision.image} is allowed",
        f"  digest  {decision.digest}",
        f"  policy  {decision.policy}",
        f"  scope   {decision.transport or 'every transport'} {scope}",
    ]
    lines += [f"  rule    {each.rule} ({each.kind}): {each.why}" for each in decision.findings]
    return "\n".join(lines)


def _ask_notary(server: str, parsed: Parsed) -> int:
    from ...trust.material import read_file
    from ...trust.notary.client import Client

    _, image = asked_image(parsed)
    if not server.startswith(("https://", "http://")):
        raise SpecError(f"--notary-server {server!r} is no address", hint="https://HOST[:PORT]")
    pins = parsed.text("notary_root")
    given = (read_file(pins, "pinned root"),) if pins else ()
    name, tag = _repository(image)
    found = Client(server, name, _fetcher(server, name), pins=given).look_up(tag)
    if not found.pinned:
        print(
            f"viscum: the root of {name} was not known before; it is from now on", file=sys.stderr
        )
    if output_format(parsed) == "json":
        names = ("digest", "length", "role", "root_version", "pinned")
        shown = {key: getattr(found, key) for key in names}
        print(json.dumps({**shown, "keys": list(found.keys)}, indent=2))
    else:
        keys = ", ".join(found.keys)
        print(f"{name}:{tag} is {found.digest}\n  role    {found.role}\n  keys    {keys}")
    return 0


def _repository(image: Image) -> tuple[str, str]:
    if image.name is None or not image.name.tag:
        raise TrustError(f"{image} has no tag to ask a Notary server for", hint="NAME:TAG")
    return image.name.repository, image.name.tag


def _fetcher(server: str, name: str) -> Callable[[str], bytes | None]:
    from .remote import ask

    def fetch(path: str) -> bytes | None:
        url = f"{server.rstrip('/')}/v2/{name}/_trust/tuf/{path}"
        answer = ask("GET", url)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise TrustError(f"{url}: status {answer.status}")
        return answer.body

    return fetch
