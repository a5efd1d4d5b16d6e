"""Whether the name that a signature claims is the one that a rule asks for.

The rules and their names are those of containers-policy.json(5), `signedIdentity`.
"""

from __future__ import annotations

from ..errors import TrustError
from ..frozen import Frozen
from .references import Name, parse_name, valid_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .references import Image
    from .strict import Value

__all__ = ["DEFAULT_IDENTITY", "Identity", "parse_identity"]

_KINDS = {
    "matchExact": "",
    "matchRepoDigestOrExact": "",
    "matchRepository": "",
    "exactReference": "dockerReference",
    "exactRepository": "dockerRepository",
    "remapIdentity": "prefix signedPrefix",
}


class Identity(Frozen):
    """A rule about the name that a signature claims; `first` and `second` are its arguments."""

    kind: str
    first: str = ""
    second: str = ""

    def check(self, image: Image, claimed: str) -> None:
        """Raise TrustError unless `claimed` is what this rule asks for of `image`."""
        signed = parse_name(claimed)
        if not self._accepts(image, signed):
            raise TrustError(
                f"it is for {claimed}, which {self.kind} does not accept for {image}",
                hint=self._hint(signed),
            )

    def _hint(self, signed: Name) -> str:
        if signed.bare and self.kind not in ("matchRepository", "exactRepository"):
            return "it claims no tag: signedIdentity must be matchRepository or exactRepository"
        return "see signedIdentity in containers-policy.json(5)"

    def _accepts(self, image: Image, signed: Name) -> bool:
        if self.kind == "exactReference":
            wanted = parse_name(self.first)
            return not wanted.bare and not signed.bare and wanted == signed
        if self.kind == "exactRepository":
            return parse_name(self.first).repository == signed.repository
        if image.name is None:
            raise TrustError(
                f"{image} has no name that {self.kind} could compare",
                hint="use exactReference or exactRepository",
            )
        if self.kind == "matchRepository":
            return image.name.repository == signed.repository
        if self.kind == "matchExact":
            return not image.name.bare and not signed.bare and image.name == signed
        return _digest_or_exact(self._remapped(image.name), signed)

    def _remapped(self, name: Name) -> Name:
        if self.kind != "remapIdentity":
            return name
        rest = name.repository.removeprefix(self.first)
        if not name.repository.startswith(self.first) or rest[:1] not in ("", "/"):
            return name
        return parse_name(str(name.replace(repository=self.second + rest)))


def _digest_or_exact(name: Name, signed: Name) -> bool:
    if name.digest:
        return not signed.bare and name.repository == signed.repository
    return bool(name.tag) and name == signed


DEFAULT_IDENTITY = Identity("matchRepoDigestOrExact")


def parse_identity(value: Value) -> Identity:
    """Return the rule that a `signedIdentity` states; raises TrustError with its path."""
    members = value.members()
    if "type" not in members:
        raise value.wrong("lacks the key 'type'")
    kind = members["type"].word(*_KINDS)
    wanted = _KINDS[kind]
    fields = value.fields(f"type {wanted}")
    texts = [fields[name].text() for name in wanted.split()]
    for name, text in zip(wanted.split(), texts, strict=True):
        _check_argument(fields[name], name, text)
    return Identity(kind, *texts)


def _check_argument(value: Value, name: str, text: str) -> None:
    if name in ("prefix", "signedPrefix"):
        if not valid_prefix(text):
            raise value.wrong(f"{text!r} is no registry, namespace or repository")
        return
    try:
        parsed = parse_name(text)
    except TrustError as error:
        raise value.wrong(error.message) from None
    if name == "dockerReference" and parsed.bare:
        raise value.wrong(f"{text!r} has neither tag nor digest")
