"""`viscum image verify` and `viscum trust test`: whether an image may be used, and why."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import warnings

from ...errors import SpecError, TrustError, ViscumWarning
from ...image.manifest import Index, parse_manifest
from ...image.platforms import choose, parse_platform
from ...image.signatures import fetch
from ...trust import check, load_policy
from ...trust.references import parse_image
from ..images.options import settings
from .sources import open_image, output_format, the_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...image.transport import Settings
    from ...trust import Decision, Policy
    from ...trust.references import Image
    from ..parser import Parsed
    from .sources import Sources

__all__ = ["main"]

MAX_METADATA = 16 << 20


def main(parsed: Parsed) -> int:
    """Run the command."""
    server = parsed.text("notary_server")
    if server is not None:
        return _ask_notary(server, parsed)
    form = output_format(parsed)
    policy = load_policy(parsed.text("policy") or "")
    with open_image(parsed) as (image, sources), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ViscumWarning)
        decision = _decide(image, sources, policy)
    for warning in said:
        print(f"viscum: {warning.message}", file=sys.stderr)
    print(_as_json(decision) if form == "json" else _as_text(decision))
    return 0


def _decide(image: Image, sources: Sources, policy: Policy) -> Decision:
    """Ask as a pull does: about what the name stands for and, where that is an index which nobody
    signed, about the manifest that it has for this host.
    """
    top = sources.top()
    digest = "sha256:" + hashlib.sha256(top).hexdigest()
    try:
        return check(str(image), digest, top, sources, policy=policy)
    except TrustError:
        made = parse_manifest(top, "", f"manifest {digest}")
        if not isinstance(made, Index):
            raise
        one = choose(parse_platform(None), made.manifests, f"index {digest}")
        data = sources.manifest(one.digest)
        if data is None:
            raise
        with contextlib.suppress(TrustError):
            return check(str(image), one.digest, data, sources, policy=policy)
        raise


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

    image = parse_image(the_image(parsed))
    if not server.startswith(("https://", "http://")):
        raise SpecError(f"--notary-server {server!r} is no address", hint="https://HOST[:PORT]")
    pins = parsed.text("notary_root")
    given = (read_file(pins, "pinned root"),) if pins else ()
    name, tag = _repository(image)
    found = Client(server, name, _fetcher(server, name, settings(parsed)), pins=given).look_up(tag)
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


def _fetcher(server: str, name: str, how: Settings) -> Callable[[str], bytes | None]:
    def get(path: str) -> bytes | None:
        return fetch(f"{server.rstrip('/')}/v2/{name}/_trust/tuf/{path}", how, MAX_METADATA)

    return get
