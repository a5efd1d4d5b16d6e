"""Commands about trust: the policy, and signatures of images."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .images import REGISTRY
from .volumes import FORMAT

__all__ = ["COMMANDS"]

_POLICY = Option("--policy", "FILE", "the policy, instead of the one in force")
_FORMAT = Option("--format", "text|json", "how to print it")

COMMANDS = (
    Command(
        "image sign",
        "trust.sign",
        "[OPTIONS] IMAGE",
        "sign an image, in one way or in several",
        (
            Option("--gpg-key", "FILE", "simple signing by an exported OpenPGP secret key"),
            Option("--cosign-key", "FILE", "as cosign does, by a key of cosign's or in PEM"),
            Option("--notation-key", "FILE", "as Notation does, by a key in PEM"),
            Option("--certificates", "FILE", "the signer's certificate and those above it, for it"),
            Option("--envelope", "jws|cose", "the kind of envelope of Notation (jws)"),
            Option("--expires", "DAYS", "when a signature of Notation ends (never)"),
            Option("--identity", "NAME:TAG", "the name that is signed for, instead of IMAGE"),
            Option("--password-file", "FILE", "the key's password, instead of COSIGN_PASSWORD"),
            *REGISTRY,
            HELP,
        ),
    ),
    Command(
        "image verify",
        "trust.verify",
        "[OPTIONS] IMAGE",
        "ask the policy, or a Notary v1 server, whether an image may be used",
        (
            _POLICY,
            Option("--notary-server", "URL", "ask this server what the tag is"),
            Option("--notary-root", "FILE", "certificates, one of which the root must be by"),
            _FORMAT,
            *REGISTRY,
            HELP,
        ),
    ),
    Command(
        "trust show",
        "trust.show",
        "[OPTIONS] [IMAGE]",
        "print the policy, or the rules that are in force for an image",
        (_POLICY, FORMAT, HELP),
    ),
    Command(
        "trust set",
        "trust.change",
        "[OPTIONS] SCOPE",
        "change the rules of a scope: default, TRANSPORT:SCOPE, or a registry or repository",
        (
            Option("--type", "KIND", "accept, reject, signedBy, sigstoreSigned or notationSigned"),
            Option("--key", "FILE", "a public key, or a keyring", repeats=True),
            Option("--signed-identity", "RULE[=NAME]", "how names are compared: matchRepository"),
            Option("--remove", "", "remove the scope, so that a wider one decides"),
            _POLICY,
            HELP,
        ),
    ),
    Command(
        "trust test",
        "trust.verify",
        "[OPTIONS] IMAGE",
        "say which rule of which scope allows or refuses an image, and why",
        (_POLICY, _FORMAT, *REGISTRY, HELP),
    ),
)
