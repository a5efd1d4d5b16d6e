"""Signatures of every kind through pull, run, load, import and push, with a real registry that
wants TLS and a password, and signers that others wrote where there are such.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

import certificates
import engine
import pytest
import trust_parts
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from engine import ACCEPT, REJECT, Engine, Registry
from sigstore_world import World
from test_trust_bundles import ISSUER
from test_trust_notation import House

import imaging
from needs import needs
from viscum import folders
from viscum.image.manifest import OCI_MANIFEST
from viscum.image.registries import Endpoint
from viscum.image.registry import Repository
from viscum.image.transport import Settings
from viscum.trust.bundles import BUNDLE_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trust_parts import Keys

pytestmark = needs("registry", "skopeo", "gpg", "image-tools", "builders", "userns")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> imaging.Layout:
    return engine.make_layout(tmp_path_factory.mktemp("images") / "layout")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with engine.guarded(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@pytest.fixture
def viscum(folder: pathlib.Path, host: Registry) -> Iterator[Engine]:
    yield Engine(folder, host)
    folders.remove_tree(str(folder / "data"))


@dataclasses.dataclass
class Case:
    """One kind of signature: how images are signed, and rules that want it or another signer."""

    sign: Callable[[str], None]
    rule: dict[str, Any]
    stranger: dict[str, Any]
    named: bool  # whether a signature states the name of an image, not only its digest


class Makers:
    """Makes a case of each kind."""

    def __init__(self, viscum: Engine, host: Registry, keys: Keys, layout: imaging.Layout) -> None:
        self.viscum = viscum
        self.host = host
        self.keys = keys
        self.layout = layout
        self.open = contextlib.ExitStack()
        """What is closed after the test."""

    def file(self, name: str, data: bytes) -> pathlib.Path:
        path = self.viscum.folder / name
        path.write_bytes(data)
        return path

    # OpenPGP.

    def _gpg(self, sign: Callable[[str], None]) -> Case:
        rules = [
            engine.key_rule("signedBy", self.file(f"{name}.gpg", self.keys.public(name)))
            for name in ("good", "other")
        ]
        return Case(sign, *rules, named=True)

    def skopeo(self) -> Case:
        def sign(target: str) -> None:
            trust_parts.call(
                "skopeo", "--registries.d", f"{self.viscum.folder}/registries.d", "copy", "-q",
                "--sign-by", self.keys.fingerprint("good"), "--dest-creds",
                f"{engine.USER}:{engine.PASSWORD}", "--dest-cert-dir", str(self.host.trusted),
                f"oci:{self.layout.path}:one", f"docker://{target}", env=self.keys.environment,
            )  # fmt: skip

        return self._gpg(sign)

    def podman(self, shop: pathlib.Path) -> Case:
        home = self.viscum.folder / "home"
        place = home / ".config" / "containers" / "registries.d"
        place.mkdir(parents=True)
        shutil.copy(self.viscum.folder / "registries.d" / "default.yaml", place)
        own = {"HOME": str(home), **self.keys.environment}
        words = trust_parts.podman(shop)

        def sign(target: str) -> None:
            trust_parts.call(*words, "pull", "-q", f"oci:{self.layout.path}:one", env=own)
            identifier = trust_parts.call(*words, "images", "-q", env=own).split()[0]
            trust_parts.call(
                *words, "push", "-q", "--cert-dir", str(self.host.trusted), "--creds",
                f"{engine.USER}:{engine.PASSWORD}", "--sign-by", self.keys.fingerprint("good"),
                identifier, f"docker://{target}", env=own,
            )  # fmt: skip

        return self._gpg(sign)

    def gpg(self) -> Case:
        secret = self.file("secret.gpg", self.keys.secret("good"))
        return self._gpg(lambda target: self._sign(target, "--gpg-key", secret))

    def _sign(self, target: str, *words: object) -> None:
        self.viscum("image", "sign", *words, target)

    # Keys and certificates.

    def _public(self, key: Any, name: str) -> pathlib.Path:
        form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return self.file(name, key.public_key().public_bytes(*form))

    def cosign(self) -> Case:
        mine, other = certificates.make_key(), certificates.make_key()
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        secret = self.file("cosign.key", mine.private_bytes(*form))
        rules = [
            engine.key_rule("sigstoreSigned", self._public(key, name))
            for key, name in ((mine, "mine.pub"), (other, "other.pub"))
        ]
        return Case(lambda target: self._sign(target, "--cosign-key", secret), *rules, named=True)

    def referred(self) -> Case:
        """As cosign does it with referrers: what it would put under a tag, with a subject."""
        case = self.cosign()

        def sign(target: str) -> None:
            case.sign(target)
            repository, data, digest = self.opened(target)
            tag = digest.replace(":", "-") + ".sig"
            tagged = json.loads(repository.manifest(tag)[0])
            kind = "application/vnd.dev.cosign.artifact.sig.v1+json"
            tagged["artifactType"] = kind
            self.refer(repository, data, tagged)
            repository.put_manifest(tag, data, OCI_MANIFEST)  # no signatures under the tag

        return dataclasses.replace(case, sign=sign)

    def opened(self, target: str) -> tuple[Repository, bytes, str]:
        name, _, tag = target.rpartition(":")
        registry, _, path = name.partition("/")
        pair = f"{engine.USER}:{engine.PASSWORD}"
        settings = Settings(creds=pair, cert_dir=str(self.host.trusted))
        repository = Repository(Endpoint(registry, path), settings, writes=True)
        self.open.callback(repository.close)
        data, descriptor = repository.manifest(tag)
        return repository, data, descriptor.digest

    @staticmethod
    def refer(repository: Repository, subject: bytes, manifest: dict[str, Any]) -> None:
        """Attach a manifest to another, in the tag that this registry needs for it."""
        digest = engine.digest_of(subject)
        manifest["subject"] = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(subject)}
        data = json.dumps(manifest).encode()
        repository.put_referrer(data, OCI_MANIFEST)
        row = {"mediaType": OCI_MANIFEST, "digest": engine.digest_of(data), "size": len(data)}
        rows = [{**row, "artifactType": manifest["artifactType"]}]
        index = json.dumps({"schemaVersion": 2, "mediaType": imaging.INDEX, "manifests": rows})
        repository.put_manifest(digest.replace(":", "-"), index.encode(), imaging.INDEX)

    def bundle(self) -> Case:
        world = World()
        root = self.file("root.json", world.trusted_root())

        def sign(target: str) -> None:
            repository, data, digest = self.opened(target)
            made = world.bundle(digest, world.identity())
            for blob in (b"{}", made):
                repository.put_blob(blob)
            layer = {"mediaType": BUNDLE_TYPE, "digest": engine.digest_of(made), "size": len(made)}
            empty = {"mediaType": BUNDLE_TYPE, "digest": engine.digest_of(b"{}"), "size": 2}
            head = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": BUNDLE_TYPE}
            self.refer(repository, data, {**head, "config": empty, "layers": [layer]})

        rules = [
            {
                "type": "sigstoreBundle",
                "trustedRootPath": str(root),
                "identities": [{"subject": who, "issuer": ISSUER}],
            }
            for who in ("dev@example.com", "other@example.com")
        ]
        return Case(sign, *rules, named=False)

    def notation(self, form: str) -> Case:
        house, other = (House(self.viscum.folder / name) for name in ("house", "other-house"))
        key = self.file("notation.key", house.signer.secret())
        chain = self.file("chain.pem", house.signer.chain_pem())

        def sign(target: str) -> None:
            words = ("--notation-key", key, "--certificates", chain, "--envelope", form)
            self._sign(target, *words)

        return Case(sign, json.loads(house.rule), json.loads(other.rule), named=False)


@pytest.fixture
def makers(viscum: Engine, host: Registry, keys: Keys, images: imaging.Layout) -> Iterator[Makers]:
    made = Makers(viscum, host, keys, images)
    with made.open:
        yield made


KINDS = ("skopeo", "podman", "gpg", "cosign", "referred", "bundle", "jws", "cose")


def make_case(makers: Makers, kind: str, shop: pathlib.Path) -> Case:
    if kind in ("jws", "cose"):
        return makers.notation(kind)
    return makers.podman(shop) if kind == "podman" else getattr(makers, kind)()


@pytest.mark.parametrize("kind", KINDS)
def test_signature_of_every_kind_decides_over_pull_and_run(
    kind: str, makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout, shop: Any
) -> None:
    case = make_case(makers, kind, shop)
    target = f"{host.host}/{kind}/app:v1"
    host.push(images, "one", target)
    before = viscum.store()
    viscum.policy(REJECT, docker={host.host: [case.rule]})
    assert "no s" in viscum.refuses("pull", "-q", target)
    assert viscum.store() == before  # nothing was fetched, nothing unpacked
    case.sign(target)
    assert "is allowed" in viscum("image", "verify", target)
    viscum.policy(REJECT, docker={host.host: [case.stranger]})
    assert "is refused by scope" in viscum.refuses("image", "verify", target)
    assert "is refused by scope" in viscum.refuses("run", target)
    assert viscum.store() == before
    viscum.policy(REJECT, docker={host.host: [case.rule]})
    assert viscum("run", target) == "one\n"
    # From here on nothing is asked of the registry: what was signed lies beside the image.
    (viscum.folder / "auth.json").write_text("{}")
    viscum.policy(REJECT, docker={host.host: [case.stranger]})
    assert "may not run" in viscum.refuses("run", target)
    viscum.policy(REJECT, docker={f"{host.host}/{kind}": [case.rule]})
    assert viscum("run", target) == viscum("run", target) == "one\n"


@pytest.mark.parametrize("kind", KINDS)
def test_signature_of_another_image_counts_for_no_image(
    kind: str, makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout, shop: Any
) -> None:
    """What is signed is moved: the tag to another manifest, and the image to another name."""
    case = make_case(makers, kind, shop)
    target, moved = (f"{host.host}/{kind}/moved{number}:v1" for number in (1, 2))
    host.push(images, "one", target)
    case.sign(target)
    viscum.policy(REJECT, docker={host.host: [case.rule]})
    assert "is allowed" in viscum("image", "verify", target)
    copy_all(makers, target, moved)
    place = viscum.folder / "lookaside" / kind
    for path in place.glob("moved1@*"):
        shutil.copytree(path, place / path.name.replace("moved1", "moved2"))
    if case.named:
        assert "does not accept" in viscum.refuses("pull", "-q", moved)
    else:  # such signatures are for a digest, wherever it is
        assert viscum("run", moved) == "one\n"
    host.push(images, "two", target)
    repository, _, digest = makers.opened(target)
    first = engine.digest_of(makers.opened(moved)[1])
    for suffix in ("", ".sig"):  # the other manifest's signatures, as if they were this one's
        old, new = (each.replace(":", "-") + suffix for each in (first, digest))
        try:
            data, found = repository.manifest(old)
        except imaging_missing():
            continue
        repository.put_manifest(new, data, found.media_type)
    for path in place.glob("moved1@*"):
        shutil.copytree(path, place / f"moved1@{digest.replace(':', '=')}")
    text = viscum.refuses("pull", "-q", target)
    assert "manifest" in text or "subject" in text or "digest" in text, text


def imaging_missing() -> type[Exception]:
    from viscum.image.registry import NotThere

    return NotThere


def copy_all(makers: Makers, target: str, moved: str) -> None:
    """Copy an image with every manifest and blob that refers to it to another repository."""
    source, data, digest = makers.opened(target)
    name = moved.rpartition(":")[0].partition("/")[2]
    sink = Repository(source.endpoint.replace(path=name), source.settings, writes=True)
    seen: set[str] = set()

    def copy(what: str) -> None:
        try:
            found, descriptor = source.manifest(what)
        except imaging_missing():
            return
        if descriptor.digest in seen:
            sink.put_manifest(what, found, descriptor.media_type)
            return
        seen.add(descriptor.digest)
        top = json.loads(found)
        for row in top.get("manifests", ()):
            copy(row["digest"])
        for row in (*top.get("layers", ()), *([top["config"]] if "config" in top else ())):
            sink.put_blob(source.blob(row["digest"], 8 << 20))
        sink.put_manifest(what, found, descriptor.media_type)

    copy(target.rpartition(":")[2])
    for suffix in ("", ".sig"):
        copy(digest.replace(":", "-") + suffix)
    for repository in (source, sink):
        repository.close()
    assert data


@pytest.mark.parametrize("signed", ["index", "own", "foreign", "nothing"])
def test_index_or_the_manifest_that_it_leads_to_may_be_signed(
    signed: str, makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout
) -> None:
    case = makers.cosign()
    case.rule["signedIdentity"] = {"type": "matchRepository"}
    target = f"{host.host}/index/{signed}:v1"
    host.push(images, "many", target, "--all")
    repository, data, digest = makers.opened(target)
    repository.close()
    rows = json.loads(data)["manifests"]
    which = {"index": digest, "own": rows[0]["digest"], "foreign": rows[1]["digest"]}
    if signed in which:
        name = target.rpartition(":")[0]
        secret = viscum.folder / "cosign.key"
        makers._sign(f"{name}@{which[signed]}", "--cosign-key", secret, "--identity", target)
    viscum.policy(REJECT, docker={"": [case.rule]})
    if signed in ("index", "own"):
        assert "is allowed" in viscum("image", "verify", target)
        assert viscum("run", target) == "one\n"
        viscum.policy(REJECT, docker={host.host: [case.rule]})
        assert viscum("run", target) == "one\n"
    else:
        assert "no signature of cosign's" in viscum.refuses("image", "verify", target)
        assert "no signature of cosign's" in viscum.refuses("run", target)


def test_key_that_expires_or_is_revoked_ends_what_is_stored(
    makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout, tmp_path: pathlib.Path
) -> None:
    """An image ran; then its signer's key is revoked: the key file is another one from then on."""
    own = trust_parts.Keys(viscum.folder / "g")
    try:
        own.make("brief", expires="seconds=6")
        key = viscum.folder / "brief.gpg"
        key.write_bytes(own.public("brief"))
        secret = viscum.folder / "brief.secret"
        secret.write_bytes(own.secret("brief"))
        own.make("gone")
        (viscum.folder / "gone.gpg").write_bytes(own.public("gone"))
        (viscum.folder / "gone.secret").write_bytes(own.secret("gone"))
        own.revoke("gone")
        revoked = own.public("gone")
    finally:
        own.close()
    names = {name: f"{host.host}/ends/{name}:v1" for name in ("brief", "gone")}
    scopes = {}
    for name, target in names.items():
        host.push(images, "one", target)
        rule = engine.key_rule("signedBy", viscum.folder / f"{name}.gpg")
        scopes[target.rpartition(":")[0]] = [rule]
    viscum.policy(REJECT, docker=scopes)
    for name, target in names.items():
        makers._sign(target, "--gpg-key", viscum.folder / f"{name}.secret")
        for _ in range(2):  # the second one natively, where nothing changed
            assert viscum("run", target) == "one\n"
    (viscum.folder / "gone.gpg").write_bytes(revoked)
    assert "revoked" in viscum.refuses("run", names["gone"])
    import time

    time.sleep(6)
    assert "expired" in viscum.refuses("run", names["brief"])
    del tmp_path


def test_images_of_files_are_judged_as_what_they_are(
    viscum: Engine, images: imaging.Layout, makers: Makers, host: Registry
) -> None:
    case = makers.cosign()
    archive = viscum.folder / "image.tar"
    imaging.run("skopeo", "copy", "-q", f"oci:{images.path}:one", f"docker-archive:{archive}:x/y:1")
    root = viscum.folder / "root.tar"
    root.write_bytes(imaging.busybox_layer())
    layout = viscum.folder / "layout"
    shutil.copytree(images.path, layout)
    everything = {
        "docker-archive": ("load", "-q", "-i", archive),
        "oci": ("pull", "-q", f"oci:{layout}:one"),
        "tarball": ("import", root, "imported:1"),
    }
    for transport, words in everything.items():
        viscum.policy(REJECT)
        before = viscum.store()
        assert "is refused by the default" in viscum.refuses(*words)
        if transport != "tarball":  # which is what it is imported as
            name = words[-1] if transport == "oci" else f"{transport}:{words[-1]}"
            assert "is refused by the default" in viscum.refuses("trust", "test", name)
        assert viscum.store()["names"] == before["names"]
        viscum.policy(REJECT, **{transport: {"": [ACCEPT]}})
        viscum(*words)
        if transport != "tarball":
            assert "everything is accepted" in viscum("trust", "test", name)
    names = ("x/y:1", "localhost/layout:one", "localhost/imported:1")
    for (transport, _), name in zip(everything.items(), names, strict=True):
        viscum.policy(REJECT, **{transport: {"": [ACCEPT]}})
        assert viscum("run", name, "echo", "ran") == "ran\n"
        viscum.policy(REJECT)
        assert "may not run" in viscum.refuses("run", name, "echo", "ran")
    # An image of a layout can be signed there, too.
    identity = {"type": "exactReference", "dockerReference": "example.com/app:v1"}
    viscum.policy(REJECT, oci={str(layout): [{**case.rule, "signedIdentity": identity}]})
    assert "no signature" in viscum.refuses("pull", "-q", f"oci:{layout}:two")
    secret = viscum.folder / "cosign.key"
    makers._sign(f"oci:{layout}:two", "--cosign-key", secret, "--identity", "example.com/app:v1")
    viscum("pull", "-q", f"oci:{layout}:two")
    shutil.rmtree(layout)
    assert viscum("run", "layout:two") == "two\n"
    # Pushed, it is another image: nobody signed it there.
    target = f"{host.host}/pushed/app:v1"
    viscum("push", "-q", "layout:two", target)
    viscum.policy(REJECT, docker={host.host: [case.rule]})
    assert "no signature" in viscum.refuses("pull", "-q", target)
    makers._sign(target, "--cosign-key", secret)
    assert viscum("run", target) == "two\n"
    assert viscum("run", "--pull", "always", target) == "two\n"


def test_machines_that_live_on_start_under_the_policy_of_the_moment(
    viscum: Engine, images: imaging.Layout
) -> None:
    viscum.policy(REJECT, oci={"": [ACCEPT]})
    name = f"oci:{images.path}:one"
    viscum("pull", "-q", name)
    made = viscum("create", "--name", "kept", "localhost/layout:one").strip()
    viscum("start", "-a", made)
    viscum("run", "-d", "localhost/layout:one")
    viscum.policy(REJECT)
    assert "may not run" in viscum.refuses("start", made)
    assert "may not run" in viscum.refuses("run", "-d", "localhost/layout:one")
    assert "may not run" in viscum.refuses("create", "localhost/layout:one")
    viscum.policy(REJECT, oci={"": [ACCEPT]})
    viscum("commit", "kept", "made:1")
    assert "may not run" in viscum.refuses("run", "made:1")
    store = {"containers-storage": {"": [ACCEPT]}}
    viscum.policy(REJECT, **store)
    assert viscum("run", "made:1", "echo", "ran") == "ran\n"
    viscum("rm", "-f", *viscum("ps", "-aq").split())


def test_remembered_starts_are_refused_when_the_policy_changes(
    viscum: Engine, images: imaging.Layout
) -> None:
    """The native start remembers plans; neither a policy, nor one that appears, gets past it."""
    viscum("pull", "-q", f"oci:{images.path}:one")
    words = ("run", "localhost/layout:one")
    settle(viscum, *words)
    plans = list((viscum.folder / "run" / "plans").iterdir())
    assert len(plans) == 1
    viscum("trust", "set", "default", "--type", "reject")
    assert "may not run" in viscum.refuses(*words)
    viscum("trust", "set", "default", "--type", "accept")
    assert viscum(*words) == "one\n"
    # The file that is in force may be another one from now on, without a change of the first.
    stricter = viscum.folder / "stricter.json"
    stricter.write_text(json.dumps({"default": [REJECT]}))
    assert "may not run" in viscum.refuses(*words, env={"VISCUM_POLICY": str(stricter)})
    home = viscum.folder / "somebody"
    own = {"VISCUM_POLICY": "", "HOME": str(home)}
    home.mkdir()
    settle(viscum, *words, env=own)
    (home / ".config" / "containers").mkdir(parents=True)
    (home / ".config" / "containers" / "policy.json").write_text(stricter.read_text())
    assert "may not run" in viscum.refuses(*words, env=own)


def settle(viscum: Engine, *words: str, **options: Any) -> None:
    """Run often enough, and late enough after the last change, for the start to be remembered."""
    import time

    time.sleep(0.1)
    for _ in range(3):
        assert viscum(*words, **options) == "one\n"


def test_store_of_others_goes_by_its_names(viscum: Engine, images: imaging.Layout) -> None:
    """Images that skopeo put into the store say nothing of where they are from."""
    viscum("images")
    target = f"oci:{viscum.folder}/data/images:example.com/team/app:v1"
    imaging.run("skopeo", "copy", "-q", f"oci:{images.path}:one", target)
    assert viscum("run", "example.com/team/app:v1") == "one\n"
    viscum.policy(REJECT, docker={"example.com/team": [ACCEPT]})
    assert viscum("run", "example.com/team/app:v1") == "one\n"
    viscum.policy(ACCEPT, docker={"example.com/team": [REJECT]})
    assert "may not run" in viscum.refuses("run", "example.com/team/app:v1")


def test_changed_signatures_in_the_store_are_noticed(
    makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout
) -> None:
    case = makers.cosign()
    target = f"{host.host}/kept/app:v1"
    host.push(images, "one", target)
    case.sign(target)
    viscum.policy(REJECT, docker={host.host: [case.rule]})
    assert viscum("run", target) == "one\n"
    (entry,) = viscum.store()["names"]  # type: ignore[misc]
    digest = entry["annotations"]["org.viscum.image.signatures"]
    kept = viscum.folder / "data" / "images" / "blobs" / digest.replace(":", "/")
    assert viscum("gc") is not None
    assert kept.exists()  # it is as much of the image as its layers are
    kept.write_bytes(kept.read_bytes().replace(b"a", b"b"))
    viscum.policy(REJECT, docker={"": [case.rule]})
    assert "damaged" in viscum.refuses("run", target)


def test_signing_and_verifying_log_in(
    makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout
) -> None:
    makers.cosign()
    target = f"{host.host}/login/app:v1"
    host.push(images, "one", target)
    words = ("image", "sign", "--cosign-key", viscum.folder / "cosign.key")
    (viscum.folder / "auth.json").write_text("{}")
    assert f"viscum login {host.host}" in viscum.refuses(*words, target)
    pair = f"{engine.USER}:{engine.PASSWORD}"
    viscum(*words, "--creds", pair, target)
    assert viscum("image", "verify", "--creds", pair, target)
    assert "viscum login" in viscum.refuses("image", "verify", "--creds", "signer:wrong", target)
    viscum(
        "login", "-u", engine.USER, "--password-stdin", host.host, input=engine.PASSWORD.encode()
    )
    viscum(*words, target)
    shutil.rmtree(viscum.folder / "config")  # and with it the certificate of the registry
    assert "certs.d" in viscum.refuses(*words, target)
    assert viscum("image", "verify", "--cert-dir", host.trusted, target)
    assert viscum("trust", "test", "--tls-verify=false", target)


def test_signing_fetches_tokens(
    viscum: Engine, images: imaging.Layout, folder: pathlib.Path, makers: Makers
) -> None:
    from test_image_registry import Tokens

    makers.cosign()
    made = imaging.certificates(folder / "token-certs")
    with Tokens(made) as tokens:
        setting = (
            f"auth: {{token: {{realm: http://{tokens.host}/token, service: reg, issuer: us, "
            f"rootcertbundle: {made}/server.pem}}}}\n"
        )
        with imaging.registry(folder / "token", auth=setting) as plain:
            target, name = f"{plain}/shut/one:1", f"oci:{images.path}:one"
            flags = ("--tls-verify=false", "--creds", "me:secret")
            viscum("pull", "-q", name)
            viscum("push", "-q", *flags, "layout:one", target)
            words = ("image", "sign", "--cosign-key", viscum.folder / "cosign.key")
            assert "viscum login" in viscum.refuses(*words, "--tls-verify=false", target)
            assert viscum(*words, *flags, target).strip().endswith(".sig")
            assert viscum("image", "verify", *flags, target)


def test_signatures_are_read_from_a_mirror_and_written_to_the_registry(
    makers: Makers, viscum: Engine, host: Registry, images: imaging.Layout
) -> None:
    case = makers.cosign()
    case.rule["signedIdentity"] = {"type": "remapIdentity", "prefix": "far.example/x"}
    case.rule["signedIdentity"]["signedPrefix"] = f"{host.host}/mirrored"
    target = f"{host.host}/mirrored/app:v1"
    host.push(images, "one", target)
    case.sign(target)
    conf = (
        '[[registry]]\nprefix = "far.example/x"\nlocation = "127.0.0.1:1/x"\n'
        f'[[registry.mirror]]\nlocation = "{host.host}/mirrored"\n'
    )
    (viscum.folder / "registries.conf").write_text(conf)
    viscum.policy(REJECT, docker={"far.example/x": [case.rule]})
    assert "is allowed" in viscum("image", "verify", "far.example/x/app:v1")
    assert viscum("run", "far.example/x/app:v1") == "one\n"
    text = viscum.refuses(
        "image", "sign", "--cosign-key", viscum.folder / "cosign.key", "far.example/x/app:v1"
    )
    assert "far.example" in text or "127.0.0.1:1" in text


def test_signatures_of_the_registry_extension_decide(
    makers: Makers, viscum: Engine, images: imaging.Layout, keys: Keys
) -> None:
    """Debian's registry does not have the extension; ours for tests has."""
    import base64

    from viscum.trust import simple

    case = makers.gpg()
    with imaging.Server() as server:
        server.serve(images, "ext/app")
        server.answers["/v2/"] = (200, {"X-Registry-Supports-Signatures": "1"}, b"{}")
        entry = next(e for e in images.entries if e["annotations"] and "one" in str(e))
        target = f"{server.host}/ext/app:one"
        claim = simple.make_claim(entry["digest"], target, simple.ATOMIC)
        row = {"schemaVersion": 2, "name": "x", "type": "atomic"}
        path = f"/extensions/v2/ext/app/signatures/{entry['digest']}"
        viscum.policy(REJECT, docker={server.host: [case.rule]})
        for signer in ("other", "good"):
            content = base64.b64encode(keys.sign(signer, claim)).decode()
            body = json.dumps({"signatures": [{**row, "content": content}]}).encode()
            server.answers[path] = (200, {}, body)
            if signer == "other":
                text = viscum.refuses("pull", "-q", "--tls-verify=false", target)
                assert "not among the trusted" in text
        viscum("pull", "-q", "--tls-verify=false", target)
    assert viscum("run", target) == "one\n"
