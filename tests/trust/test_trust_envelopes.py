"""Envelopes, CBOR, metadata and payloads that somebody made up: read or refused, never worse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cbor2
import certificates
import fuzz
import hypothesis
import pytest
from hypothesis import strategies as st

from viscum.errors import ImageError, TrustError
from viscum.image import document
from viscum.trust import bundles, simple
from viscum.trust.notary.metadata import Root, Signed, Targets
from viscum.trust.notation import cbor, signing
from viscum.trust.notation.envelope import COSE, JWS, read_envelope
from viscum.trust.strict import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = st.recursive(
    st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40)
    | st.booleans()
    | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-100, 100) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@hypothesis.given(VALUES)
def test_cbor_is_written_as_cbor2_does_and_read_back(value: object) -> None:
    data = cbor.encode(value)
    assert cbor2.loads(data) == value
    assert cbor.decode(data) == value
    assert cbor.decode(cbor2.dumps(value, canonical=True)) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "ends too early"),
        ("1817", "longer than it must be"),
        ("190001", "longer than it must be"),
        ("9f01ff", "indefinite"),
        ("5f4101ff", "indefinite"),
        ("a201020103", "twice"),
        ("0101", "something follows"),
        ("f93c00", "floats"),
        ("c249010000000000000000", "tag 2"),
        ("61ff", "UTF-8"),
        ("9b7fffffffffffffff", "ends too early"),
        ("bb7fffffffffffffff", "ends too early"),
        ("5b7fffffffffffffff", "ends too early"),
        ("81" * 20 + "00", "nested"),
        ("a1f400", "neither a number nor a text"),
        ("1c", "reserved"),
    ],
)
def test_cbor_that_is_no_good_is_refused(data: str, reason: str) -> None:
    with pytest.raises(TrustError, match=reason):
        cbor.decode(bytes.fromhex(data))


def refuses_or_reads(read: Callable[[], object]) -> None:
    try:
        read()
    except TrustError as error:
        assert error.message


READERS: dict[str, Callable[[bytes], object]] = {
    "cbor": cbor.decode,
    "jws": lambda data: read_envelope(data, JWS),
    "cose": lambda data: read_envelope(data, COSE),
    "claim": lambda data: simple.read_claim(data, simple.COSIGN),
    "statement": lambda data: bundles.check_statement(data, "sha256:" + "0" * 64),
    "root": Root,
    "targets": lambda data: Targets(Signed(data, "targets.json", "targets")),
}


@pytest.mark.parametrize("name", READERS)
@hypothesis.given(data=st.binary(max_size=120))
def test_any_bytes_are_refused_by_every_reader(name: str, data: bytes) -> None:
    refuses_or_reads(lambda: READERS[name](data))


@pytest.mark.parametrize("name", ["jws", "claim", "statement", "root", "targets"])
@hypothesis.given(value=VALUES.filter(lambda value: not isinstance(value, bytes)))
def test_any_json_is_refused_by_every_reader(name: str, value: object) -> None:
    data = json.dumps({"signed": value, "signatures": [], "payload": value}, default=str).encode()
    refuses_or_reads(lambda: READERS[name](data))


def test_changed_documents_are_read_or_refused_by_every_reader() -> None:
    """A short run of the fuzzer; `python tests/trust/fuzz.py SECONDS` is a long one."""
    seed = 20261126
    read, refused = fuzz.run(100, seed, fuzz.targets())
    assert min(read, refused) > 100  # the changes are neither nothing nor noise


def test_halves_of_characters_are_no_text() -> None:
    """They would be an error of whoever writes or hashes them later."""
    data = b'{"a": "\\ud800"}'
    with pytest.raises(TrustError, match="is not JSON"):
        read_json(data, "j")
    with pytest.raises(ImageError, match="no usable JSON"):
        document.parse(data, "d")
    assert read_json(b'{"a": "\\ud83d\\ude00"}', "j").plain() == {"a": "\U0001f600"}


@pytest.fixture(scope="module")
def envelopes() -> dict[str, bytes]:
    signer = certificates.make_signer("signer", certificates.make_authority("root"))
    target: dict[str, object] = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1}
    return {
        form: signing.make_envelope(target, signer.key, signer.chain, form=form)
        for form in ("jws", "cose")
    }


@pytest.mark.parametrize("form", ["jws", "cose"])
@hypothesis.given(data=st.data())
def test_any_change_of_an_envelope_is_read_or_refused(
    form: str, envelopes: dict[str, bytes], data: st.DataObject
) -> None:
    changed = bytearray(envelopes[form])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if how == "flip":
            changed[place] = data.draw(st.integers(0, 255))
        elif how == "cut" and len(changed) > 2:
            del changed[place : place + data.draw(st.integers(1, 50))]
        else:
            changed[place:place] = data.draw(st.binary(max_size=20))
        hypothesis.assume(changed)
    refuses_or_reads(lambda: READERS[form](bytes(changed)))
