"""A sigstore of our own: authority, certificate log, transparency log, trusted root; offline.

Its bundles are of version 0.3, as cosign and sigstore's clients write them, so that the library
`sigstore` can judge them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from typing import Any

import certificates
import rekor_log
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from viscum.trust.bundles import BUNDLE_TYPE, IN_TOTO, PREDICATE, authenticated_encoding

SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


class World:
    """Everything that a trusted root names, with its keys."""

    def __init__(self) -> None:
        self.root = certificates.make_authority("world root")
        self.fulcio = certificates.make_authority("world fulcio", self.root, depth=0)
        self.log = rekor_log.Log()
        self.certificate_log = rekor_log.Log()

    def trusted_root(self) -> bytes:
        def log(one: rekor_log.Log) -> dict[str, Any]:
            key = {"rawBytes": b64(one.der), "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
            key["validFor"] = {"start": "2020-01-01T00:00:00Z"}  # type: ignore[assignment]
            return {
                "baseUrl": "https://log.example.com",
                "hashAlgorithm": "SHA2_256",
                "publicKey": key,
                "logId": {"keyId": b64(one.id)},
            }

        chain = [self.fulcio.certificate, self.root.certificate]
        ders = [{"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in chain]
        authority = {
            "subject": {"organization": "world", "commonName": "world"},
            "uri": "https://fulcio.example.com",
            "certChain": {"certificates": ders},
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [log(self.log)],
                "certificateAuthorities": [authority],
                "ctlogs": [log(self.certificate_log)],
                "timestampAuthorities": [],
            }
        ).encode()

    def identity(self, email: str = "dev@example.com", *, logged: bool = True) -> certificates.Made:
        """Return a certificate whose log's signature (RFC 6962) is embedded."""
        key = certificates.make_key()
        first = rekor_log.make_identity(self.fulcio, email=email, key=key)
        if not logged:
            return first
        stamp = self._certificate_stamp(first.certificate)
        # The second one must differ from the first in the stamp alone.
        builder = (
            x509.CertificateBuilder()
            .subject_name(first.certificate.subject)
            .issuer_name(first.certificate.issuer)
            .public_key(key.public_key())
            .serial_number(first.certificate.serial_number)
            .not_valid_before(first.certificate.not_valid_before_utc)
            .not_valid_after(first.certificate.not_valid_after_utc)
        )
        for extension in first.certificate.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier(SCT_LIST), _octets(stamp))
        builder = builder.add_extension(value, critical=False)
        made = builder.sign(self.fulcio.key, certificates.hashes.SHA256())
        return certificates.Made(made, key, first.above)

    def _certificate_stamp(self, certificate: x509.Certificate) -> bytes:
        when = int(time.time() * 1000)
        issuer = self.fulcio.key.public_key().public_bytes(
            Encoding.DER, rekor_log.PublicFormat.SubjectPublicKeyInfo
        )
        body = certificate.tbs_certificate_bytes
        entry = hashlib.sha256(issuer).digest() + struct.pack(">I", len(body))[1:] + body
        signed = struct.pack(">BBQH", 0, 0, when, 1) + entry + struct.pack(">H", 0)
        made = self.certificate_log.sign(signed)
        stamp = struct.pack(">B", 0) + self.certificate_log.id + struct.pack(">QH", when, 0)
        stamp += struct.pack(">BBH", 4, 3, len(made)) + made
        return struct.pack(">H", len(stamp) + 2) + struct.pack(">H", len(stamp)) + stamp

    def log_entry(self, body: bytes, kind: str) -> dict[str, Any]:
        """Return an entry with a promise, and a proof of inclusion in a log of two."""
        other = _leaf_hash(b"something else")
        top = hashlib.sha256(b"\1" + other + _leaf_hash(body)).digest()
        note = f"log.example.com - 1\n2\n{b64(top)}\n"
        signed = self.log.id[:4] + self.log.sign(note.encode())
        checkpoint = f"{note}\n\u2014 log.example.com {b64(signed)}\n"
        return {
            "logIndex": "1",
            "logId": {"keyId": b64(self.log.id)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(self.log.time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self.log.stamp(body, index=1))},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": b64(top),
                "treeSize": "2",
                "hashes": [b64(other)],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }

    def bundle(self, digest: str, who: certificates.Made, *, predicate: str = PREDICATE) -> bytes:
        """Return a bundle around a statement that signs `digest`."""
        payload = statement(digest, predicate)
        made = self._sign(who, authenticated_encoding(IN_TOTO, payload))
        pem = who.pem()
        spec = {
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
            "signatures": [{"signature": b64(made), "verifier": b64(pem)}],
        }
        entry = {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}
        body = json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()
        envelope = {
            "payload": b64(payload),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": b64(made), "keyid": ""}],
        }
        return self._wrap(who, self.log_entry(body, "dsse"), dsseEnvelope=envelope)

    def message_bundle(self, manifest: bytes, who: certificates.Made) -> bytes:
        """Return a bundle around a plain signature of a manifest."""
        made = self._sign(who, manifest)
        body = self.log.body(manifest, made, who.pem())
        digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(manifest).digest())}
        signature = {"messageDigest": digest, "signature": b64(made)}
        return self._wrap(who, self.log_entry(body, "hashedrekord"), messageSignature=signature)

    @staticmethod
    def _sign(who: certificates.Made, data: bytes) -> bytes:
        return who.key.sign(data, rekor_log.ec.ECDSA(certificates.hashes.SHA256()))

    @staticmethod
    def _wrap(who: certificates.Made, entry: dict[str, Any], **content: object) -> bytes:
        der = who.certificate.public_bytes(Encoding.DER)
        material = {"certificate": {"rawBytes": b64(der)}, "tlogEntries": [entry]}
        return json.dumps(
            {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **content}
        ).encode()


def statement(digest: str, predicate: str = PREDICATE) -> bytes:
    algorithm, _, value = digest.partition(":")
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: value}}],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()


def _octets(data: bytes) -> bytes:
    """Return an OCTET STRING of DER."""
    size = len(data)
    head = bytes([size]) if size < 128 else bytes([0x81, size])
    return b"\x04" + head + data
