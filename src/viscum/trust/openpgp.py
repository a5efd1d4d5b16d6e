"""OpenPGP messages verified, and made, with Sequoia (the library `pysequoia`).

Measured with pysequoia 0.1.35 against GnuPG 2.2.40: Sequoia judges a key as it was when it signed,
GnuPG as it is now. Signatures by keys that have expired or were retired since are good to the
first and bad to the second, and to Podman. So what Sequoia accepts is looked at once more here.
"""

from __future__ import annotations

import datetime as dt

from ..errors import TrustError
from ..frozen import Frozen
from .material import need_library
from .watching import note_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pysequoia
    from pysequoia.packet import Packet

__all__ = ["Signed", "load_keys", "sign_message", "verify_message"]

MAX_MESSAGE = 4 * 1024 * 1024
EXTRA = "sign"


class Signed(Frozen):
    """What was signed, by which key, and its owner's name; fingerprints are lower case hex."""

    payload: bytes
    fingerprint: str
    signing_key: str
    owner: str

    def __str__(self) -> str:
        return f"{self.owner} ({self.fingerprint})" if self.owner else self.fingerprint


def _need() -> None:
    need_library("pysequoia", EXTRA)


def _let_through(error: BaseException) -> None:
    """Raise what ends this process; a panic of the library is no Exception, and ends nothing."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
        raise error


def _reason(error: BaseException) -> str:
    """Return the first line; what follows is a stack of the library."""
    text = str(error).partition("\n")[0].strip().rstrip(".")
    return text[:1].lower() + text[1:]


def load_keys(data: bytes, source: str) -> list[pysequoia.Cert]:
    """Return the certificates of a keyring, binary or in ASCII armour."""
    _need()
    import pysequoia

    try:
        found = list(pysequoia.Cert.split_bytes(data))
    except BaseException as error:
        _let_through(error)
        raise TrustError(f"{source}: is no OpenPGP keyring: {_reason(error)}") from None
    if not found:
        raise TrustError(f"{source}: holds no OpenPGP key")
    return found


def verify_message(message: bytes, keys: list[pysequoia.Cert]) -> Signed:
    """Return what a signed message says, if one of `keys` signed it and still may.

    Raises TrustError for everything else. Nothing of the payload is read before.
    """
    if len(message) > MAX_MESSAGE:
        raise TrustError(f"the signature has more than {MAX_MESSAGE} bytes")
    _need()
    import pysequoia

    try:
        done = pysequoia.verify(message, lambda _ids: keys)
    except BaseException as error:
        _let_through(error)
        raise TrustError(_complaint(message, keys, _reason(error))) from None
    count = len(_signatures(message))  # it was parsed before, so nothing is raised here
    if count != 1:
        raise TrustError(f"the message has {count} signatures, not one")
    known = {key.fingerprint: key for key in keys}
    reason = "no signature is valid"
    for signature in done.valid_sigs:
        key = known.get(signature.certificate)
        if key is None or done.bytes is None:
            continue
        reason = _fault(key, signature.signing_key)
        if not reason:
            _note_ends(key, signature.signing_key, message)
            owner = str(key.user_ids[0]) if key.user_ids else ""
            return Signed(bytes(done.bytes), key.fingerprint, signature.signing_key, owner)
    raise TrustError(reason)


def _complaint(message: bytes, keys: list[pysequoia.Cert], reason: str) -> str:
    """Return why `message` was refused: Sequoia says little, the keys at hand say more."""
    try:
        made = _signatures(message)
    except BaseException as error:
        _let_through(error)
        made = []
    named = {packet.issuer_fingerprint for packet in made if packet.issuer_fingerprint}
    now = dt.datetime.now(dt.UTC)
    for packet in made:
        ends = packet.signature_expiration_time
        if ends is not None and ends <= now:
            return f"the signature expired on {ends:%Y-%m-%d}"
    for key in keys:
        signing = {key.fingerprint, *(part.fingerprint for part in _parts(key))}
        if named & signing:
            return _fault(key, min(named & signing)) or reason
    if named:
        return f"it is by the key {min(named)}, which is not among the trusted ones"
    return reason


def _signatures(message: bytes) -> list[Packet]:
    """Return the packets of a message that are signatures."""
    from pysequoia.packet import PacketPile

    pile = PacketPile.from_bytes(message)
    return [packet for packet in pile if packet.signature_type is not None]


class _Part:
    """A subkey, and what its bindings say."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.created = self.bound = dt.datetime.min.replace(tzinfo=dt.UTC)
        self.validity: dt.timedelta | None = None
        self.revoked = False

    def note(self, packet: Packet) -> None:
        kind = str(packet.signature_type)
        if kind.endswith("SubkeyRevocation"):
            self.revoked = True
        made = packet.signature_created
        if kind.endswith("SubkeyBinding") and made is not None and made >= self.bound:
            self.bound = made
            self.validity = packet.key_validity_period


def _parts(key: pysequoia.Cert) -> list[_Part]:
    from pysequoia.packet import PacketPile

    parts: list[_Part] = []
    for packet in PacketPile.from_bytes(bytes(key)):
        if packet.fingerprint is not None:
            part = _Part(packet.fingerprint)
            part.created = packet.key_created or part.created
            parts.append(part)
        elif packet.signature_type is not None and parts:
            parts[-1].note(packet)
    return parts[1:]


def _fault(key: pysequoia.Cert, signing_key: str) -> str:
    """Return why a signature by this key does not count now, or an empty string."""
    now = dt.datetime.now(dt.UTC)
    if key.is_revoked:
        return f"the key {key.fingerprint} is revoked"
    if key.expiration is not None and key.expiration <= now:
        return f"the key {key.fingerprint} expired on {key.expiration:%Y-%m-%d}"
    for part in _parts(key) if signing_key != key.fingerprint else ():
        if part.fingerprint != signing_key:
            continue
        if part.revoked:
            return f"the subkey {signing_key} is revoked"
        if part.validity and part.created + part.validity <= now:
            return f"the subkey {signing_key} expired"
    return ""


def _note_ends(key: pysequoia.Cert, signing_key: str, message: bytes) -> None:
    note_end(key.expiration)
    for part in _parts(key):
        if part.fingerprint == signing_key and part.validity:
            note_end(part.created + part.validity)
    for packet in _signatures(message):
        note_end(packet.signature_expiration_time)


def sign_message(payload: bytes, secret: bytes, password: str | None, source: str) -> bytes:
    """Return a signed message of `payload`, binary, by the secret key of `secret`."""
    _need()
    import pysequoia

    try:
        key = pysequoia.Tsk.from_bytes(secret)
        signer = key.signer(password) if password else key.signer()
        return bytes(pysequoia.sign(signer, payload, armor=False))
    except Exception as error:
        raise TrustError(
            f"cannot sign with {source}: {_reason(error)}", hint="gpg --export-secret-keys ID"
        ) from None
