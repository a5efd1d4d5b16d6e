"""Whether an image of the store may run, now: the policy is asked at each start, not only at pulls.

An image knows what it was asked for as (`ORIGIN`), and the signatures that were looked at then lie
beside it in the store (`EVIDENCE`). A verdict is remembered with all that it rests on, the policy,
keys, and moments at which something expires, and holds while none of that changed. So a start
costs a few stat(2), and a changed policy is a new question, answered without a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time

from .compact_json import dumps, loads
from .errors import ImageError, TrustError, ViscumError
from .frozen import Frozen
from .image.store import EVIDENCE, FROM_INDEX, Store, open_store
from .keeping import keep_file
from .places import data_folder, make_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .image.manifest import Descriptor
    from .image.pulling import Source
    from .spec import Spec
    from .trust.watching import Basis

__all__ = ["EVIDENCE", "ORIGIN", "Gate", "Verdict", "admit", "admit_spec", "ask", "verdict_of"]

ORIGIN = "org.viscum.image.origin"
"""Annotation of an image: the reference that the policy was asked about."""
MADE_HERE = "containers-storage:"
"""Transport of images that were made here, by commit or from an archive of a root."""
MAX_SECONDS = 86_400
MAX_KEPT = 256
SETTLED_SECONDS = 0.05
"""A file that changed just now could change again without its time being another."""
VARIABLES = ("HOME", "XDG_CONFIG_HOME", "VISCUM_POLICY", "VISCUM_REGISTRIES_D")


class Verdict(Frozen):
    """An image was allowed at a moment, in seconds since 1970, on the ground of some files."""

    made: int
    until: int
    files: tuple[tuple[str, tuple[int, ...]], ...]

    def holds(self) -> bool:
        """Return whether nothing changed since."""
        from .trust.watching import identify

        if not self.made <= time.time() < self.until:
            return False
        return all(identify(path) == known for path, known in self.files)


_verdicts: dict[str, Verdict] = {}


class Gate:
    """The policy's check of an image that is being pulled as `reference`."""

    def __init__(self, reference: str) -> None:
        from .trust.evidence import Recorder

        self.reference = reference
        self.recorder = Recorder()

    def __call__(self, source: Source, descriptor: Descriptor, data: bytes) -> None:
        """Raise TrustError where the policy does not allow a manifest."""
        from . import trust
        from .image.signatures import Signatures

        sources = self.recorder.over(Signatures(source))
        trust.check(self.reference, descriptor.digest, data, sources)

    def notes(self, store: Store) -> tuple[tuple[str, str], ...]:
        """Keep the signatures that were looked at; return the annotations of the image."""
        data = self.recorder.encode()
        kept = ((EVIDENCE, store.add(data)),) if data else ()
        return ((ORIGIN, self.reference), *kept)


def ask(reference: str) -> None:
    """Raise TrustError where the policy does not allow an image that is going to be made, and so
    has no signatures.
    """
    from . import trust
    from .trust.evidence import Replay

    empty = b"{}"
    trust.check(reference, f"sha256:{hashlib.sha256(empty).hexdigest()}", empty, Replay())


def admit(store: Store, name: str, descriptor: Descriptor) -> None:
    """Raise TrustError unless the policy, as it is now, allows an image of the store to run."""
    key = _key(name, descriptor)
    known = _verdicts.get(key) or _recall(key)
    if known is None or not known.holds():
        known = _judge(store, name, descriptor)
        _keep(key, known)
    if len(_verdicts) >= MAX_KEPT:
        _verdicts.clear()
    _verdicts[key] = known
    _verdicts[descriptor.digest] = known


def admit_spec(spec: Spec) -> None:
    """Raise TrustError unless the policy, as it is now, allows the image of a machine to run."""
    from .image.manifest import OCI_MANIFEST, Descriptor

    descriptor = Descriptor(OCI_MANIFEST, spec.image_digest, 0, spec.image_notes)
    admit(open_store(), spec.image, descriptor)


def verdict_of(digest: str) -> Verdict | None:
    """Return the verdict by which this process admitted the image of a digest last."""
    return _verdicts.get(digest)


def _origin(name: str, descriptor: Descriptor) -> str:
    """Return what the policy is asked about. What others put into the store goes by its name."""
    known = descriptor.note(ORIGIN)
    if known:
        return known
    from .trust.references import parse_image

    try:
        return str(parse_image(f"docker://{name}"))
    except TrustError:
        return f"{MADE_HERE}{name}"


def _key(name: str, descriptor: Descriptor) -> str:
    """Return the name of a verdict: by the image, and what says where the policy is."""
    notes = (descriptor.note(EVIDENCE), descriptor.note(FROM_INDEX))
    place = [os.environ.get(each, "\0") for each in VARIABLES]
    words = (_origin(name, descriptor), descriptor.digest, *notes, str(os.geteuid()), *place)
    return hashlib.sha256(repr(words).encode("utf-8", "surrogateescape")).hexdigest()


def _judge(store: Store, name: str, descriptor: Descriptor) -> Verdict:
    from . import trust
    from .trust.evidence import MAX_EVIDENCE, Replay
    from .trust.watching import watch

    origin, made = _origin(name, descriptor), int(time.time())
    evidence = descriptor.note(EVIDENCE)
    replay = Replay(store.read(evidence, "signatures", MAX_EVIDENCE) if evidence else b"")
    first: TrustError | None = None
    for digest, data in _documents(store, descriptor):
        with watch() as basis:
            try:
                trust.check(origin, digest, data, replay)
                return _verdict(made, basis)
            except TrustError as error:
                first = first or error
    assert first is not None  # noqa: S101 - an image has a manifest
    raise TrustError(
        f"image {name} may not run: {first.message}",
        hint=f"viscum trust show {origin}; viscum pull {name} looks for signatures anew",
    ) from None


def _documents(store: Store, descriptor: Descriptor) -> list[tuple[str, bytes]]:
    """Return what may be signed: the manifest, and the index that it was chosen from."""
    from .image.manifest import Index, parse_manifest

    manifest = store.read(descriptor.digest, "manifest")
    found, top = [(descriptor.digest, manifest)], descriptor.note(FROM_INDEX)
    if top:
        with contextlib.suppress(ImageError):
            data = store.read(top, "index")
            made = parse_manifest(data, "", f"index {top}")
            listed = made.manifests if isinstance(made, Index) else ()
            if any(each.digest == descriptor.digest for each in listed):
                found.insert(0, (top, data))
    return found


def _verdict(made: int, basis: Basis) -> Verdict:
    until = int(min(made + MAX_SECONDS, basis.ends))
    newest = max((each[4] + each[5] / 1e9 for each in basis.files.values()), default=0.0)
    if newest > time.time() - SETTLED_SECONDS:
        until = made  # holds for this once
    return Verdict(made, until, tuple(sorted(basis.files.items())))


# Verdicts on disk, for the next process.


def _path(key: str) -> str:
    return os.path.join(data_folder(), "trust", "verdicts", key)


def _recall(key: str) -> Verdict | None:
    try:
        with open(_path(key), "rb") as file:
            made, until, files = loads(file.read())
        return Verdict(made, until, tuple((path, tuple(known)) for path, known in files))
    except (OSError, ValueError, TypeError):
        return None


def _keep(key: str, verdict: Verdict) -> None:
    if verdict.until <= verdict.made:
        return
    data = dumps([verdict.made, verdict.until, verdict.files]).encode()
    try:
        make_folder(data_folder(), "trust", "trust/verdicts")
        keep_file(_path(key), data, MAX_KEPT)
    except (OSError, ViscumError):
        return  # only the next start would have been faster
