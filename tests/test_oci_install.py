"""`viscum oci install`: engines are told of the runtime, and forget it again."""

from __future__ import annotations

import json
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from callers import script
from commands import assert_refused, call
from needs import needs

if TYPE_CHECKING:
    import pathlib

ENGINES = ("containerd", "crio", "podman", "docker")
FILES = {
    "containerd": "etc/containerd/config.toml",
    "crio": "etc/crio/crio.conf.d/50-viscum.conf",
    "podman": "etc/containers/containers.conf.d/50-viscum.conf",
    "docker": "etc/docker/daemon.json",
}


def runtime_in(engine: str, path: pathlib.Path) -> object:
    """Return the path of our runtime as the engine will read it."""
    text = path.read_text()
    if engine == "docker":
        return json.loads(text)["runtimes"]["viscum"]["path"]
    document = tomllib.loads(text)
    if engine == "crio":
        return document["crio"]["runtime"]["runtimes"]["viscum"]["runtime_path"]
    if engine == "podman":
        return document["engine"]["runtimes"]["viscum"][0]
    plugin = (
        "io.containerd.grpc.v1.cri" if document["version"] < 3 else "io.containerd.cri.v1.runtime"
    )
    handler = document["plugins"][plugin]["containerd"]["runtimes"]["viscum"]
    assert handler["runtime_type"] == "io.containerd.runc.v2"
    return handler["options"]["BinaryName"]


@pytest.mark.parametrize("engine", ENGINES)
def test_install_and_uninstall_of_an_engine_without_files(
    tmp_path: pathlib.Path, engine: str
) -> None:
    words = [f"--{engine}", "--root", str(tmp_path), "--yes"]
    done = call("oci", "install", *words)
    assert done.returncode == 0, done.stderr
    path = tmp_path / FILES[engine]
    assert f"+++ {path}" in done.stdout.decode()
    assert runtime_in(engine, path) == script("viscum-oci")
    assert call("oci", "install", *words).stdout == b""
    done = call("oci", "uninstall", *words)
    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert call("oci", "uninstall", *words).stdout == b""


CONTAINERD = {
    2: 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause"\n',
    3: "version = 3\n[plugins.'io.containerd.cri.v1.images']\n  snapshotter = 'native'\n",
}


@pytest.mark.parametrize("version", [2, 3])
def test_containerd_keeps_what_it_has(tmp_path: pathlib.Path, version: int) -> None:
    path = tmp_path / FILES["containerd"]
    path.parent.mkdir(parents=True)
    path.write_text(CONTAINERD[version])
    path.chmod(0o600)
    words = ["--containerd", "--root", str(tmp_path), "--yes"]
    assert call("oci", "install", *words).returncode == 0
    before, after = tomllib.loads(CONTAINERD[version]), tomllib.loads(path.read_text())
    for plugin, settings in before["plugins"].items():
        assert after["plugins"][plugin].items() >= settings.items()
    assert runtime_in("containerd", path) == script("viscum-oci")
    assert path.stat().st_mode & 0o777 == 0o600
    assert call("oci", "uninstall", *words).returncode == 0
    assert path.read_text() == CONTAINERD[version]


def test_containerd_of_an_old_format_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / FILES["containerd"]
    path.parent.mkdir(parents=True)
    path.write_text('[plugins.cri]\n  sandbox_image = "pause"\n')
    done = call("oci", "install", "--containerd", "--root", str(tmp_path), "--yes")
    assert_refused(done)
    assert "BinaryName" not in path.read_text()


@needs("containerd")
def test_containerd_understands_what_is_written(tmp_path: pathlib.Path) -> None:
    call("oci", "install", "--containerd", "--root", str(tmp_path), "--yes")
    words = ["containerd", "--config", str(tmp_path / FILES["containerd"]), "config", "dump"]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert script("viscum-oci") in done.stdout.decode()


def test_docker_keeps_what_it_has(tmp_path: pathlib.Path) -> None:
    path = tmp_path / FILES["docker"]
    path.parent.mkdir(parents=True)
    before = {"log-driver": "journald", "runtimes": {"other": {"path": "/other"}}}
    path.write_text(json.dumps(before))
    words = ["--docker", "--root", str(tmp_path), "--yes"]
    call("oci", "install", *words)
    assert json.loads(path.read_text())["runtimes"]["other"] == {"path": "/other"}
    assert runtime_in("docker", path) == script("viscum-oci")
    call("oci", "uninstall", *words)
    assert json.loads(path.read_text()) == before


def test_nothing_is_written_before_it_is_agreed_to(tmp_path: pathlib.Path) -> None:
    words = ["--podman", "--root", str(tmp_path)]
    done = call("oci", "install", *words, "--dry-run")
    assert done.returncode == 0
    assert b"+[engine.runtimes]" in done.stdout
    done = call("oci", "install", *words)
    assert done.returncode == 125
    assert b"--yes" in done.stderr
    assert not any(tmp_path.iterdir())


def test_files_of_others_are_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / FILES["podman"]
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    assert_refused(call("oci", "install", "--podman", "--root", str(tmp_path), "--yes"))
    assert call("oci", "uninstall", "--podman", "--root", str(tmp_path), "--yes").returncode == 0
    assert path.read_text() == "# mine\n"


def test_engines_of_this_host_are_found(tmp_path: pathlib.Path) -> None:
    assert_refused(call("oci", "install", "--root", str(tmp_path), "--yes"))
    (tmp_path / "etc/crio").mkdir(parents=True)
    (tmp_path / "etc/docker").mkdir()
    assert call("oci", "install", "--root", str(tmp_path), "--yes").returncode == 0
    assert (tmp_path / FILES["crio"]).exists()
    assert (tmp_path / FILES["docker"]).exists()
    assert not (tmp_path / "etc/containerd").exists()


def test_runtime_class_names_the_handler() -> None:
    text = call("oci", "runtimeclass").stdout.decode()
    assert "kind: RuntimeClass" in text
    assert "handler: viscum" in text
