"""`viscum image sign`: signatures of several kinds, put where verifiers look for them."""

from __future__ import annotations

import datetime as dt
import functools
import os

from ...errors import SpecError, TrustError
from ...trust import attaching
from ...trust.material import read_file
from .local import LayoutSources, write_url
from .sources import open_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...trust.attaching import Sink, Target
    from ..parser import Parsed
    from .sources import Sources

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Run the command."""
    kinds = {"gpg_key": _gpg, "cosign_key": _cosign, "notation_key": _notation}
    given = [kind for kind in kinds if parsed.text(kind)]
    if not given:
        raise SpecError("there is no key to sign with", hint="--gpg-key, --cosign-key, …")
    with open_image(parsed, writes=True) as (image, sources):
        target = attaching.Target(image, sources.top(), parsed.text("identity") or "")
        for kind in given:
            print(kinds[kind](parsed, target, sources))
    return 0


def _password(parsed: Parsed) -> str | None:
    path = parsed.text("password_file")
    if path:
        return read_file(path, "password file").decode("utf-8", "replace").rstrip("\r\n")
    return os.environ.get("COSIGN_PASSWORD")


def _sink(target: Target, sources: Sources) -> Sink:
    from .remote import RegistrySources

    if not isinstance(sources, LayoutSources | RegistrySources):
        raise TrustError(f"{target.image} takes no such signature", hint="a registry, or oci:")
    return sources


def _gpg(parsed: Parsed, target: Target, sources: Sources) -> str:
    from ...trust.openpgp import sign_message

    path = parsed.text("gpg_key") or ""
    secret, password = read_file(path, "key file"), _password(parsed)
    sign = functools.partial(sign_message, secret=secret, password=password, source=path)
    return attaching.store_openpgp(target, sign, sources, write_url)


def _cosign(parsed: Parsed, target: Target, sources: Sources) -> str:
    from ...trust.keys import load_private, sign

    path = parsed.text("cosign_key") or ""
    key = load_private(read_file(path, "key file"), _password(parsed), path)
    make = functools.partial(sign, key)
    if target.image.transport == "dir":
        return attaching.store_cosign(target, make, sources, write_url)
    return attaching.attach_cosign(target, make, _sink(target, sources))


def _days(parsed: Parsed) -> dt.timedelta | None:
    text = parsed.text("expires")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 36500:
        raise SpecError(f"--expires {text!r} is no number of days", hint="1 to 36500")
    return dt.timedelta(days=int(text))


def _notation(parsed: Parsed, target: Target, sources: Sources) -> str:
    from ...trust.certificates import load_certificates
    from ...trust.keys import load_private
    from ...trust.notation.signing import make_envelope, thumbprints

    path, above = parsed.text("notation_key") or "", parsed.text("certificates")
    if not above:
        raise SpecError("--notation-key needs --certificates", hint="the signer's first, in PEM")
    form, expires = parsed.text("envelope") or "jws", _days(parsed)
    sink = _sink(target, sources)
    key = load_private(read_file(path, "key file"), _password(parsed), path)
    chain = tuple(load_certificates(read_file(above, "certificates"), above))
    envelope = make_envelope(target.descriptor(), key, chain, form=form, expires=expires)
    return attaching.attach_notation(target, envelope, form, thumbprints(chain), sink)
