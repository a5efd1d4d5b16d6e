"""The engine as a user has it: a store, a policy, and a registry that wants TLS and a password."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
from typing import TYPE_CHECKING, Any

import trust_parts

import imaging
from callers import script
from commands import run_words

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "signer", "secret words"
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}


class Registry:
    """A registry and what a client needs to reach it."""

    def __init__(self, host: str, trusted: pathlib.Path) -> None:
        self.host = host
        self.trusted = trusted

    def push(self, layout: imaging.Layout, name: str, target: str, *options: str) -> None:
        """Push an image of a layout by skopeo."""
        imaging.run(
            "skopeo", "copy", "-q", "--dest-creds", f"{USER}:{PASSWORD}", "--dest-cert-dir",
            self.trusted, *options, f"oci:{layout.path}:{name}", f"docker://{target}",
        )  # fmt: skip


@contextlib.contextmanager
def guarded(folder: pathlib.Path) -> Iterator[Registry]:
    """Debian's registry with TLS and htpasswd."""
    made = imaging.certificates(folder / "certificates")
    users = folder / "users"
    users.write_bytes(imaging.run("htpasswd", "-Bbn", USER, PASSWORD).stdout)
    tls = f', tls: {{certificate: "{made}/server.pem", key: "{made}/server.key"}}'
    auth = f"auth: {{htpasswd: {{realm: r, path: {users}}}}}\n"
    with imaging.registry(folder / "registry", http=tls, auth=auth) as host:
        yield Registry(host, made / "trusted")


class Engine:
    """Commands of this installation, with folders and configuration of their own."""

    def __init__(self, folder: pathlib.Path, registry: Registry | None = None) -> None:
        self.folder = folder
        self.policy_path = folder / "policy.json"
        self.environment = {
            "VISCUM_DATA": str(folder / "data"),
            "VISCUM_RUN": str(folder / "run"),
            "VISCUM_POLICY": str(self.policy_path),
            "VISCUM_REGISTRIES_D": str(folder / "registries.d"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
            "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
        (folder / "registries.d").mkdir()
        storage = f"default-docker:\n  lookaside: file://{folder}/lookaside\n"
        attached = "  use-sigstore-attachments: true\n"
        (folder / "registries.d" / "default.yaml").write_text(storage + attached)
        self.policy(ACCEPT)
        if registry is not None:
            place = folder / "config" / "containers" / "certs.d" / registry.host
            place.mkdir(parents=True)
            (place / "ca.crt").write_bytes((registry.trusted / "ca.crt").read_bytes())
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            auths = {"auths": {registry.host: {"auth": pair}}}
            (folder / "auth.json").write_text(json.dumps(auths))

    def policy(self, *rules: dict[str, Any], **transports: dict[str, Any]) -> None:
        """Write a policy; `rules` are the default."""
        made = {"default": list(rules), **({"transports": transports} if transports else {})}
        self.policy_path.write_text(json.dumps(made))

    def __call__(self, *words: object, code: int = 0, **options: Any) -> str:
        """Run a command; return its output, or what it complained of where `code` is not 0."""
        import os

        environment = {**os.environ, **self.environment, **options.pop("env", {})}
        done = run_words(script("viscum"), *words, env=environment, **options)
        text = done.stderr.decode()
        assert done.returncode == code, (words, done.returncode, text)
        assert "Traceback" not in text
        return text if code else done.stdout.decode()

    def refuses(self, *words: object, **options: Any) -> str:
        """Run a command that has to fail with one error; return that."""
        text = self(*words, code=125, **options)
        assert text.count("viscum: ") == 1, text
        return text

    def store(self) -> dict[str, object]:
        """Return what the store names, and the files below its blobs."""
        index = self.folder / "data" / "images" / "index.json"
        entries = json.loads(index.read_bytes())["manifests"] if index.exists() else []
        blobs = sorted(p.name for p in self.folder.glob("data/images/blobs/*/*"))
        layers = sorted(p.name for p in self.folder.glob("data/layers/*"))
        return {"names": entries, "blobs": blobs, "layers": layers}


def make_layout(path: pathlib.Path) -> imaging.Layout:
    """Images that run: `one` and `two`, and an index `many` of the host's platform and another."""
    made = imaging.Layout(path)
    shell = imaging.busybox_layer()
    one = made.image("one", [shell], Cmd=["echo", "one"])
    made.image("two", [shell], Cmd=["echo", "two"])
    other = made.image("", [imaging.archive(imaging.member("x"))], architecture="ppc64le")
    own = str(imaging.own_platform())
    made.index("many", {own: one, "linux/ppc64le": other})
    return made


def key_rule(kind: str, path: pathlib.Path, **more: object) -> dict[str, Any]:
    """Return a rule of a kind for a key in a file."""
    named = {"keyType": "GPGKeys"} if kind == "signedBy" else {}
    return {"type": kind, **named, "keyPath": str(path), **more}


digest_of = trust_parts.digest_of
