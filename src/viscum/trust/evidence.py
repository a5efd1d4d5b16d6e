"""Signatures kept with an image: what was asked for when it was judged, and the answers.

They are judged again, offline, when the policy changed. What nobody asked for when they were kept
is not there, so a policy that wants other signatures refuses the image until it is pulled again.
"""

from __future__ import annotations

import base64

from .strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .sources import SignatureSources
    from .strict import Value

__all__ = ["MAX_EVIDENCE", "Recorder", "Replay"]

MAX_EVIDENCE = 64 << 20


def _key(*words: str) -> str:
    return " ".join(words)


def _encoded(answer: object) -> object:
    if isinstance(answer, bytes):
        return base64.b64encode(answer).decode()
    if isinstance(answer, list):
        return [_encoded(each) for each in answer]
    return answer


class Recorder:
    """Passes questions on, and keeps the answers that are more than nothing."""

    def __init__(self) -> None:
        self.sources: SignatureSources | None = None
        self.answers: dict[str, object] = {}

    def over(self, sources: SignatureSources) -> Recorder:
        """Ask `sources` from now on."""
        self.sources = sources
        return self

    def _ask(self, key: str, question: Callable[[SignatureSources], object]) -> object:
        assert self.sources is not None  # noqa: S101 - for the types
        answer = question(self.sources)
        if answer is not None and answer != []:
            self.answers[key] = answer
        return answer

    def lookaside(self, url: str) -> bytes | None:
        """Return what is at an address."""
        return self._ask(_key("lookaside", url), lambda s: s.lookaside(url))  # type: ignore[return-value]

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest."""
        key = _key("manifest", tag_or_digest)
        return self._ask(key, lambda s: s.manifest(tag_or_digest))  # type: ignore[return-value]

    def blob(self, digest: str) -> bytes:
        """Return a blob."""
        return self._ask(_key("blob", digest), lambda s: s.blob(digest))  # type: ignore[return-value]

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return descriptors of referrers."""
        key = _key("referrers", digest, artifact_type)
        return self._ask(key, lambda s: s.referrers(digest, artifact_type))  # type: ignore[return-value]

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return what the registry's extension has."""
        key = _key("extension", digest)
        return self._ask(key, lambda s: s.signature_extension(digest))  # type: ignore[return-value]

    def encode(self) -> bytes:
        """Return all answers as bytes; none where there was none."""
        if not self.answers:
            return b""
        import json

        made = {key: _encoded(answer) for key, answer in self.answers.items()}
        return json.dumps(made, sort_keys=True).encode()


class Replay:
    """Answers as what was kept says."""

    def __init__(self, data: bytes = b"") -> None:
        source = "kept signatures"
        self.answers = read_json(data, source, limit=MAX_EVIDENCE).members() if data else {}

    def _bytes(self, key: str) -> bytes | None:
        return self.answers[key].base64() if key in self.answers else None

    def _items(self, key: str) -> list[Value]:
        return list(self.answers[key].items()) if key in self.answers else []

    def lookaside(self, url: str) -> bytes | None:
        """Return what was at an address."""
        return self._bytes(_key("lookaside", url))

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest."""
        return self._bytes(_key("manifest", tag_or_digest))

    def blob(self, digest: str) -> bytes:
        """Return a blob; one that was not kept is empty, and then has another digest."""
        return self._bytes(_key("blob", digest)) or b""

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return descriptors of referrers."""
        found = [each.plain() for each in self._items(_key("referrers", digest, artifact_type))]
        return [each for each in found if isinstance(each, dict)]

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return what the registry's extension had."""
        return [each.base64() for each in self._items(_key("extension", digest))]
