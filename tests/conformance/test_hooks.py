"""Hooks: when they run, what they are given, and what their failure does."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from needs import needs

if TYPE_CHECKING:
    from .container import Container

pytestmark = needs("root", "busybox")

RUNTIME = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")


def hook(container: Container, kind: str, text: str, **more: object) -> None:
    """Add a hook that is a shell script."""
    inside = kind == "startContainer"
    path = "/bin/sh" if inside else "/bin/busybox"
    words = ["sh", "-c", text]
    entry = {"path": path, "args": words, "env": ["PATH=/bin:/usr/bin", "KIND=" + kind], **more}
    container.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)


def seen(container: Container) -> list[str]:
    path = container.folder / "seen"
    return path.read_text().split() if path.exists() else []


def finish(container: Container) -> None:
    container.wait("stopped")
    assert container.delete().returncode == 0


def test_hooks_run_in_their_order(container: Container) -> None:
    for kind in RUNTIME:
        hook(container, kind, f"echo {kind} >> {container.folder}/seen")
    hook(container, "startContainer", "echo inside > /tmp/seen")
    container.process["args"] = ["/bin/sh", "-c", "test -e /tmp/seen"]
    assert container.create().returncode == 0
    assert seen(container) == list(RUNTIME[:3])
    assert container.start().returncode == 0
    assert seen(container) == list(RUNTIME[:4])
    finish(container)
    assert seen(container) == list(RUNTIME)
    assert (container.rootfs / "tmp/seen").read_text() == "inside\n"


def test_several_hooks_of_a_kind_run_in_order(container: Container) -> None:
    for word in ("one", "two", "three"):
        hook(container, "createRuntime", f"echo {word} >> {container.folder}/seen")
    container.create()
    assert seen(container) == ["one", "two", "three"]


@pytest.mark.parametrize("kind", RUNTIME)
def test_hooks_get_the_state(container: Container, kind: str) -> None:
    container.config["annotations"] = {"key": "value"}
    hook(container, kind, f"cat > {container.folder}/state")
    container.started()
    pid = container.pid
    finish(container)
    state = json.loads((container.folder / "state").read_text())
    assert state["id"] == container.id
    assert state["bundle"] == str(container.folder)
    assert state["annotations"] == {"key": "value"}
    assert state["ociVersion"]
    if kind in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == pid
    if kind in ("prestart", "createRuntime", "createContainer"):
        assert state["status"] in ("creating", "created")
    if kind == "poststart":
        assert state["status"] == "running"
    if kind == "poststop":
        assert state["status"] == "stopped"


def test_start_container_hook_gets_the_state(container: Container) -> None:
    hook(container, "startContainer", "cat > /tmp/state")
    container.started()
    finish(container)
    assert json.loads((container.rootfs / "tmp/state").read_text())["id"] == container.id


def test_hooks_get_arguments_and_environment(container: Container) -> None:
    hook(container, "createRuntime", f'echo "$0 $KIND $HOME" > {container.folder}/seen')
    container.config["hooks"]["createRuntime"][0]["args"].append("name")
    container.create()
    assert seen(container) == ["name", "createRuntime"]


def test_create_container_hook_is_in_the_mount_namespace(container: Container) -> None:
    hook(container, "createContainer", f"readlink /proc/self/ns/mnt > {container.folder}/seen")
    container.started()
    import os

    assert seen(container) != [os.readlink("/proc/self/ns/mnt")]


def test_runtime_hook_finds_the_namespaces_made(container: Container) -> None:
    text = f"sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' > {container.folder}/p; readlink /proc/$(cat {container.folder}/p)/ns/net > {container.folder}/seen"
    hook(container, "createRuntime", text)
    container.process["args"] = ["/bin/sleep", "1000"]
    container.started()
    import os

    assert seen(container) == [os.readlink(f"/proc/{container.pid}/ns/net")]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_hooks_find_the_container_where_its_bundle_says(container: Container, kind: str) -> None:
    """As those that bring drivers of graphics cards do: entering the mount namespace."""
    (container.folder / "source").mkdir()
    (container.folder / "source/file").write_text("content\n")
    container.mount("/mnt", "bind", str(container.folder / "source"), "bind")
    enter = "" if kind == "createContainer" else 'nsenter -m/proc/"$pid"/ns/mnt '
    pid = "sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'"
    look = f"cat {container.rootfs}/mnt/file; mount -t tmpfs hook {container.rootfs}/var"
    hook(container, kind, f"exec >{container.folder}/seen; pid=$({pid}); {enter}sh -c '{look}'")
    assert "hook /var tmpfs" in container.output("cat /proc/mounts")
    assert seen(container) == ["content"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_before_the_start_undoes_the_container(container: Container, kind: str) -> None:
    hook(container, kind, "exit 5")
    hook(container, "createRuntime", f"echo ran >> {container.folder}/seen")
    container.refused("hook")


def test_failure_after_the_end_changes_nothing(container: Container) -> None:
    hook(container, "poststop", "exit 5")
    hook(container, "poststop", f"echo ran >> {container.folder}/seen")
    container.started()
    finish(container)
    assert container.call("state", container.id).returncode != 0


def test_failure_of_a_start_container_hook_stops_it(container: Container) -> None:
    hook(container, "startContainer", "exit 5")
    container.script("echo ran > /tmp/ran")
    container.create()
    container.start()
    container.wait("stopped")
    assert not (container.rootfs / "tmp/ran").exists()


def test_hook_that_hangs_is_ended(container: Container) -> None:
    hook(container, "createRuntime", "exec sleep 100", timeout=1)
    begun = time.monotonic()
    container.refused("hook")
    assert time.monotonic() - begun < 20


def test_hook_that_is_not_there_is_an_error(container: Container) -> None:
    container.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    container.refused("/no/such/hook")
