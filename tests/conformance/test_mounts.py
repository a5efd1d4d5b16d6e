"""Mounts with their options, masked and read-only paths, devices."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from needs import needs

from .container import GUARDED, is_unified

if TYPE_CHECKING:
    from .container import Container

pytestmark = needs("root", "busybox")

INFO = "cat /proc/self/mountinfo"


def mounted(text: str, target: str) -> list[str]:
    """Return the fields of the topmost mount at `target`."""
    rows = [line.split() for line in text.splitlines() if line.split()[4:5] == [target]]
    assert rows, text
    return rows[-1]


def options(text: str, target: str) -> set[str]:
    return set(mounted(text, target)[5].split(","))


@pytest.fixture
def source(container: Container) -> pathlib.Path:
    """A folder of the host with a file in it."""
    path = container.folder / "source"
    path.mkdir()
    (path / "file").write_text("content\n")
    return path


def test_bind_of_a_folder(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt/here", "bind", str(source), "bind")
    assert container.output("cat /mnt/here/file; echo new > /mnt/here/new") == "content\n"
    assert (source / "new").read_text() == "new\n"


def test_bind_of_a_file(container: Container, source: pathlib.Path) -> None:
    container.mount("/etc/some/name", "bind", str(source / "file"), "bind")
    assert container.output("cat /etc/some/name") == "content\n"


def test_bind_by_options_alone(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "none", str(source), "rbind")
    assert container.output("cat /mnt/file") == "content\n"


def test_bind_relative_to_the_bundle(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "bind", source.name, "bind")
    assert container.output("cat /mnt/file") == "content\n"


def test_bind_read_only(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "bind", str(source), "bind", "ro")
    assert "refused" in container.output("touch /mnt/x 2>/dev/null || echo refused")
    assert not (source / "x").exists()


@pytest.mark.parametrize("option", ["nosuid", "nodev", "noexec", "noatime", "nodiratime"])
def test_attributes_of_a_bind(container: Container, source: pathlib.Path, option: str) -> None:
    container.mount("/mnt", "bind", str(source), "rbind", option)
    assert option in options(container.output(INFO), "/mnt")


def test_bind_of_what_is_not_there_is_refused(container: Container) -> None:
    container.mount("/mnt", "bind", "/no/such/place", "bind")
    container.refused("/no/such/place")


def test_recursive_bind_shows_mounts_below(container: Container, source: pathlib.Path) -> None:
    below = source / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        (below / "inner").write_text("x")
        container.mount("/mnt/a", "bind", str(source), "rbind")
        container.mount("/mnt/b", "bind", str(source), "bind")
        assert container.output("ls /mnt/a/below /mnt/b/below").split() == [
            "/mnt/a/below:",
            "inner",
            "/mnt/b/below:",
        ]
    finally:
        subprocess.run(["umount", below], check=True)


def test_recursive_read_only(container: Container, source: pathlib.Path) -> None:
    below = source / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        container.mount("/mnt", "bind", str(source), "rbind", "rro")
        text = container.output("touch /mnt/x /mnt/below/y 2>/dev/null; ls /mnt /mnt/below")
        assert "x" not in text.split()
        assert "y" not in text.split()
    finally:
        subprocess.run(["umount", below], check=True)


def test_tmpfs(container: Container) -> None:
    container.mount("/scratch", "tmpfs", "tmpfs", "nosuid", "noexec", "mode=1777", "size=1024k")
    text = container.output(f"{INFO}; stat -c mode=%a /scratch")
    assert {"nosuid", "noexec"} <= options(text, "/scratch")
    assert "size=1024k" in mounted(text, "/scratch")[-1]
    assert "mode=1777" in text


def test_tmpfs_copies_what_it_covers(container: Container) -> None:
    place = container.rootfs / "var/data"
    (place / "deep").mkdir(parents=True)
    (place / "deep/file").write_text("kept\n")
    (place / "deep/file").chmod(0o640)
    (place / "link").symlink_to("deep/file")
    place.chmod(0o750)
    container.mount("/var/data", "tmpfs", "tmpfs", "tmpcopyup")
    text = container.output(
        "cat /var/data/link; stat -c %a /var/data/deep/file /var/data; touch /var/data/new"
    )
    assert text.split() == ["kept", "640", "750"]
    assert not (place / "new").exists()


def test_destination_is_made(container: Container) -> None:
    container.mount("/a/b/c", "tmpfs", "tmpfs")
    assert "/a/b/c" in container.output(INFO)


def test_relative_destination_is_below_the_root(container: Container) -> None:
    container.mount("a/b", "tmpfs", "tmpfs")
    assert " /a/b " in container.output(INFO)


def test_order_of_mounts_is_kept(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "tmpfs", "tmpfs")
    container.mount("/mnt/inner", "bind", str(source), "bind")
    assert container.output("cat /mnt/inner/file") == "content\n"


def test_mountinfo_lists_mounts_in_their_order(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "bind", str(source), "rbind")
    container.mount("/var", "tmpfs", "tmpfs")
    container.mount("/etc/some/name", "bind", str(source / "file"), "bind")
    container.mount("/run", "tmpfs", "tmpfs")
    asked = [mount["destination"] for mount in container.config["mounts"]]
    listed = [line.split()[4] for line in container.output(INFO).splitlines()]
    assert [target for target in listed if target in asked] == asked


def test_mounts_cross_to_and_from_the_host(container: Container, source: pathlib.Path) -> None:
    """And what the container leaves behind as it starts and ends unmounts nothing there."""
    for name in ("below", "inside", "outside"):
        (source / name).mkdir()
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
        container.mount("/mnt", "bind", str(source), "rbind", "rshared")
        container.mount("/slave", "bind", str(source), "rbind", "rslave")
        container.linux["rootfsPropagation"] = "rshared"
        for kind in ("bounding", "permitted", "effective"):
            container.process["capabilities"][kind].append("CAP_SYS_ADMIN")
        container.script(
            "mount -t tmpfs tmpfs /mnt/inside; until test -e /slave/outside/x; do :; done;"
            " test -e /slave/below; test -d /slave/inside"
        )
        container.started()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "outside"], check=True)
        (source / "outside/x").write_text("")
        container.wait("stopped")
        assert container.delete().returncode == 0
        assert all(os.path.ismount(source / name) for name in ("below", "inside", "outside"))
    finally:
        subprocess.run(["umount", "--recursive", source], check=True)


def test_without_a_pivot(container: Container, source: pathlib.Path) -> None:
    container.mount("/mnt", "bind", str(source), "bind")
    container.script("exec sleep 1000")
    container.started("--no-pivot")
    assert container.exec("/bin/cat", "/mnt/file").stdout == b"content\n"
    assert container.exec("/bin/ls", "/").stdout.split() == [
        name.encode() for name in sorted(os.listdir(container.rootfs))
    ]


def test_link_in_a_destination_stays_inside(container: Container, source: pathlib.Path) -> None:
    (container.rootfs / "out").symlink_to("/tmp")
    (container.rootfs / "up").symlink_to("../../../../../../etc")
    container.mount("/out/here", "bind", str(source), "bind")
    container.mount("/up/there", "bind", str(source), "bind")
    assert container.output("cat /tmp/here/file /etc/there/file") == "content\n" * 2
    assert not pathlib.Path("/tmp/here").exists()
    assert not pathlib.Path("/etc/there").exists()


def test_kernel_file_systems(container: Container) -> None:
    container.mount("/dev/mqueue", "mqueue", "mqueue", *GUARDED)
    container.mount("/dev/shm", "tmpfs", "shm", *GUARDED, "mode=1777", "size=65536k")
    text = container.output(INFO)
    kinds = {line.split()[4]: line.split(" - ")[1].split()[0] for line in text.splitlines()}
    assert kinds["/proc"] == "proc"
    assert kinds["/sys"] == "sysfs"
    assert kinds["/dev/pts"] == "devpts"
    assert kinds["/dev/mqueue"] == "mqueue"
    assert "ro" in options(text, "/sys")


@pytest.mark.v2
def test_control_groups_are_the_containers_own(container: Container) -> None:
    container.mount("/sys/fs/cgroup", "cgroup", "cgroup", *GUARDED, "ro")
    container.namespace("cgroup")
    folders = ("", "") if is_unified() else ("/pids", "/memory")
    text = container.output(
        f"cat /sys/fs/cgroup{folders[0]}/cgroup.procs; ls /sys/fs/cgroup{folders[1]};"
        " touch /sys/fs/cgroup/x 2>/dev/null || echo refused"
    )
    assert text.split()[0] == "1"
    assert ("memory.max" if is_unified() else "memory.limit_in_bytes") in text
    assert text.split()[-1] == "refused"


@pytest.mark.parametrize(
    ("option", "tag"), [("rprivate", ""), ("rslave", "master:"), ("rshared", "shared:")]
)
def test_propagation(container: Container, source: pathlib.Path, option: str, tag: str) -> None:
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        container.mount("/mnt", "bind", str(source), "rbind", option)
        if option == "rshared":
            container.linux["rootfsPropagation"] = "rshared"
        fields = mounted(container.output(INFO), "/mnt")
        tags = fields[6 : fields.index("-")]
        assert any(each.startswith(tag) for each in tags) if tag else not tags
    finally:
        subprocess.run(["umount", source], check=True)


@pytest.mark.parametrize(("value", "tag"), [("private", ""), ("shared", "shared:")])
def test_root_propagation(container: Container, value: str, tag: str) -> None:
    container.linux["rootfsPropagation"] = value
    fields = mounted(container.output(INFO), "/")
    tags = fields[6 : fields.index("-")]
    assert any(each.startswith(tag) for each in tags) if tag else not tags


def test_nothing_that_is_mounted_inside_shows_outside(container: Container) -> None:
    container.process["capabilities"] = {
        name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")
    }
    container.output("mount -t tmpfs tmpfs /tmp")
    assert str(container.folder) not in pathlib.Path("/proc/self/mountinfo").read_text()


def test_idmapped_mount(container: Container, source: pathlib.Path) -> None:
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    os.chown(source / "file", 100001, 100002)
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.namespace("user")
    for path in (container.folder, container.rootfs):
        path.chmod(0o755)
    (source / "other").write_text("x")
    back = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    (container.rootfs / "mnt").mkdir()
    container.mount("/mnt", "bind", str(source), "bind", uidMappings=back, gidMappings=back)
    assert container.output("stat -c %u:%g /mnt/other") == "0:0\n"


def test_masked_paths(container: Container) -> None:
    (container.rootfs / "var/folder").mkdir()
    (container.rootfs / "var/folder/secret").write_text("secret")
    (container.rootfs / "var/file").write_text("secret")
    container.linux["maskedPaths"] = ["/var/folder", "/var/file", "/var/nothing"]
    assert (
        container.output(
            "ls /var/folder; cat /var/file; touch /var/folder/x 2>/dev/null || echo ro"
        )
        == "ro\n"
    )


def test_read_only_paths(container: Container) -> None:
    (container.rootfs / "var/folder").mkdir()
    (container.rootfs / "var/file").write_text("text\n")
    container.linux["readonlyPaths"] = ["/var/folder", "/var/file", "/var/nothing"]
    text = container.output(
        "cat /var/file; touch /var/folder/x 2>/dev/null || echo ro; echo >/var/file || echo ro"
    )
    assert text.split() == ["text", "ro", "ro"]


@pytest.mark.v2
def test_extra_devices(container: Container) -> None:
    container.linux["devices"] = [
        {
            "type": "c",
            "path": "/dev/my/null",
            "major": 1,
            "minor": 3,
            "fileMode": 0o646,
            "uid": 5,
            "gid": 6,
        },
        {"type": "p", "path": "/dev/pipe", "fileMode": 0o600},
    ]
    text = container.output(
        "stat -c '%t:%T %a %u:%g' /dev/my/null; test -p /dev/pipe && echo pipe; echo x > /dev/my/null && echo written"
    )
    assert text.splitlines() == ["1:3 646 5:6", "pipe", "written"]


@pytest.mark.v2
def test_devices_that_no_rule_allows_are_refused(container: Container) -> None:
    container.process["capabilities"] = {
        name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")
    }
    disk = os.stat("/").st_dev
    container.linux["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}
    ]
    text = container.output(
        f"cd /tmp; mknod fuse c 10 229; mknod disk b {os.major(disk)} {os.minor(disk)};"
        "mknod zero c 1 5;"
        "dd if=zero count=1 of=/dev/null 2>/dev/null && echo zero;"
        "(: < fuse) && echo fuse; (: < disk) 2>/dev/null || echo no-disk;"
        "(: > fuse) 2>/dev/null || echo not-written"
    )
    assert text.split() == ["zero", "fuse", "no-disk", "not-written"]


def test_mount_without_a_type_is_refused(container: Container) -> None:
    container.config["mounts"].append({"destination": "/mnt"})
    container.refused()
