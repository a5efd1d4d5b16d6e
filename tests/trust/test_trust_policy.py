"""Policies: read strictly, the most specific scope decides, names compared as the rules say."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import warnings
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import trust_parts
from hypothesis import strategies as st

import viscum.trust
from viscum.errors import TrustError, ViscumWarning
from viscum.trust import policy as policies
from viscum.trust.identities import parse_identity
from viscum.trust.references import Name, parse_image, parse_name
from viscum.trust.scopes import scopes
from viscum.trust.storage import Storage, find_storage
from viscum.trust.strict import read_json
from viscum.trust.yamlsubset import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}
KEY = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/key.gpg"}


def parse(policy: object, **options: Any) -> policies.Policy:
    data = policy if isinstance(policy, bytes) else json.dumps(policy).encode()
    return policies.parse_policy(data, "policy.json", **options)


def with_rule(rule: object) -> dict[str, Any]:
    return {"default": [REJECT], "transports": {"docker": {"example.com/a": [rule]}}}


def test_policy_of_the_manual_page_is_read() -> None:
    remap = {
        "type": "remapIdentity",
        "prefix": "mirror:5000/vendor",
        "signedPrefix": "vendor.example",
    }
    scopes_of_docker = {
        "docker.io/openshift": [ACCEPT],
        "docker.io/library/busybox": [ACCEPT],
        "*.temporary-project.example.com": [ACCEPT],
        "hostname:5000/myns/sigstore": [{"type": "sigstoreSigned", "keyPath": "/path/key.pub"}],
        "hostname:5000/vendor/product": [
            {
                **KEY,
                "signedIdentity": {"type": "exactRepository", "dockerRepository": "v.example/p/r"},
            },
            {**KEY},
        ],
        "mirror:5000/vendor": [{**KEY, "signedIdentity": remap}],
    }
    stated = {
        "default": [REJECT],
        "transports": {"docker": scopes_of_docker, "dir": {"": [ACCEPT]}},
    }
    found = parse(stated)
    assert len(found.transports["docker"]["hostname:5000/vendor/product"]) == 2
    assert found.choose(parse_image("dir:/srv/image")).scope == ""


BAD: dict[str, tuple[object, str]] = {
    "empty": (b"", "is not JSON"),
    "no default": ({}, r"\$: lacks the key 'default'"),
    "unknown key": ({"default": [ACCEPT], "more": 1}, r"\$: unknown key 'more'"),
    "no rules": ({"default": []}, r"\$\.default: must not be empty"),
    "rules are an object": ({"default": ACCEPT}, r"\$\.default: must be an array"),
    "no type": (with_rule({}), r'\["example\.com/a"\]\[0\]: lacks the key \'type\''),
    "unknown type": (with_rule({"type": "signed"}), "'signed' is no kind of rule"),
    "type is a number": (with_rule({"type": 1}), r"\.type: must be a string"),
    "more in accept": (with_rule({**ACCEPT, "keyPath": "/a"}), "unknown key 'keyPath'"),
    "key type": (with_rule({**KEY, "keyType": "X509"}), "'X509' is unknown"),
    "no key type": (with_rule({"type": "signedBy", "keyPath": "/a"}), "lacks the key 'keyType'"),
    "no key": (with_rule({"type": "signedBy", "keyType": "GPGKeys"}), "exactly one of keyPath"),
    "two keys": (with_rule({**KEY, "keyData": "AAAA"}), "exactly one of keyPath"),
    "no key paths": (
        with_rule({"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}),
        "keyPaths: must not be empty",
    ),
    "not base64": (
        with_rule({"type": "signedBy", "keyType": "GPGKeys", "keyData": "@"}),
        "keyData: is not base64",
    ),
    "relative": (with_rule({**KEY, "keyPath": "key"}), "no absolute path"),
    "identity kind": (with_rule({**KEY, "signedIdentity": {"type": "any"}}), "'any' is unknown"),
    "identity without name": (
        with_rule({**KEY, "signedIdentity": {"type": "exactReference"}}),
        "lacks the key 'dockerReference'",
    ),
    "identity without tag": (
        with_rule({**KEY, "signedIdentity": {"type": "exactReference", "dockerReference": "a.io/b"}}),
        "neither tag nor digest",
    ),
    "identity with more": (
        with_rule({**KEY, "signedIdentity": {"type": "matchExact", "prefix": "a"}}),
        "unknown key 'prefix'",
    ),
    "prefix with a tag": (
        with_rule({**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "a/b:c", "signedPrefix": "d"}}),
        "no registry, namespace or repository",
    ),
    "key and fulcio": (
        with_rule({"type": "sigstoreSigned", "keyPath": "/a", "fulcio": {}}),
        "exactly one of a key, fulcio and pki",
    ),
    "fulcio without rekor": (
        with_rule({"type": "sigstoreSigned", "fulcio": {"caPath": "/a", "oidcIssuer": "b", "subjectEmail": "c"}}),
        "fulcio needs rekorPublicKeyPath",
    ),
    "fulcio without anybody": (
        with_rule({"type": "sigstoreSigned", "fulcio": {"caPath": "/a", "oidcIssuer": "b"}, "rekorPublicKeyPath": "/r"}),
        "lacks the key 'subjectEmail'",
    ),
    "pki with rekor": (
        with_rule({"type": "sigstoreSigned", "pki": {"caRootsPath": "/a", "subjectEmail": "c"}, "rekorPublicKeyPath": "/r"}),
        "pki does not go",
    ),
    "pki without anybody": (
        with_rule({"type": "sigstoreSigned", "pki": {"caRootsPath": "/a"}}),
        "needs subjectEmail or subjectHostname",
    ),
    "bundle without anybody": (
        with_rule({"type": "sigstoreBundle", "trustedRootPath": "/a"}),
        "lacks the key 'identities'",
    ),
    "bundle with anybody": (
        with_rule({"type": "sigstoreBundle", "trustedRootPath": "/a", "identities": []}),
        "identities: must not be empty",
    ),
    "wildcard within": ({"default": [ACCEPT], "transports": {"docker": {"a*.example.com": [ACCEPT]}}}, "wildcard"),
    "wildcard and path": ({"default": [ACCEPT], "transports": {"docker": {"*.*.com": [ACCEPT]}}}, "wildcard"),
    "root folder": ({"default": [ACCEPT], "transports": {"dir": {"/": [ACCEPT]}}}, "absolute path below"),
    "relative folder": ({"default": [ACCEPT], "transports": {"oci": {"a": [ACCEPT]}}}, "absolute path below"),
    "dots in a folder": ({"default": [ACCEPT], "transports": {"dir": {"/a/../b": [ACCEPT]}}}, "must not hold"),
    "doubled key": (b'{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}', "twice"),
    "doubled scope": (
        b'{"default": [{"type": "reject"}], "transports": {"docker": {"a": [], "a": []}}}',
        r"\$\.transports\.docker: 'a' stands there twice",
    ),
    "not UTF-8": (b'{"default": "\xff"}', "is not JSON"),
    "NaN": (b'{"default": NaN}', "is not JSON"),
    "trailing": (b'{"default": [{"type": "reject"}]} x', "is not JSON"),
    "deep": (b'{"default": ' + b"[" * 100_000, "nested|not JSON"),
    "rather deep": (b'{"default": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 64"),
    "large": (b" " * (5 << 20), "more than"),
    "unknown transport": ({"default": [ACCEPT], "transports": {"dokcer": {"": [REJECT]}}}, "unknown transport 'dokcer'"),
    "endless number": (b'{"default": ' + b"9" * 10_000 + b"}", "is not JSON|must be an array"),
    "null": (b"null", "must be an object"),
    "text": (b'"reject"', "must be an object"),
    "null for transports": ({"default": [ACCEPT], "transports": None}, "transports: must be an object"),
    "null for rules": ({"default": None}, "must be an array"),
    "capital key": ({"Default": [REJECT]}, "unknown key 'Default'"),
    "byte order mark": (b'\xef\xbb\xbf{"default": [{"type": "reject"}]}', "is not JSON"),
    "UTF-16": ('{"default": [{"type": "reject"}]}'.encode("utf-16"), "is not JSON"),
    "doubled type": (b'{"default": [{"type": "insecureAcceptAnything", "type": "reject"}]}', "twice"),
    "doubled by an escape": (b'{"default": [{"type": "reject"}], "d\\u0065fault": [{"type": "reject"}]}', "twice"),
    "scope in an archive": ({"default": [ACCEPT], "transports": {"docker-archive": {"/a": [REJECT]}}}, "no scopes but"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_policy_that_is_no_good_is_refused(case: str) -> None:
    stated, reason = BAD[case]
    with pytest.raises(TrustError, match=reason) as caught:
        parse(stated)
    assert caught.value.message.startswith("policy.json: ")


@pytest.mark.parametrize("kind", ["sigstoreBundle", "notationSigned"])
def test_rules_that_podman_lacks_are_refused_in_its_file(kind: str) -> None:
    with pytest.raises(TrustError, match="Podman would refuse"):
        parse(with_rule({"type": kind}), own=False)


def test_policy_of_podman_means_the_same_file(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VISCUM_POLICY", raising=False)
    own, theirs = (tmp_path / ".config" / name for name in ("viscum", "containers"))
    theirs.mkdir(parents=True)
    (theirs / "policy.json").write_text(json.dumps({"default": [REJECT]}))
    assert policies.find_policy() == (str(theirs / "policy.json"), False)
    own.mkdir()
    (own / "policy.json").write_text(json.dumps({"default": [ACCEPT]}))
    assert policies.find_policy() == (str(own / "policy.json"), True)


# Scopes.


def chosen(reference: str, *known: str, transport: str = "docker") -> str | None:
    stated = {"default": [REJECT], "transports": {transport: {scope: [ACCEPT] for scope in known}}}
    choice = parse(stated).choose(parse_image(reference))
    return choice.scope if choice.transport else None


@pytest.mark.parametrize(
    ("reference", "scope"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("docker://index.docker.io/a/b:1", "docker.io/a/b"),
        ("example.com/a/b:1", "example.com/a/b:1"),
        ("example.com/a/b:1", "example.com/a/b"),
        ("example.com/a/b:1", "example.com/a"),
        ("example.com/a/b:1", "example.com"),
        ("example.com/a/b:1", "*.com"),
        ("hub.example.com:5000/a", "hub.example.com:5000"),
        ("hub.example.com:5000/a", "*.example.com"),
        ("a.b.example.com/c", "*.example.com"),
        ("localhost/a", "localhost"),
        ("example.com/a", ""),
        ("example.com/a@sha256:" + "0" * 64, "example.com/a@sha256:" + "0" * 64),
        ("example.com/a:1@sha256:" + "0" * 64, "example.com/a@sha256:" + "0" * 64),
    ],
)
def test_scope_of_an_image_is_found(reference: str, scope: str) -> None:
    assert chosen(reference, scope) == scope


@pytest.mark.parametrize(
    ("reference", "scope"),
    [
        ("example.com/ab:1", "example.com/a"),
        ("example.com:5000/a", "example.com"),
        ("example.com/a:1", "*.example.com"),
        ("notexample.com/a", "*.example.com"),
        ("example.com/a:1", "example.com/a:2"),
        ("busybox", "busybox"),
    ],
)
def test_scope_of_another_image_is_not(reference: str, scope: str) -> None:
    assert chosen(reference, scope) is None


def test_spelling_of_a_host_leads_past_no_scope() -> None:
    policy = parse(
        {"default": [ACCEPT], "transports": {"docker": {"example.com": [REJECT], "*.io": [REJECT]}}}
    )
    for text in ("EXAMPLE.com/team/app", "Example.Com/a:1", "Docker.IO/library/a"):
        assert policy.choose(parse_image(text)).scope in ("example.com", "*.io")
    assert str(parse_image("Docker.io/a")) == "docker://docker.io/a:latest"  # as it is fetched


def test_most_specific_scope_decides() -> None:
    known = ["", "*.com", "example.com", "example.com/a", "example.com/a/b", "example.com/a/b:1"]
    for count in range(1, len(known) + 1):
        assert chosen("example.com/a/b:1", *known[:count]) == known[count - 1]


def test_scopes_of_folders_are_the_folders_above(tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    (tmp_path / "link").symlink_to(image)
    for transport, tag in (("dir", ""), ("oci", ":v1")):
        asked = f"{transport}:{tmp_path}/link{tag}"
        assert chosen(asked, str(image) + tag, transport=transport) == str(image) + tag
        assert chosen(asked, str(tmp_path), transport=transport) == str(tmp_path)
        assert chosen(asked, f"{tmp_path}/ima", transport=transport) is None


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a b", "a:", "a@sha256:1", "a/../b", "-a", "a//b", "a:b:c", "docker://", "a\n", "dir:",
     "a@md5:" + "0" * 32, "0" * 64, "a/" * 200 + "a", "a" * 1_000_000 + "!", "a:" + "t" * 129, "á"],
)  # fmt: skip
def test_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TrustError):
        parse_image(text)


# Identities.


def accepts(rule: dict[str, str], image: str, claimed: str) -> bool:
    identity = parse_identity(read_json(json.dumps(rule).encode(), "rule"))
    try:
        identity.check(parse_image(image), claimed)
    except TrustError:
        return False
    return True


DIGEST = "@sha256:" + "0" * 64
MATCHES = [
    ("matchExact", "a.io/b:1", "a.io/b:1", True),
    ("matchExact", "a.io/b:1", "a.io/b:2", False),
    ("matchExact", "a.io/b:1", "a.io/b", False),
    ("matchExact", f"a.io/b{DIGEST}", "a.io/b:1", False),
    ("matchExact", "busybox", "docker.io/library/busybox:latest", True),
    ("matchExact", "busybox", "busybox", False),
    ("matchRepoDigestOrExact", "a.io/b:1", "a.io/b:1", True),
    ("matchRepoDigestOrExact", "a.io/b:1", "a.io/b:2", False),
    ("matchRepoDigestOrExact", "a.io/b:1", "a.io/b", False),
    ("matchRepoDigestOrExact", f"a.io/b{DIGEST}", "a.io/b:2", True),
    ("matchRepoDigestOrExact", f"a.io/b{DIGEST}", "a.io/c:2", False),
    ("matchRepository", "a.io/b:1", "a.io/b:2", True),
    ("matchRepository", "a.io/b:1", "a.io/b", True),
    ("matchRepository", "a.io/b:1", "a.io/bc:1", False),
]


@pytest.mark.parametrize(("kind", "image", "claimed", "good"), MATCHES)
def test_identity_is_compared(kind: str, image: str, claimed: str, good: bool) -> None:
    assert accepts({"type": kind}, image, claimed) is good


def test_exact_identities_are_compared() -> None:
    reference = {"type": "exactReference", "dockerReference": "a.io/b:1"}
    assert accepts(reference, "other.io/x:9", "a.io/b:1")
    assert not accepts(reference, "a.io/b:1", "a.io/b:2")
    assert not accepts(reference, "a.io/b:1", "a.io/b")
    repository = {"type": "exactRepository", "dockerRepository": "a.io/b"}
    assert accepts(repository, "other.io/x:9", "a.io/b:2")
    assert not accepts(repository, "a.io/b:1", "a.io/c:1")


def test_remapped_identity_is_compared() -> None:
    remap = {"type": "remapIdentity", "prefix": "mirror:5000/v", "signedPrefix": "vendor.example"}
    assert accepts(remap, "mirror:5000/v/app:1", "vendor.example/app:1")
    assert not accepts(remap, "mirror:5000/v/app:1", "mirror:5000/v/app:1")
    assert not accepts(remap, "mirror:5000/v/app:1", "vendor.example/app:2")
    assert accepts(remap, "mirror:5000/vv/app:1", "mirror:5000/vv/app:1")  # no such prefix
    assert not accepts(remap, "mirror:5000/vv/app:1", "vendor.example/v/app:1")
    host = {"type": "remapIdentity", "prefix": "mirror:5000", "signedPrefix": "vendor.example/x"}
    assert accepts(host, "mirror:5000/app:1", "vendor.example/x/app:1")
    assert accepts(host, "mirror:50001/app:1", "mirror:50001/app:1")


# Where signatures are kept.


def test_storage_of_the_most_specific_scope_is_used(own_folders: pathlib.Path) -> None:
    folder = own_folders / "registries.d"
    (folder / "a.yaml").write_text(
        "# comment\ndefault-docker:\n  lookaside: file:///d # here\n\ndocker:\n"
        "  example.com:\n    sigstore: https://s.example.com\n"
        "    sigstore-staging: file:///staging\n"
    )
    (folder / "b.yaml").write_text(
        'docker:\n  "example.com/team:v1":\n    use-sigstore-attachments: true\n'
    )
    (folder / "ignored.txt").write_text("[")
    first = find_storage(parse_name("example.com/other:v1"))
    assert (first.lookaside, first.writable) == ("https://s.example.com", "file:///staging")
    assert find_storage(parse_name("example.com/team:v1")).attachments
    assert find_storage(parse_name("example.com:5000/team")).lookaside == "file:///d"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("docker: []\n", "not understood"),
        ("docker:\n\ta: b\n", "tab"),
        ("other:\n  a: b\n", "unknown key"),
        ("docker:\n  a:\n    lookasid: b\n", "unknown key"),
        ("docker:\n  a:\n    lookaside: true\n", "wrong type"),
        ("docker:\n  a:\n    use-sigstore-attachments: yes please\n", "wrong type"),
        ("docker:\n  a:\n    lookaside: b\n    sigstore: c\n", "other name"),
        ("docker:\n  a:\n    lookaside: b\n  a:\n    lookaside: c\n", "twice"),
        ("docker:\n  a:\n    lookaside: b\n   b:\n", "indented"),
        ("docker:\n  a: text\n", "must be a mapping"),
        ("docker:\n  - a\n", "no KEY: VALUE"),
        ("docker:\n  a: &anchor\n", "not understood"),
        ("just text\n", "no KEY: VALUE"),
    ],
)
def test_storage_that_is_malformed_is_refused(
    text: str, reason: str, own_folders: pathlib.Path
) -> None:
    (own_folders / "registries.d" / "a.yaml").write_text(text)
    with pytest.raises(TrustError, match=reason):
        find_storage(parse_name("example.com/a:1"))


def test_storage_of_one_scope_in_two_files_is_refused(own_folders: pathlib.Path) -> None:
    for name in ("a", "b"):
        path = own_folders / "registries.d" / f"{name}.yaml"
        path.write_text("docker:\n  example.com:\n    lookaside: file:///a\n")
    with pytest.raises(TrustError, match="in another file too"):
        find_storage(parse_name("example.com/a:1"))


def test_storage_without_configuration_is_that_of_podman() -> None:
    found = find_storage(parse_name("example.com/a:1"))
    own = (
        "/var/lib/containers/sigstore" if os.geteuid() == 0 else "/.local/share/containers/sigstore"
    )
    assert found.lookaside.endswith(own)
    assert isinstance(found, Storage)
    assert not found.attachments


# Decisions.


def test_decision_says_what_decided(layout: pathlib.Path, judge: Callable) -> None:
    decision = judge(f"oci:{layout}:v1", json.dumps(ACCEPT))
    assert (decision.scope, decision.transport, decision.rule) == ("", "", "$.default[0]")
    assert decision.identity == ""
    assert "accepted" in decision.why
    with pytest.raises(
        TrustError, match=r"refused by the default in test policy, rule \$\.default\[0\]"
    ):
        judge(f"oci:{layout}:v1", json.dumps(REJECT))


def test_manifest_with_another_digest_is_refused(layout: pathlib.Path) -> None:
    sources = trust_parts.open_sources(f"oci:{layout}:v1")
    for digest in ("sha256:" + "0" * 64, "sha256:0", "md5:" + "0" * 32, ""):
        with pytest.raises(TrustError, match="digest is not"):
            viscum.trust.check(
                f"oci:{layout}:v1",
                digest,
                sources.top(),
                sources,
                policy=parse({"default": [ACCEPT]}),
            )


def test_host_without_policy_says_so_once(
    layout: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "find_policy", lambda: ("", True))
    sources = trust_parts.open_sources(f"oci:{layout}:v1")
    manifest = sources.top()
    digest = trust_parts.digest_of(manifest)
    with pytest.warns(ViscumWarning, match="no policy"):
        viscum.trust.check(f"oci:{layout}:v1", digest, manifest, sources)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decision = viscum.trust.check(f"oci:{layout}:v1", digest, manifest, sources)
    assert decision.policy == "built-in default"


# Whatever comes.


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=12,
)
WORDS = st.sampled_from(
    "type keyType keyPath keyPaths keyData signedIdentity fulcio pki rekorPublicKeyPath identities "
    "trustedRootData caPath oidcIssuer subjectEmail prefix signedPrefix dockerReference".split()
)
KINDS = st.sampled_from(
    "insecureAcceptAnything reject signedBy sigstoreSigned sigstoreBundle notationSigned GPGKeys "
    "matchExact remapIdentity exactReference /etc/key AAAA".split()
)
RULES = st.dictionaries(
    WORDS, st.recursive(KINDS | JSON, lambda inner: st.dictionaries(WORDS, inner, max_size=4))
)


def refuses_or_reads(read: Callable[[bytes], object], data: bytes) -> None:
    try:
        read(data)
    except TrustError as error:
        assert error.message
        assert "\n" not in error.message


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refuses_or_reads(lambda each: policies.parse_policy(each, "any"), data)
    refuses_or_reads(lambda each: read_yaml(each, "any"), data)


@hypothesis.given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    refuses_or_reads(parse_any, json.dumps(value).encode())
    refuses_or_reads(parse_any, json.dumps({"default": value, "transports": value}).encode())


@hypothesis.given(st.lists(RULES, max_size=2), st.text(max_size=30))
def test_any_rules_are_read_or_refused(rules: list[object], scope: str) -> None:
    stated = {"default": rules, "transports": {"docker": {scope: rules}, "dir": {scope: rules}}}
    refuses_or_reads(parse_any, json.dumps(stated).encode())


def parse_any(data: bytes) -> object:
    return policies.parse_policy(data, "any")


@hypothesis.given(st.text(max_size=60) | st.from_regex(r"[a-z.:/@A-Z0-9-]{1,60}", fullmatch=True))
def test_any_reference_is_read_or_refused(text: str) -> None:
    try:
        name = parse_name(text)
    except TrustError:
        return
    assert parse_name(str(name)) == name  # what is expanded stays as it is


NAMES = st.builds(
    Name,
    st.from_regex(r"[a-z]{1,4}\.(io|com)(:[0-9]{2})?(/[a-z]{1,3}){1,3}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True),
)


@hypothesis.given(NAMES)
def test_any_image_falls_under_its_scopes_from_narrow_to_wide(name: Name) -> None:
    found = list(scopes(parse_image(str(name))))
    assert found[0] == str(name)
    assert found[-1] == ""
    plain = [scope for scope in found if scope and not scope.startswith("*")]
    assert all(plain[0].startswith(scope) for scope in plain)
    assert [len(scope) for scope in plain] == sorted((len(s) for s in plain), reverse=True)


@hypothesis.given(NAMES, NAMES)
def test_any_other_repository_is_refused_by_every_identity(name: Name, other: Name) -> None:
    hypothesis.assume(name.repository != other.repository)
    for kind in ("matchExact", "matchRepoDigestOrExact", "matchRepository"):
        assert not accepts({"type": kind}, str(name), str(other))


def test_key_data_stands_for_itself() -> None:
    data = base64.b64encode(b"key").decode()
    rule = {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}
    (found,) = parse(with_rule(rule)).transports["docker"]["example.com/a"]
    assert found.keys[0].read() == b"key"
