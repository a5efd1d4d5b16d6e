"""`viscum.run`: roots of one's own, well-meant and hostile."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import TIMEOUT
from needs import needs

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


@pytest.fixture
def rootfs(folder: pathlib.Path, probe: pathlib.Path) -> pathlib.Path:
    """A root of our own with nothing but the probe and folders in it."""
    root = folder / "root"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    program = root / "bin" / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    return root


def test_rootfs_is_the_root(caller: Caller, rootfs: pathlib.Path) -> None:
    result = caller.run(["/bin/probe", "ids"], rootfs=str(rootfs), timeout=TIMEOUT)
    assert result.text.startswith("0 0 0 "), result.stderr


def test_rootfs_can_have_volumes(
    caller: Caller, rootfs: pathlib.Path, folder: pathlib.Path
) -> None:
    """Wherever on the host they come from, and wherever in the root they go."""
    volume = folder / "volume"
    volume.mkdir()
    (volume / "there").touch()
    (volume / "there").write_text("x")
    volume.chmod(0o755)
    targets = ["/tmp/x", "/mnt/x", "/new/x", "/etc/x"]
    mounts = [viscum.Mount(str(volume), target, read_only=True) for target in targets]
    mounts.append(viscum.Mount("/usr/bin", "/opt/usr-bin", read_only=True))
    command = ["/bin/probe", "readable", *(f"{target}/there" for target in targets), "/opt/usr-bin"]
    result = caller.run(command, rootfs=str(rootfs), mounts=mounts, timeout=TIMEOUT)
    assert len(result.text.splitlines()) == len(targets) + 1, result


def test_rootfs_is_not_written_to(rootfs: pathlib.Path) -> None:
    before = sorted(rootfs.rglob("*"))
    viscum.run(["/bin/probe", "chroot-escape"], rootfs=str(rootfs), timeout=TIMEOUT)
    viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), hosts={"a": "1.1.1.1"}, dns=["1.1.1.1"])
    assert sorted(rootfs.rglob("*")) == before


def test_rootfs_with_nothing_but_a_command_is_enough(
    folder: pathlib.Path, probe: pathlib.Path
) -> None:
    program = folder / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    assert viscum.run(["/probe", "ids"], rootfs=str(folder), timeout=TIMEOUT).ok


def test_rootfs_users_are_those_of_its_passwd(rootfs: pathlib.Path) -> None:
    (rootfs / "etc" / "passwd").write_text("alice:x:1234:1235::/home/alice:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("team:x:77:alice\n")
    result = viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), user="alice", timeout=TIMEOUT)
    assert result.text.startswith("1234 1234 1234 0")


def test_rootfs_that_is_missing_is_a_clear_error(caller: Caller) -> None:
    with pytest.raises(viscum.SpecError) as caught:
        caller.run(["true"], rootfs="/no/such/root")
    assert "/no/such/root" in str(caught.value)


def test_rootfs_that_is_a_file_is_a_clear_error(caller: Caller) -> None:
    with pytest.raises(viscum.SpecError) as caught:
        caller.run(["true"], rootfs="/etc/passwd")
    assert "not a folder" in str(caught.value)


def test_rootfs_that_cannot_be_read_is_a_clear_error(user: Caller, folder: pathlib.Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    with pytest.raises(viscum.ViscumError) as caught:
        user.run(["/bin/true"], rootfs=str(folder / "closed"))
    assert str(caught.value)


@needs("root")
def test_rootfs_that_was_replaced_is_the_new_one(folder: pathlib.Path, probe: pathlib.Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "probe").write_bytes((probe / "probe").read_bytes())
        (folder / name / "probe").chmod(0o755)
    (folder / "two" / "only-here").write_text("x")
    (folder / "one").rename(folder / "root")
    command = ["/probe", "readable", "/only-here"]
    assert viscum.run(command, rootfs=str(folder / "root"), timeout=TIMEOUT).text == ""
    (folder / "root").rename(folder / "old")
    (folder / "two").rename(folder / "root")
    assert viscum.run(command, rootfs=str(folder / "root"), timeout=TIMEOUT).text == "/only-here\n"


HOSTILE = ["proc", "sys", "dev", "etc", "etc/resolv.conf", "etc/hosts", "etc/hostname", "tmp"]
HOSTILE += ["bin/sub", "etc/passwd", "etc/group"]


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "upwards"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_link_in_a_rootfs_leads_nowhere(
    name: str, relative: bool, rootfs: pathlib.Path, folder: pathlib.Path
) -> None:
    outside = folder / "outside"
    outside.mkdir(mode=0o777)
    (outside / "passwd").write_text("eve:x:0:0::/:/bin/sh\n")
    before = sorted(outside.rglob("*"))
    place = rootfs / name
    if place.is_dir():
        place.rmdir()
    climb = "../" * 12 if relative else "/"
    target = f"{climb.rstrip('/')}{outside}" + ("/file" if "." in name else "")
    place.symlink_to(target)
    options = {"hosts": {"a": "1.1.1.1"}, "dns": ["1.1.1.1"], "hostname": "box", "user": "0"}
    mounts = [
        viscum.Mount("", "/tmp/scratch", kind="tmpfs"),
        viscum.Mount(str(outside), "/bin/sub/x"),
    ]
    try:
        command = ["/bin/probe", "writable", "/outside"]
        result = viscum.run(command, rootfs=str(rootfs), mounts=mounts, **options, timeout=TIMEOUT)
        assert result.ok
    except viscum.ViscumError as error:
        assert str(error)
    assert sorted(outside.rglob("*")) == before
    assert place.is_symlink()


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "long", "binary", "link"])
def test_hostile_user_file_in_a_rootfs_is_survived(
    name: str, kind: str, rootfs: pathlib.Path
) -> None:
    place = rootfs / name
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "long":
        place.write_bytes(b"x:" * (3 << 20))
    elif kind == "binary":
        place.write_bytes(os.urandom(65536) + b"\n:::::::\n")
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(viscum.SpecError):
        viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), user="alice:team", groups=["x"])


@pytest.mark.parametrize(
    "name", ["with space", "ümlaut", "comma,colon:", "new\nline", "-dash", "%s"]
)
def test_folder_with_an_odd_name_can_be_root_and_volume(
    name: str, folder: pathlib.Path, probe: pathlib.Path
) -> None:
    odd = folder / name
    odd.mkdir()
    program = odd / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    result = viscum.run(
        [f"/{name}/probe", "ids"],
        rootfs=str(odd),
        mounts=[viscum.Mount(str(odd), f"/{name}", read_only=True)],
        timeout=TIMEOUT,
    )
    assert result.ok, result.stderr
