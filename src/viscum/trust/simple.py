"""The payload of simple signing, of both kinds: container-signature(5), and cosign's use of it."""

from __future__ import annotations

import json
import time

from ..errors import TrustError
from ..frozen import Frozen
from .references import DIGEST
from .strict import read_json

__all__ = ["ATOMIC", "COSIGN", "Claim", "make_claim", "read_claim"]

ATOMIC = "atomic container signature"
COSIGN = "cosign container image signature"
CREATOR = "viscum"
MAX_PAYLOAD = 1024 * 1024


class Claim(Frozen):
    """What a payload claims: the digest of a manifest, and the name that it is signed for."""

    digest: str
    reference: str

    def check_digest(self, digest: str) -> None:
        """Raise TrustError unless this is about the manifest `digest`."""
        if self.digest != digest:
            raise TrustError(f"it is for another manifest, {self.digest}")


def read_claim(payload: bytes, kind: str) -> Claim:
    """Return what an authenticated payload claims; raises TrustError for what is malformed."""
    top = read_json(payload, "signed payload", limit=MAX_PAYLOAD).fields("critical optional")
    if not (kind == COSIGN and top["optional"].absent):
        optional = top["optional"].members()
        if "creator" in optional:
            optional["creator"].text()
        if "timestamp" in optional:
            optional["timestamp"].integer()
    critical = top["critical"].fields("type image identity")
    if critical["type"].text() != kind:
        raise critical["type"].wrong(f"must be {kind!r}")
    digest = critical["image"].fields("docker-manifest-digest")["docker-manifest-digest"]
    reference = critical["identity"].fields("docker-reference")["docker-reference"].text()
    if not DIGEST.fullmatch(digest.text()):
        raise digest.wrong(f"{digest.text()!r} is no digest")
    return Claim(digest.text(), reference)


def make_claim(digest: str, reference: str, kind: str) -> bytes:
    """Return the payload that says that the manifest `digest` is `reference`."""
    optional: dict[str, object] = {"creator": CREATOR, "timestamp": int(time.time())}
    claim = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": kind,
        },
        "optional": optional,
    }
    return json.dumps(claim, separators=(",", ":")).encode()
