"""References, registries.conf, platforms and credentials, without any registry."""

from __future__ import annotations

import base64
import json
import pathlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscum.errors import ImageError
from viscum.image import auth
from viscum.image.manifest import Descriptor
from viscum.image.platforms import choose, parse_platform
from viscum.image.reference import Reference, parse_reference, split_transport
from viscum.image.registries import read_registries

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "docker.io/library/debian"),
        ("debian:12", "docker.io/library/debian:12"),
        ("user/app:v1.2-x_y", "docker.io/user/app:v1.2-x_y"),
        ("index.docker.io/library/debian", "docker.io/library/debian"),
        ("docker.io/debian", "docker.io/library/debian"),
        ("localhost/app", "localhost/app"),
        ("localhost:5000/a/b/c:t", "localhost:5000/a/b/c:t"),
        ("example.com/a__b/c-d.e:1", "example.com/a__b/c-d.e:1"),
        ("[2001:db8::1]:5000/x", "[2001:db8::1]:5000/x"),
        (f"quay.io/a/b:t@{DIGEST}", f"quay.io/a/b:t@{DIGEST}"),
        ("Example.COM/x", "Example.COM/x"),
    ],
)
def test_reference_is_expanded(text: str, full: str) -> None:
    assert str(parse_reference(text)) == full
    assert parse_reference(full) == parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            "@",
            "/",
            "a:",
            "a@",
            "A",
            "Debian:12",
            "a//b",
            "a/../b",
            "-a",
            "a-",
            "a_",
            "a___b",
        ),
        *("a:b:c/d", "a:" + "x" * 129, "a" * 256, "b" * 64, "a b", "a\n", "a\0b", "a:é", "é"),
        *(
            "a@sha256:" + "a" * 63,
            "a@sha256:" + "A" * 64,
            "a@md5:" + "a" * 32,
            "https://a/b",
            "a.b/",
        ),
        *("exa_mple.com/x", "a:-t", "a:.t", "x" * 5000),
    ],
)
def test_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_reference(text)
    assert caught.value.hint or "digest" in caught.value.message
    assert "\n" not in caught.value.message


@given(st.text(max_size=80) | st.from_regex(r"[a-z./:@-]{0,60}", fullmatch=True))
def test_reference_is_stable_or_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except ImageError:
        return
    assert parse_reference(str(found)) == found
    assert set(found.repository) <= set(string.ascii_letters + string.digits + "._-/:[]")
    assert ".." not in found.path.split("/")


def test_transport_is_split() -> None:
    assert split_transport("docker://a/b") == ("docker", "a/b")
    assert split_transport("oci:/x/y:z") == ("oci", "/x/y:z")
    assert split_transport("debian:12") == ("docker", "debian:12")
    for text in ("ftp://x", "docker:x", "containers-storage:x"):
        with pytest.raises(ImageError):
            split_transport(text)


# registries.conf


def conf(tmp_path: pathlib.Path, text: str) -> object:
    path = tmp_path / "registries.conf"
    path.write_text(text)
    return read_registries([str(path)])


RULES = """
unqualified-search-registries = ["one.example", "two.example:5000"]
[[registry]]
prefix = "example.com/foo"
location = "inside.example/bar"
[[registry.mirror]]
location = "mirror.example/m"
insecure = true
[[registry.mirror]]
location = "digests.example/m"
pull-from-mirror = "digest-only"
[[registry]]
location = "example.com"
insecure = true
[[registry]]
prefix = "*.wild.example"
blocked = true
[[registry]]
prefix = "example.com/foo/exact:1"
location = "pinned.example/x"
[aliases]
short = "real.example/team/short"
"""


def places(registries: object, text: str, **options: bool) -> list[str]:
    found = registries.endpoints(parse_reference(text), **options)
    return [f"{each.registry}/{each.path}" + ("!" if each.insecure else "") for each in found]


def test_registries_rewrite_by_the_longest_prefix(tmp_path: pathlib.Path) -> None:
    found = conf(tmp_path, RULES)
    mirrored = ["mirror.example/m/app!", "inside.example/bar/app"]
    assert places(found, "example.com/foo/app:2") == mirrored
    by_digest = [mirrored[0], "digests.example/m/app", mirrored[1]]
    assert places(found, f"example.com/foo/app@{DIGEST}") == by_digest
    assert places(found, "example.com/foobar") == ["example.com/foobar!"]
    assert places(found, "example.com/foo/exact:1") == ["pinned.example/x"]
    assert places(found, "other.example/x") == ["other.example/x"]
    assert places(found, "example.com/foo/app:2", writes=True) == ["example.com/foo/app"]


def test_registries_block_wildcards(tmp_path: pathlib.Path) -> None:
    found = conf(tmp_path, RULES)
    for name in ("a.wild.example/x", "a.b.wild.example/x"):
        with pytest.raises(ImageError, match="blocked"):
            places(found, name)
    assert places(found, "wild.example/x") == ["wild.example/x"]


def test_short_names_are_resolved(tmp_path: pathlib.Path) -> None:
    found = conf(tmp_path, RULES)
    assert [str(each) for each in found.candidates("short:3")] == ["real.example/team/short:3"]
    searched = ["one.example/app", "two.example:5000/app"]
    assert [str(each) for each in found.candidates("app")] == searched
    assert [str(each) for each in found.candidates("x.io/app")] == ["x.io/app"]
    with pytest.raises(ImageError, match="neither an alias"):
        conf(tmp_path, "").candidates("app")
    with pytest.raises(ImageError, match="could be of"):
        conf(tmp_path, 'short-name-mode="enforcing"\n' + RULES).candidates("app")
    assert [str(r) for r in read_registries([]).candidates("app")] == ["docker.io/library/app"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[registries.search]\nregistries=['x']",
            "unqualified-search-registries = 'x'",
            "[[registry]]",
        ),
        *(
            "short-name-mode = 'often'",
            "[[registry]]\nlocation='https://x'",
            "a = [",
            "[aliases]\na=1",
        ),
        *(
            "[aliases]\na='b'",
            "[aliases]\na='x.io/b:1'",
            "[[registry]]\nlocation='x'\nblocked='yes'",
        ),
        "[[registry]]\nlocation='x'\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='some'",
    ],
)
def test_registries_are_read_strictly(tmp_path: pathlib.Path, text: str) -> None:
    with pytest.raises(ImageError) as caught:
        conf(tmp_path, text)
    assert "registries.conf" in caught.value.message


def test_the_own_configuration_is_the_same_as_podman_would_read() -> None:
    read_registries()  # what this host has is understood


# Platforms.


def offered(*texts: str) -> list[Descriptor]:
    return [
        Descriptor("x", f"sha256:{n:064}", 1, platform=parse_platform(text))
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("wanted", "best"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("arm", "linux/arm/v7"),
    ],
)
def test_platform_is_chosen(wanted: str, best: str) -> None:
    texts = ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/amd64", "linux/s390x"]
    found = choose(parse_platform(wanted), offered(*texts), "index")
    assert found == offered(*texts)[texts.index(best)]


def test_platform_that_is_not_offered_is_named() -> None:
    with pytest.raises(ImageError, match="nothing for linux/riscv64") as caught:
        choose(parse_platform("linux/riscv64"), offered("linux/amd64", "linux/arm64"), "index")
    assert "linux/amd64" in caught.value.hint
    for text in ("a/b/c/d", "linux/!", "é"):
        with pytest.raises(ImageError):
            parse_platform(text)


# Credentials.


def test_credentials_of_the_most_specific_name_win(tmp_path: pathlib.Path) -> None:
    def coded(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:p:q".encode()).decode()}

    path = tmp_path / "auth.json"
    auths = {
        "r.example": coded("host"),
        "r.example/team": coded("team"),
        "https://old.example/v1/": coded("old"),
        "https://index.docker.io/v1/": coded("hub"),
    }
    path.write_text(json.dumps({"auths": auths}))

    def user(registry: str, repository: str = "") -> str:
        found = auth.find_credentials(registry, repository, file=str(path))
        return f"{found.user}/{found.password}" if found else ""

    assert user("r.example", "other/app") == "host/p:q"
    assert user("r.example", "team/app") == "team/p:q"
    assert user("r.example", "teams/app") == "host/p:q"
    assert user("old.example", "x") == "old/p:q"
    assert user("docker.io", "library/x") == "hub/p:q"
    assert user("evil.example", "r.example/team") == ""


def test_credential_helpers_are_asked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread host\n"
        '[ "$host" = none.example ] && { echo credentials not found; exit 1; }\n'
        '[ "$host" = bad.example ] && { echo no keyring; exit 1; }\n'
        'echo "{\\"Username\\":\\"u-$host\\",\\"Secret\\":\\"s\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "auth.json"
    path.write_text('{"credHelpers":{"r.example":"test"},"credsStore":"test"}')
    found = auth.find_credentials("r.example", file=str(path))
    assert found and (found.user, found.password) == ("u-r.example", "s")
    assert auth.find_credentials("none.example", file=str(path)) is None
    with pytest.raises(ImageError, match="no keyring"):
        auth.find_credentials("bad.example", file=str(path))
    for name in ("missing", "../x", "a/b"):
        path.write_text(json.dumps({"credsStore": name}))
        with pytest.raises(ImageError, match="credential helper"):
            auth.find_credentials("r.example", file=str(path))


def test_credentials_are_kept_for_the_owner_only(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "auth.json"
    auth.remember(str(path), "r.example", auth.Credentials("u", "p"))
    auth.remember(str(path), "s.example", auth.Credentials("v", "q"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert auth.find_credentials("r.example", file=str(path)) == auth.Credentials("u", "p")
    assert auth.forget(str(path), "r.example") == ["r.example"]
    assert auth.find_credentials("r.example", file=str(path)) is None
    assert auth.forget(str(path), None) == ["s.example"]


@pytest.mark.parametrize(
    "text", ['{"auths":[]}', "[", '{"auths":{"r":{"auth":"%"}}}', '{"a":1,"a":2}']
)
def test_malformed_credentials_are_an_error(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    with pytest.raises(ImageError, match=r"auth\.json"):
        auth.find_credentials("r", file=str(path))


def test_reference_has_a_target() -> None:
    assert Reference("a/b").target == "latest"
    assert Reference("a/b", "1").target == "1"
    assert Reference("a/b", "1", DIGEST).target == DIGEST
