"""Pulling from and pushing to a real registry, with the tools that others use beside it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import callers
from imaging import (
    Layout,
    Server,
    archive,
    busybox_layer,
    certificates,
    digest,
    keep_as_folders,
    link,
    member,
    registry,
    run,
    tree,
)
from needs import needs
from viscum import Image, folders, image_exchange, image_pulling, images
from viscum.errors import ImageError
from viscum.image import auth
from viscum.image.platforms import parse_platform
from viscum.image.transport import Connection, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("image-tools")

PLAIN = Settings(tls_verify=False)
OWN = parse_platform(None)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A store for this test alone, and no configuration of this host's."""
    conf = folder / "registries.conf"
    conf.write_text('unqualified-search-registries = ["docker.io"]\n')
    keep_as_folders(folder / "data")
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    (folder / "auth.json").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(folder / "auth.json"))
    yield folder / "data"
    folders.remove_tree(str(folder / "data"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A few images, made by hand."""
    made = Layout(tmp_path_factory.mktemp("layout") / "l")
    shell = busybox_layer()
    top = archive(member("etc/version", b"2\n"), member("etc/.wh.passwd"))
    made.image("one", [shell], Cmd=["echo", "one"])
    two = made.image("two", [shell, top], Cmd=["cat", "/etc/version"], Env=["A=b"])
    other = made.image("", [archive(member("for-arm", b"x"))], architecture="ppc64le")
    made.index("many", {str(OWN): two, "linux/ppc64le": other})
    made.image(
        "plain", [shell], pack=lambda data: data, kind="application/vnd.oci.image.layer.v1.tar"
    )
    made.image("deep", [shell, *[archive(member(f"d{n % 3}/f{n}", b"%d" % n)) for n in range(59)]])
    return made


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Iterator[str]:
    """A plain registry that has them."""
    with registry(tmp_path_factory.mktemp("registry")) as found:
        for name in ("one", "two", "plain", "deep"):
            push_layout(layout, name, f"{found}/t/{name}:1")
        push_layout(layout, "many", f"{found}/t/many:1", "--all")
        yield found


def push_layout(layout: Layout, name: str, target: str, *options: str) -> None:
    flags = ["--dest-tls-verify=false", *options]
    run("skopeo", "copy", "-q", *flags, f"oci:{layout.path}:{name}", f"docker://{target}")


def pull(name: str, settings: Settings = PLAIN, platform: str | None = None) -> Image:
    return image_pulling.pull(name, parse_platform(platform), settings)


def top_of(image: Image) -> pathlib.Path:
    return pathlib.Path(images.prepare(image).layers[0])


# Pulling.


def test_pull_stores_and_unpacks(host: str, data: pathlib.Path) -> None:
    told: list[tuple[str, str, int, int]] = []
    image = image_pulling.pull(f"{host}/t/two:1", OWN, PLAIN, lambda *words: told.append(words))
    assert image.name == f"{host}/t/two:1"
    assert [image.config.env, image.config.command] == [("A=b",), ("cat", "/etc/version")]
    layers = images.prepare(image).layers
    assert len(layers) == 2
    assert pathlib.Path(layers[0], "etc/version").read_text() == "2\n"
    assert {words[1] for words in told} >= {"waiting", "downloading", "unpacking", "done"}
    assert not os.listdir(data / "pulls")
    assert images.check(images.own_store()) == []


def test_pull_again_asks_for_nothing_that_is_there(host: str) -> None:
    pull(f"{host}/t/one:1")
    told: list[str] = []
    image_pulling.pull(f"{host}/t/two:1", OWN, PLAIN, lambda _, what, *__: told.append(what))
    assert "there" in told
    assert told.count("downloading") <= 1 + told.count("done")
    told.clear()
    image_pulling.pull(f"{host}/t/two:1", OWN, PLAIN, lambda _, what, *__: told.append(what))
    assert "downloading" not in told


def test_shared_layers_are_unpacked_once(host: str, data: pathlib.Path) -> None:
    for name in ("one", "two", "plain"):
        pull(f"{host}/t/{name}:1")
    assert len([name for name in os.listdir(data / "layers") if ".json" not in name]) == 2


def test_index_gives_the_platform(host: str) -> None:
    assert top_of(pull(f"{host}/t/many:1")).joinpath("etc/version").exists()
    arm = pull(f"{host}/t/many:1", platform="linux/ppc64le")
    assert arm.platform == "linux/ppc64le"
    assert top_of(arm).joinpath("for-arm").exists()
    with pytest.raises(ImageError, match="nothing for linux/s390x"):
        pull(f"{host}/t/many:1", platform="linux/s390x")


def test_digests_are_kept_to(host: str) -> None:
    image = pull(f"{host}/t/one:1")
    again = pull(f"{host}/t/one@{image.digest}")
    assert again.digest == image.digest
    assert images.find(images.own_store(), f"{host}/t/one@{image.digest}").digest == image.digest
    with pytest.raises(ImageError):
        pull(f"{host}/t/one@sha256:{'0' * 64}")


def test_what_is_not_there_is_told(host: str, data: pathlib.Path) -> None:
    for name in (f"{host}/t/none:1", f"{host}/t/one:none"):
        with pytest.raises(ImageError, match="manifest") as caught:
            pull(name)
        assert caught.value.hint
    with pytest.raises(ImageError, match="refused") as caught:
        pull("127.0.0.1:1/x/y:1")
    assert caught.value.hint == "is the registry running there?"
    assert not (data / "images/index.json").exists() or images.own_store().names() == {}


def test_zstd_layers_are_read(host: str, layout: Layout) -> None:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    kind = "application/vnd.oci.image.layer.v1.tar+zstd"
    frames = lambda raw: zstd.compress(raw[:1000]) + zstd.compress(raw[1000:])  # noqa: E731
    layout.image("zstd", [archive(member("z", b"z" * 5000))], pack=frames, kind=kind)
    push_layout(layout, "zstd", f"{host}/t/zstd:1")
    assert top_of(pull(f"{host}/t/zstd:1")).joinpath("z").read_bytes() == b"z" * 5000


@needs("root")
def test_sixty_layers_run_as_one(host: str) -> None:
    image = pull(f"{host}/t/deep:1")
    root = images.prepare(image)
    assert len(root.layers) == 1
    assert len(list(pathlib.Path(root.layers[0]).glob("d*/f*"))) == 59
    assert images.check(images.own_store()) == []


# The tools of others.


def test_skopeo_and_umoci_use_the_same_store(
    host: str, data: pathlib.Path, folder: pathlib.Path
) -> None:
    image = pull(f"{host}/t/two:1")
    where = f"{data}/images:{image.name}"
    shown = json.loads(run("skopeo", "inspect", f"oci:{where}").stdout)
    assert shown["Digest"] == image.digest
    run(
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        f"docker://{host}/t/one:1",
        f"oci:{data}/images:by/skopeo:1",
    )
    assert images.find(images.own_store(), "by/skopeo:1").config.command == ("echo", "one")
    run("umoci", "tag", "--image", f"{data}/images:{image.name}", "by-umoci")
    assert images.own_store().names()["by-umoci"].digest == image.digest
    assert image.name in run("umoci", "ls", "--layout", f"{data}/images").stdout.decode()
    bundle = folder / "bundle"
    run("umoci", "unpack", "--image", f"{data}/images:by-umoci", bundle)
    mine, theirs = tree(top_of(image)), tree(bundle / "rootfs")
    assert theirs["etc/version"][3] == mine["etc/version"][3]
    assert "etc/passwd" not in theirs


def test_what_is_pushed_others_pull(host: str, folder: pathlib.Path) -> None:
    image = pull(f"{host}/t/two:1")
    target = f"{host}/pushed/two:2"
    assert image_exchange.push(image.name, target, PLAIN) == image.digest
    shown = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{target}").stdout)
    assert shown["Digest"] == image.digest
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{target}", f"dir:{folder}/dir")
    assert image_pulling.pull(f"dir:{folder}/dir", OWN, PLAIN).digest == image.digest


@needs("root", "builders")
def test_podman_and_buildah_images_pull_and_push(host: str, folder: pathlib.Path) -> None:
    places = ["--root", str(folder / "storage"), "--runroot", str(folder / "runroot")]
    places += ["--storage-driver", "vfs"]
    built = run("buildah", *places, "from", "scratch").stdout.decode().strip()
    (folder / "file").write_text("built")
    run("buildah", *places, "copy", built, str(folder / "file"), "/built")
    run("buildah", *places, "config", "--cmd", "/built", "--label", "a=b", built)
    run("buildah", *places, "commit", "-q", built, "localhost/built:1")
    docker = f"docker://{host}/t/built:1"
    for form in ("oci", "v2s2"):
        run(
            "buildah",
            *places,
            "push",
            "-q",
            "--tls-verify=false",
            f"--format={form}",
            "localhost/built:1",
            docker,
        )
        image = pull(f"{host}/t/built:1")
        assert top_of(image).joinpath("built").read_text() == "built"
        assert image.config.labels[0] == ("a", "b") or ("a", "b") in image.config.labels
        image_exchange.push(image.name, f"{host}/t/back:{form}", PLAIN)
        run("podman", *places, "pull", "-q", "--tls-verify=false", f"{host}/t/back:{form}")
    run("buildah", *places, "rm", "-a")


# Transports, archives.


def test_archives_go_out_and_come_back(host: str, folder: pathlib.Path) -> None:
    image = pull(f"{host}/t/two:1")
    for form in ("docker-archive", "oci-archive", "oci", "dir"):
        path = str(folder / form)
        image_exchange.save([image.name], form, path)
        shown = run("skopeo", "inspect", "--raw", f"{form}:{path}")
        assert b"layers" in shown.stdout
        again = image_pulling.pull(f"{form}:{path}", OWN, PLAIN)
        assert again.config.diff_ids == image.config.diff_ids
        assert again.id == image.id


def test_what_skopeo_writes_is_loaded(layout: Layout, folder: pathlib.Path) -> None:
    docker = folder / "d.tar"
    run(
        "skopeo", "copy", "-q", f"oci:{layout.path}:two", f"docker-archive:{docker}:example.com/x:y"
    )
    packed = folder / "d.tar.gz"
    packed.write_bytes(gzip.compress(docker.read_bytes()))
    for path in (docker, packed):
        (loaded,) = image_pulling.load(str(path))
        assert loaded.name == "example.com/x:y"
    (loaded,) = [image for image in image_pulling.load(str(layout.path)) if "one" in image.name]
    assert loaded.config.command == ("echo", "one")


def test_archives_of_strangers_reach_nothing(folder: pathlib.Path) -> None:
    rows = [{"Config": "c.json", "RepoTags": ["a.b/c:d"], "Layers": ["l.tar"]}]
    config = {
        "rootfs": {"diff_ids": ["sha256:" + "0" * 64]},
        "os": "linux",
        "architecture": "amd64",
    }
    secret = link("l.tar", "/etc/passwd")
    bad = {
        "link": archive(
            member("manifest.json", json.dumps(rows).encode()),
            member("c.json", json.dumps(config).encode()),
            secret,
        ),
        "diff": archive(
            member("manifest.json", json.dumps(rows).encode()),
            member("c.json", json.dumps(config).encode()),
            member("l.tar", archive(member("x"))),
        ),
        "empty": archive(),
        "text": b"no archive",
        "rows": archive(member("manifest.json", b"{}")),
        "deep": archive(member("manifest.json", b"[" * 100_000)),
    }
    for name, data in bad.items():
        path = folder / name
        path.write_bytes(data)
        with pytest.raises(ImageError):
            image_pulling.load(str(path))
    assert images.own_store().names() == {}


# TLS and passwords.


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Iterator[tuple[str, str]]:
    """A registry with TLS, and the folder with its certificate."""
    made = certificates(tmp_path_factory.mktemp("certs"))
    keys = f', tls: {{certificate: "{made}/server.pem", key: "{made}/server.key"}}'
    with registry(tmp_path_factory.mktemp("tls"), http=keys) as found:
        push_layout(layout, "one", f"{found}/t/one:1")
        yield found, str(made / "trusted")


def test_certificates_are_checked(
    tls: tuple[str, str], monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    host, trusted = tls
    with pytest.raises(ImageError, match="certificate") as caught:
        pull(f"{host}/t/one:1", Settings())
    assert "certs.d" in caught.value.hint
    assert pull(f"{host}/t/one:1", Settings(cert_dir=trusted)).name
    assert pull(f"{host}/t/one:1", Settings(tls_verify=False)).name
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    (folder / "containers/certs.d" / host).mkdir(parents=True)
    (folder / "containers/certs.d" / host / "ca.crt").write_bytes(
        pathlib.Path(trusted, "ca.crt").read_bytes()
    )
    assert pull(f"{host}/t/one:1", Settings()).name


def test_insecure_is_the_registry_and_not_where_it_sends_one(tls: tuple[str, str]) -> None:
    host, _ = tls
    connection = Connection(host, Settings(), insecure=True)
    connection.request("GET", f"https://{host}/v2/").finish()
    other = host.replace("127.0.0.1", "localhost")
    with pytest.raises(ImageError, match="certificate"):
        connection.request("GET", f"https://{other}/v2/")
    connection.close()


def test_plain_http_is_refused_unless_allowed(host: str, folder: pathlib.Path) -> None:
    with pytest.raises(ImageError) as caught:
        pull(f"{host}/t/one:1", Settings())
    assert "insecure" in caught.value.hint
    conf = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
    (folder / "registries.conf").write_text(conf)
    assert pull(f"{host}/t/one:1", Settings()).name
    mirrored = f'[[registry]]\nprefix = "far.example/x"\nlocation = "127.0.0.1:1/x"\n[[registry.mirror]]\nlocation = "{host}/t"\ninsecure = true\n'
    (folder / "registries.conf").write_text(mirrored)
    assert pull("far.example/x/one:1", Settings()).name == "far.example/x/one:1"


@needs("builders")
def test_a_password_is_asked_for_kept_and_forgotten(layout: Layout, folder: pathlib.Path) -> None:
    users = folder / "users"
    users.write_bytes(run("htpasswd", "-Bbn", "me", "secret").stdout)
    setting = f"auth: {{htpasswd: {{realm: r, path: {users}}}}}\n"
    with registry(folder / "htpasswd", auth=setting) as host:
        with pytest.raises(ImageError, match="wants a password") as caught:
            pull(f"{host}/t/one:1")
        assert f"viscum login {host}" in caught.value.hint
        with pytest.raises(ImageError, match="login"):
            image_exchange.login(host, auth.Credentials("me", "wrong"), PLAIN)
        assert auth.find_credentials(host) is None
        image_exchange.login(host, auth.Credentials("me", "secret"), PLAIN)
        image = image_pulling.pull(f"oci:{layout.path}:one", OWN, PLAIN)
        image_exchange.push(image.name, f"{host}/t/one:1", PLAIN)
        assert pull(f"{host}/t/one:1").digest == image.digest
        auth.forget(auth.auth_file(), host)
        assert pull(f"{host}/t/one:1", Settings(False, None, None, "me:secret")).name
        with pytest.raises(ImageError):
            pull(f"{host}/t/one:1", Settings(False, None, None, "me:wrong"))


class Tokens(Server):
    """A token server as the distribution project describes it, signing by a key of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__()
        self.folder = folder
        self.answers["/token"] = self.give

    def give(self, handler: object) -> tuple[int, dict[str, str], bytes]:
        sent = handler.headers.get("Authorization", "")
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        if sent and sent != "Basic " + base64.b64encode(b"me:secret").decode():
            return 401, {}, b'{"errors":[{"message":"wrong password"}]}'
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = (
                scope.rsplit(":", 2)[0].split(":")[0],
                scope.split(":", 1)[1].rsplit(":", 1)[0],
                scope.rsplit(":", 1)[1],
            )
            allowed = (
                actions.split(",")
                if sent
                else [a for a in actions.split(",") if a == "pull" and name.startswith("open/")]
            )
            access.append({"type": kind, "name": name, "actions": allowed})
        return 200, {}, json.dumps({"token": self.sign(query["service"][0], access)}).encode()

    def sign(self, service: str, access: list[object]) -> str:
        def coded(value: bytes) -> bytes:
            return base64.urlsafe_b64encode(value).rstrip(b"=")

        pem = (self.folder / "server.pem").read_text()
        chain = "".join(pem.split("-----")[2].split())
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        claims = {
            "iss": "us",
            "sub": "me",
            "aud": service,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(now),
            "access": access,
        }
        body = coded(json.dumps(head).encode()) + b"." + coded(json.dumps(claims).encode())
        signed = run("openssl", "dgst", "-sha256", "-sign", self.folder / "server.key", input=body)
        return (body + b"." + coded(signed.stdout)).decode()


def test_tokens_are_fetched_for_what_is_done(layout: Layout, folder: pathlib.Path) -> None:
    made = certificates(folder / "token-certs")
    with Tokens(made) as tokens:
        realm = f"http://{tokens.host}/token"
        setting = f"auth: {{token: {{realm: {realm}, service: reg, issuer: us, rootcertbundle: {made}/server.pem}}}}\n"
        with registry(folder / "token", auth=setting) as host:
            image = image_pulling.pull(f"oci:{layout.path}:one", OWN, PLAIN)
            mine = Settings(False, None, None, "me:secret")
            with pytest.raises(ImageError):
                image_exchange.push(image.name, f"{host}/open/one:1", PLAIN)
            image_exchange.push(image.name, f"{host}/open/one:1", mine)
            image_exchange.push(image.name, f"{host}/shut/one:1", mine)
            assert pull(f"{host}/open/one:1").digest == image.digest
            with pytest.raises(ImageError) as caught:
                pull(f"{host}/shut/one:1")
            assert "viscum login" in caught.value.hint
            assert pull(f"{host}/shut/one:1", mine).digest == image.digest
            with pytest.raises(ImageError, match="wrong password"):
                pull(f"{host}/shut/one:1", Settings(False, None, None, "me:wrong"))
        scopes = {
            urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)["scope"][0]
            for _, path, _ in tokens.asked
            if path.startswith("/token")
        }
        assert "repository:open/one:pull" in scopes
        assert "repository:shut/one:pull,push" in scopes


# Crashes and company.


SLOW = """
import sys, time, os
from viscum import image_exchange, image_pulling, images
from viscum.image.platforms import parse_platform
from viscum.image.transport import Settings
def progress(digest, what, done, size):
    print(what, flush=True)
    time.sleep(0.003)
image_pulling.pull(sys.argv[1], parse_platform(None), Settings(tls_verify=False), progress)
"""


def test_a_pull_that_is_killed_goes_on(host: str, layout: Layout, data: pathlib.Path) -> None:
    """Killed again and again, at moments that differ; what looks whole is, and it ends well."""
    layers = [archive(member(f"f{n}", os.urandom(3 << 20))) for n in range(3)]
    layout.image("big", layers)
    push_layout(layout, "big", f"{host}/t/big:1")
    store = images.Store(str(data))
    partials = 0
    for count in (1, 3, 6, 10, 18, 26, 33):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, f"{host}/t/big:1"], stdout=subprocess.PIPE
        )
        seen = 0
        for line in process.stdout:
            seen += line == b"downloading\n"
            if seen == count:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        if (data / "pulls").is_dir():
            partials += len(list((data / "pulls").glob("sha256-*")))
        if (data / "images/blobs").is_dir():
            for found, file in store.blobs():
                assert digest(pathlib.Path(file.path).read_bytes()) == found
    image = pull(f"{host}/t/big:1")
    assert images.check(images.own_store()) == []
    for number, path in enumerate(reversed(images.prepare(image).layers)):
        name = f"f{number}"
        assert archive(member(name, pathlib.Path(path, name).read_bytes())) == layers[number]
    assert partials


def test_many_processes_pull_the_same(host: str, data: pathlib.Path) -> None:
    names = [f"{host}/t/{name}:1" for name in ("one", "two", "deep", "two")]
    processes = [
        subprocess.Popen(
            [callers.script("viscum"), "pull", "-q", "--tls-verify=false", name],
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]
    collector = subprocess.Popen(
        [callers.script("viscum"), "gc", "--all"], stdout=subprocess.DEVNULL
    )
    assert [process.wait(60) for process in processes] == [0] * len(names)
    assert collector.wait(60) == 0
    assert set(images.own_store().names()) == set(names)
    assert images.check(images.own_store()) == []
    assert not os.listdir(data / "pulls")


def test_threads_pull_at_once(host: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(pull, [f"{host}/t/{n}:1" for n in ("one", "two", "plain") * 2]))
    assert len({image.digest for image in found}) == 3
    assert images.check(images.own_store()) == []


# Keeping.


def test_names_come_and_go(host: str, data: pathlib.Path) -> None:
    store = images.own_store()
    one, two = pull(f"{host}/t/one:1"), pull(f"{host}/t/two:1")
    assert images.tag(store, one.name, "other") == "localhost/other:latest"
    with pytest.raises(ImageError, match="2 names"):
        images.remove(store, one.digest[7:20])
    assert images.remove(store, one.name)[0] == [one.name]
    assert images.find(store, "other").digest == one.digest
    assert images.remove(store, "other")[1] == 0 or True
    assert set(store.names()) == {two.name}
    assert images.remove(store, two.id[7:19])[0] == [two.name]
    assert [name for name in os.listdir(data / "layers") if name[0] != "."] == []
    assert list(store.blobs()) == []
    with pytest.raises(ImageError, match="not in the store"):
        images.remove(store, "other")


@needs("root")
def test_layers_in_use_are_not_collected(host: str, data: pathlib.Path) -> None:
    import viscum

    image = pull(f"{host}/t/two:1")
    with viscum.Machine(image=image.name) as machine:
        images.remove(images.own_store(), image.name)
        assert len([n for n in os.listdir(data / "layers") if ".json" not in n]) == 2
        assert machine.run(["cat", "/etc/version"]).text == "2\n"
    images.collect(images.own_store(), everything=True)
    assert [n for n in os.listdir(data / "layers") if ".json" not in n] == []


def test_damage_is_found_and_repaired(host: str, data: pathlib.Path) -> None:
    image = pull(f"{host}/t/two:1")
    store = images.own_store()
    path = pathlib.Path(store.blob_path(image.manifest.layers[0].digest))
    path.write_bytes(b"x" + path.read_bytes()[1:])
    (data / "layers/sha256-half").mkdir()
    faults = images.check(store)
    assert {fault.digest for fault in faults} == {image.manifest.layers[0].digest, "sha256-half"}
    assert all(fault.repaired for fault in images.check(store, repair=True))
    assert images.check(store) == []
    again = pull(f"{host}/t/two:1")
    assert images.check(store) == [] and again.digest == image.digest


def test_layers_of_another_boot_are_unpacked_again(host: str, data: pathlib.Path) -> None:
    """What was not known to be on disk when the host went down is not believed."""
    image = pull(f"{host}/t/one:1")
    (note,) = (data / "layers").glob("*.json")
    told = json.loads(note.read_text())
    note.write_text(json.dumps({**told, "boot": "another"}))
    shell = top_of(image) / "bin/busybox"
    (data / "layers" / note.stem / "bin/busybox").write_bytes(b"")
    note.write_text(json.dumps({**told, "boot": "another"}))
    assert top_of(image).joinpath("bin/busybox").stat().st_size
    assert shell.exists()


def test_an_archive_of_a_root_is_imported(folder: pathlib.Path) -> None:
    path = folder / "root.tar"
    path.write_bytes(busybox_layer())
    changes = [
        'CMD ["id", "-u"]',
        "ENV A=b C='d e'",
        "USER app",
        "WORKDIR /tmp",
        "LABEL x=y",
        "EXPOSE 80",
    ]
    image = image_exchange.import_file(str(path), "mine:1", changes, "by hand")
    assert image.name == "localhost/mine:1"
    assert image.config.command == ("id", "-u")
    assert image.config.env == ("A=b", "C=d e")
    assert image.config.history[0][2] == "by hand"
    for change in ("RUN x", "", "ENV", "CMD [1]", "LABEL x"):
        with pytest.raises(ImageError):
            image_exchange.import_file(str(path), "mine:2", [change])
    with contextlib.suppress(ImageError):
        images.find(images.own_store(), "mine:2")
        pytest.fail("a failed import left an image")
