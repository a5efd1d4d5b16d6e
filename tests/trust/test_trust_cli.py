"""The commands: image sign and verify, trust show, set and test."""

from __future__ import annotations

import json
import pathlib
import stat
from typing import TYPE_CHECKING

import certificates
import notary_service
import pytest
import trust_parts
from sigstore_world import rekor_log

from commands import assert_refused, call, start
from needs import needs
from viscum.trust import keys as cosign_keys
from viscum.trust.policy import parse_policy

if TYPE_CHECKING:
    from trust_parts import Keys

ONE = "sha256:" + "1" * 64


@pytest.fixture
def policy(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"default": [{"type": "reject"}]}))
    return path


@pytest.fixture
def cosign_pair(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A private key as cosign keeps it, password `secret`, and its public key."""
    key = certificates.make_key()
    private, public = tmp_path / "cosign.key", tmp_path / "cosign.pub"
    private.write_bytes(cosign_keys.encrypt_key(key, "secret"))
    pem = rekor_log.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(certificates.Encoding.PEM, pem))
    return private, public


def printed(*words: object) -> str:
    done = call(*(str(word) for word in words))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def refused(*words: object) -> str:
    done = call(*(str(word) for word in words))
    assert_refused(done)
    return done.stderr.decode()


def test_cli_cosign_signature_is_made_and_verified(
    layout: pathlib.Path,
    policy: pathlib.Path,
    cosign_pair: tuple[pathlib.Path, pathlib.Path],
    tmp_path: pathlib.Path,
) -> None:
    private, public = cosign_pair
    image, name = f"oci:{layout}:v1", "example.com/team/app:v1"
    (tmp_path / "password").write_text("secret\n")
    printed("trust", "set", "--policy", policy, "--type", "sigstoreSigned", "--key", public,
            "--signed-identity", f"exactReference={name}", f"oci:{layout}")  # fmt: skip
    assert "no signature of cosign's" in refused("image", "verify", "--policy", policy, image)
    tag = printed("image", "sign", "--cosign-key", private, "--identity", name,
                  "--password-file", tmp_path / "password", image)  # fmt: skip
    assert tag.strip().endswith(".sig")
    text = printed("image", "verify", "--policy", policy, image)
    assert f"{image} is allowed" in text
    assert "sigstoreSigned" in text
    found = json.loads(printed("trust", "test", "--policy", policy, "--format", "json", image))
    assert (found["scope"], found["policy"]) == (str(layout), str(policy))
    assert found["rules"][0]["identity"].startswith("the key ")


@needs("gpg", "skopeo")
def test_cli_gpg_signature_is_made_and_verified(
    layout: pathlib.Path, policy: pathlib.Path, keys: Keys, tmp_path: pathlib.Path
) -> None:
    trust_parts.call("skopeo", "copy", f"oci:{layout}:v1", f"dir:{tmp_path}/image")
    image, name = f"dir:{tmp_path}/image", "example.com/team/app:v1"
    secret, public = tmp_path / "secret.gpg", tmp_path / "public.gpg"
    secret.write_bytes(keys.secret("good"))
    public.write_bytes(keys.public("good"))
    where = printed("image", "sign", "--gpg-key", secret, "--identity", name, image)
    assert where.strip() == f"file://{tmp_path}/image/signature-1"
    printed("trust", "set", "--policy", policy, "--type", "signedBy", "--key", public,
            "--signed-identity", f"exactReference={name}", f"dir:{tmp_path}")  # fmt: skip
    assert "good@example.com" in printed("trust", "test", "--policy", policy, image)
    trust_parts.call("skopeo", "--policy", str(policy), "copy", image, f"dir:{tmp_path}/copy")
    (tmp_path / "image" / "signature-1").unlink()
    trust_parts.call(
        "skopeo", "--policy", str(policy), "copy", image, f"dir:{tmp_path}/c2", ok=False
    )
    assert "no signature of simple signing" in refused("trust", "test", "--policy", policy, image)


@needs("gpg", "skopeo", "registry")
def test_cli_gpg_signature_of_a_registry_is_accepted_by_skopeo(
    registry: str,
    layout: pathlib.Path,
    policy: pathlib.Path,
    keys: Keys,
    own_folders: pathlib.Path,
) -> None:
    target = f"{registry}/cli/app:v1"
    storage = f"default-docker:\n  lookaside: file://{own_folders}/lookaside\n"
    (own_folders / "registries.d" / "default.yaml").write_text(storage)
    trust_parts.push(layout, target)
    secret, public = own_folders / "secret.gpg", own_folders / "public.gpg"
    secret.write_bytes(keys.secret("good"))
    public.write_bytes(keys.public("good"))
    printed("trust", "set", "--policy", policy, "--type", "signedBy", "--key", public, registry)
    skopeo = [
        "skopeo",
        "--registries.d",
        str(own_folders / "registries.d"),
        "--policy",
        str(policy),
    ]
    copy = ["copy", "--src-tls-verify=false", f"docker://{target}"]
    trust_parts.call(*skopeo, *copy, f"dir:{own_folders}/one", ok=False)
    printed("image", "sign", "--tls-verify=false", "--gpg-key", secret, target)
    trust_parts.call(*skopeo, *copy, f"dir:{own_folders}/two")
    assert "signedBy" in printed("trust", "test", "--tls-verify=false", "--policy", policy, target)


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_cli_notation_signature_is_made_and_verified(
    form: str, layout: pathlib.Path, policy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root = certificates.make_authority("root")
    signer = certificates.make_signer("signer", root)
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(signer.secret())
    chain.write_bytes(signer.chain_pem())
    store = tmp_path / "config" / "notation" / "truststore" / "x509" / "ca" / "own"
    store.mkdir(parents=True)
    (store / "root.pem").write_bytes(root.pem())
    statement = {
        "name": "all",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:own"],
        "trustedIdentities": ["x509.subject: C=NL, ST=Utrecht, O=Viscum"],
    }
    document = {"version": "1.0", "trustPolicies": [statement]}
    (tmp_path / "config" / "notation" / "trustpolicy.json").write_text(json.dumps(document))
    printed("trust", "set", "--policy", policy, "--type", "notationSigned", "oci:")
    image = f"oci:{layout}:v1"
    assert "Notary Project" in refused("trust", "test", "--policy", policy, image)
    printed("image", "sign", "--notation-key", key, "--certificates", chain, "--envelope", form,
            "--expires", "30", image)  # fmt: skip
    assert "CN=signer" in printed("image", "verify", "--policy", policy, image)


@needs("notary")
def test_cli_notary_server_says_what_a_tag_is(shop: pathlib.Path) -> None:
    with notary_service.notary(shop / "notary-cli") as notary:
        notary.client("init", "-p", "example.com/app")
        notary.add("example.com/app", "v1", ONE)
        words = ["image", "verify", "--notary-server", notary.url]
        first = call(*words, "example.com/app:v1")
        assert ONE in first.stdout.decode()
        assert "not known before" in first.stderr.decode()
        again = call(*words, "--format", "json", "example.com/app:v1")
        assert again.stderr == b""
        assert json.loads(again.stdout)["pinned"]
        assert "no signed tag" in refused(*words, "example.com/app:v2")


def test_cli_policy_is_shown(policy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("")
    words = ["--policy", policy, "--type", "signedBy", "--key", tmp_path / "key"]
    printed("trust", "set", *words, "--signed-identity", "matchRepository", "example.com/team")
    table = printed("trust", "show", "--policy", policy)
    assert "example.com/team" in table
    assert "matchRepository" in table
    rows = json.loads(printed("trust", "show", "--policy", policy, "--format", "json"))
    assert [row["Type"] for row in rows] == ["reject", "signedBy"]
    one = json.loads(
        printed("trust", "show", "--policy", policy, "--format", "json", "example.com/team/app")
    )
    assert [row["Scope"] for row in one] == ["example.com/team"]


def test_cli_policy_is_changed_with_care(policy: pathlib.Path) -> None:
    policy.chmod(0o640)
    printed("trust", "set", "--policy", policy, "--type", "accept", "docker.io")
    printed("trust", "set", "--policy", policy, "--type", "reject", "docker.io/library/evil:1")
    assert stat.S_IMODE(policy.stat().st_mode) == 0o640
    before = policy.read_bytes()
    for words in (
        ["--type", "signedBy", "example.com"],
        ["--type", "signedBy", "--key", "/no/such/key", "example.com"],
        ["--type", "other", "example.com"],
        ["--type", "accept", "--key", "/etc/passwd", "example.com"],
        ["--type", "reject", "a*.example.com"],
        ["--type", "reject", "dir:relative"],
        ["--remove", "example.com"],
        ["--remove", "default"],
        ["--type", "reject"],
    ):
        refused("trust", "set", "--policy", policy, *words)
        assert policy.read_bytes() == before
    printed("trust", "set", "--policy", policy, "--remove", "docker.io")
    assert list(json.loads(policy.read_text())["transports"]["docker"]) == [
        "docker.io/library/evil:1"
    ]
    assert [path.name for path in policy.parent.glob("policy.json*")] == ["policy.json"]


@pytest.mark.parametrize(
    "scope",
    ["busybox", "team/app", "example.com/Team", "Example.com", "*.example.com/a", "*", "a b.c/d",
     "docker://busybox", "example.com/app:", "example.com//app", "/example.com"],
)  # fmt: skip
def test_cli_scope_that_no_image_has_is_refused(scope: str, policy: pathlib.Path) -> None:
    """A rule that can never be in force would protect nobody who relies on it."""
    before = policy.read_bytes()
    text = refused("trust", "set", "--policy", policy, "--type", "reject", scope)
    assert "no image falls under" in text
    assert policy.read_bytes() == before


def test_cli_many_change_a_policy_at_once(policy: pathlib.Path) -> None:
    """Twenty at once: nothing is lost, and whoever reads meanwhile reads a whole policy."""
    link = policy.parent / "link.json"
    link.symlink_to(policy)
    policy.chmod(0o640)
    words = ["trust", "set", "--policy", str(link), "--type", "accept"]
    started = [start(*words, f"registry{number}.example.com/team") for number in range(20)]
    while any(each.poll() is None for each in started):
        parse_policy(policy.read_bytes(), "policy")
    for each in started:
        assert each.wait(60) == 0
        each.stdout.close()
    scopes = json.loads(policy.read_text())["transports"]["docker"]
    assert set(scopes) == {f"registry{number}.example.com/team" for number in range(20)}
    assert link.is_symlink()
    assert stat.S_IMODE(policy.stat().st_mode) == 0o640
    assert sorted(path.name for path in policy.parent.glob("*.json*")) == [
        "link.json",
        "policy.json",
    ]


def test_cli_change_that_was_killed_leaves_nothing_in_the_way(policy: pathlib.Path) -> None:
    (policy.parent / "policy.json.new").write_text("half")
    printed("trust", "set", "--policy", policy, "--type", "accept", "example.com")
    assert [path.name for path in policy.parent.glob("policy.json*")] == ["policy.json"]


def test_cli_change_keeps_what_it_does_not_know_how_to_write(policy: pathlib.Path) -> None:
    """Rules that `trust set` makes none of stay as they are."""
    pki = {"caRootsPath": "/r", "caIntermediatesPath": "/i", "subjectEmail": "a@b.c"}
    stated = {
        "default": [{"type": "reject"}],
        "transports": {
            "atomic": {"": [{"type": "reject"}]},
            "docker": {"a.example.com": [{"type": "sigstoreSigned", "pki": pki}]},
        },
    }
    policy.write_text(json.dumps(stated))
    printed("trust", "set", "--policy", policy, "--type", "accept", "b.example.com")
    stated["transports"]["docker"]["b.example.com"] = [{"type": "insecureAcceptAnything"}]  # type: ignore[index]
    assert json.loads(policy.read_text()) == stated


def test_cli_malformed_policy_is_not_changed(policy: pathlib.Path) -> None:
    policy.write_text('{"default": [{"type": "reject"}], "more": 1}')
    before = policy.read_bytes()
    assert "unknown key 'more'" in refused(
        "trust", "set", "--policy", policy, "--type", "accept", "default"
    )
    assert policy.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["image", "verify"],
        ["image", "verify", "a", "b"],
        ["image", "verify", "UPPER"],
        ["image", "verify", "--policy", "/no/such/policy", "dir:/tmp"],
        ["image", "verify", "--format", "xml", "dir:/no/such/image"],
        ["image", "verify", "dir:/no/such/image"],
        ["image", "verify", "oci:/no/such/layout"],
        ["image", "verify", "docker-archive:/no/such/file"],
        ["image", "verify", "--notary-server", "localhost", "a.io/b:1"],
        ["image", "verify", "--notary-server", "http://127.0.0.1:1", "a.io/b:1"],
        ["image", "verify", "--notary-server", "http://127.0.0.1:1", "dir:/tmp"],
        ["image", "verify", "--tls-verify=false", "127.0.0.1:1/a:1"],
        ["image", "sign", "dir:/tmp"],
        ["image", "sign", "--cosign-key", "/no/such/key", "dir:/no/such/image"],
        ["trust", "show", "a", "b"],
        ["trust", "show", "--format", "xml"],
        ["trust", "test"],
    ],
    ids=" ".join,
)
def test_cli_senseless_words_are_one_clear_error(words: list[str]) -> None:
    assert_refused(call(*words))


@pytest.mark.parametrize(
    "words",
    [
        ["--cosign-key", "{folder}/key"],
        ["--gpg-key", "{folder}/key"],
        ["--notation-key", "{folder}/key"],
        ["--notation-key", "{folder}/key", "--certificates", "{folder}/key"],
        ["--cosign-key", "{folder}/key", "--identity", "a:b:c"],
    ],
)
def test_cli_key_that_is_none_signs_nothing(
    words: list[str], layout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "key").write_text("no key")
    before = sorted(layout.rglob("*"))
    given = [word.replace("{folder}", str(tmp_path)) for word in words]
    refused("image", "sign", *given, f"oci:{layout}:v1")
    assert sorted(layout.rglob("*")) == before
