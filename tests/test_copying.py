"""cp, export and diff: the rules of `docker cp`, the ids of the machine, and no way out of it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

import callers
import living
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("userns")


@pytest.fixture
def place(caller: callers.Caller, folder: pathlib.Path) -> Iterator[living.Place]:
    yield from living.places(caller, folder)


@pytest.fixture
def machine(place: living.Place) -> living.Place:
    """A place with a running machine named `m`."""
    place("run", "-d", "--name", "m", "--", "sleep", "600")
    return place


def inside(place: living.Place, text: str) -> str:
    return place("exec", "m", "sh", "-c", text)


def fill(place: living.Place) -> pathlib.Path:
    """Make a folder with a file, a link and a folder, all of the caller."""
    top = place.folder / "src"
    (top / "inner").mkdir(parents=True)
    (top / "file").write_text("content\n")
    (top / "file").chmod(0o640)
    (top / "inner" / "link").symlink_to("../file")
    os.utime(top / "file", (1_600_000_000, 1_600_000_000.25))
    for path in (top, *top.rglob("*")):
        os.chown(path, place.caller.uid, -1, follow_symlinks=False)
    return top


def test_folder_goes_in_and_comes_out_as_it_was(machine: living.Place) -> None:
    fill(machine)
    machine("cp", "src", "m:/root")
    assert inside(machine, "cat /root/src/inner/link") == "content\n"
    assert inside(machine, "stat -c '%u:%g %a %Y' /root/src/file") == "0:0 640 1600000000\n"
    machine("cp", "m:/root/src", "out")
    out = machine.folder / "out"
    assert (out / "file").read_text() == "content\n"
    assert (out / "file").stat().st_mtime == 1_600_000_000.25
    assert (out / "file").stat().st_uid == machine.caller.uid
    assert (out / "file").stat().st_mode & 0o7777 == 0o640
    assert os.readlink(out / "inner" / "link") == "../file"


# Source, what is there at the target, target; where the file is then, or why it is refused.
RULES = {
    "file to nothing": ("src/file", "", "/root/new", "/root/new"),
    "file to a file": ("src/file", "echo old >/root/new", "/root/new", "/root/new"),
    "file into a folder": ("src/file", "mkdir /root/d", "/root/d", "/root/d/file"),
    "file into a folder by slash": ("src/file", "mkdir /root/d", "/root/d/", "/root/d/file"),
    "file by a link to a folder": (
        "src/file",
        "mkdir /root/d; ln -s d /root/l",
        "/root/l",
        "/root/d/file",
    ),
    "file over a link to a file": (
        "src/file",
        "echo old >/root/t; ln -s t /root/l",
        "/root/l",
        "/root/t",
    ),
    "file relative to the root": ("src/file", "", "root/new", "/root/new"),
    "folder to nothing": ("src", "", "/root/new", "/root/new/file"),
    "folder to nothing by slash": ("src", "", "/root/new/", "/root/new/file"),
    "folder into a folder": ("src", "mkdir /root/d", "/root/d", "/root/d/src/file"),
    "contents into a folder": ("src/.", "mkdir /root/d", "/root/d", "/root/d/file"),
    "contents to nothing": ("src/.", "", "/root/new", "/root/new/file"),
    "contents over what is there": (
        "src/.",
        "mkdir -p /root/d/inner; echo x >/root/d/file",
        "/root/d",
        "/root/d/file",
    ),
    "dangling link is replaced": ("src/file", "ln -s nowhere /root/l", "/root/l", "/root/l"),
    "folder over a file": ("src", "echo old >/root/new", "/root/new", "!is a file"),
    "file to a missing folder": ("src/file", "", "/root/none/", "!no such folder"),
    "file below a missing folder": ("src/file", "", "/root/none/new", "!no such folder"),
    "folder below a file": ("src", "echo old >/root/f", "/root/f/new", "!not a directory"),
    "folder where a file stands in it": (
        "src",
        "mkdir -p /root/d/src; echo x >/root/d/src/inner",
        "/root/d",
        "!is no folder",
    ),
    "file where a folder stands": ("src", "mkdir -p /root/d/src/file", "/root/d", "!is a folder"),
    "file over a device": ("src/file", "", "/dev/null", "!neither a file nor a folder"),
}


def test_attributes_of_files_and_folders_go_along(machine: living.Place) -> None:
    top, value = fill(machine), b"\xff\0 binary"
    for path in (top / "file", top / "inner"):
        os.setxattr(path, "user.note", value)
    machine("cp", "src", "m:/root/new")
    machine("cp", "m:/root/new", "back")
    for path in ("back/file", "back/inner"):
        assert os.getxattr(machine.folder / path, "user.note") == value


def test_capabilities_of_files_go_into_machines_and_not_out(machine: living.Place) -> None:
    file, raw = fill(machine) / "file", bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(file, "security.capability", raw)
    machine("cp", "src/file", "m:/root/tool")
    with tarfile.open(fileobj=io.BytesIO(machine.call("cp", "m:/root/tool", "-").stdout)) as tar:
        headers = tar.getmember("tool").pax_headers
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == raw
    machine("cp", "m:/root/tool", "out")
    assert "security.capability" not in os.listxattr(machine.folder / "out")


def test_copies_go_where_docker_puts_them(machine: living.Place) -> None:
    fill(machine)
    for name, (source, before, target, where) in RULES.items():
        inside(machine, f"rm -rf /root/* ; {before}")
        if where[0] == "!":
            assert where[1:] in machine("cp", source, f"m:{target}", code=125), name
        else:
            machine("cp", source, f"m:{target}")
            assert inside(machine, f"cat {where}") == "content\n", name


def test_copies_out_go_where_docker_puts_them(machine: living.Place) -> None:
    inside(machine, "mkdir -p /root/d; echo content >/root/d/f; ln -s d/f /root/l")
    (machine.folder / "there").mkdir()
    os.chown(machine.folder / "there", machine.caller.uid, -1)
    for source, target, where in (
        ("/root/d/f", "new", "new"),
        ("/root/d", "there", "there/d/f"),
        ("/root/d/.", "there", "there/f"),
        ("/root/d/.", "made", "made/f"),
        ("/root/d/f", "there/", "there/f"),
    ):
        machine("cp", f"m:{source}", target)
        assert (machine.folder / where).read_text() == "content\n", where
    machine("cp", "m:/root/l", "link")
    assert os.readlink(machine.folder / "link") == "d/f"
    machine("cp", "-L", "m:/root/l", "followed")
    assert (machine.folder / "followed").read_text() == "content\n"
    assert "no such folder" in machine("cp", "m:/root/d/f", "none/", code=125)
    assert "no such file" in machine("cp", "m:/root/none", "x", code=125)
    assert not (machine.folder / "x").exists()


def test_streams_go_both_ways(machine: living.Place) -> None:
    inside(machine, "mkdir -p /root/d; echo content >/root/d/f")
    stream = machine.call("cp", "m:/root/d", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert tar.getnames() == ["d", "d/f"]
    inside(machine, "mkdir /root/e")
    machine("cp", "-", "m:/root/e", input=stream)
    assert inside(machine, "cat /root/e/d/f") == "content\n"
    packed = subprocess.run(["gzip"], input=stream, stdout=subprocess.PIPE, check=True).stdout
    machine("cp", "-", "m:/tmp", input=packed)
    assert inside(machine, "cat /tmp/d/f") == "content\n"
    for damaged in (b"nonsense", stream[:700], b"\x1f\x8b" + b"x" * 600):
        assert "archive cannot be read" in machine("cp", "-", "m:/tmp", input=damaged, code=125)


def test_owners_are_those_of_the_machine(machine: living.Place) -> None:
    if machine.caller.kind == "one-id":
        return  # nobody but root is in its machines
    inside(machine, "mkdir /root/d; touch /root/d/f; chown 1000:2000 /root/d/f")
    stream = machine.call("cp", "m:/root/d", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        info = tar.getmember("d/f")
        assert (info.uid, info.gid) == (1000, 2000)
    inside(machine, "mkdir /root/e")
    machine("cp", "-", "m:/root/e", input=stream)
    assert inside(machine, "stat -c %u:%g /root/e/d/f") == "1000:2000\n"
    machine("cp", "-a", "m:/root/d/f", "kept")
    is_ = (machine.folder / "kept").stat()
    expected = (1000, 2000) if machine.caller.kind == "root" else (machine.caller.uid, is_.st_gid)
    assert (is_.st_uid, is_.st_gid) == expected
    if machine.caller.kind == "root":
        machine("cp", "-a", "kept", "m:/root/back")
        assert inside(machine, "stat -c %u:%g /root/back") == "1000:2000\n"


def test_volume_takes_copies_and_gives_them(place: living.Place) -> None:
    fill(place)
    place("run", "-d", "--name", "m", "-v", "v:/data", "--", "sleep", "600")
    place("cp", "src/file", "m:/data/f")
    assert inside(place, "stat -c %u /data/f; cat /data/f") == "0\ncontent\n"
    place("cp", "m:/data", "out")
    assert (place.folder / "out" / "f").read_text() == "content\n"


def test_machine_that_does_not_run_is_copied_all_the_same(place: living.Place) -> None:
    fill(place)
    place("create", "--name", "m", "--", "cat", "/opt/src/file")
    place("cp", "src", "m:/opt")
    place("start", "m")
    assert place("wait", "m") == "0\n"
    assert place("logs", "m") == "content\n"
    place("cp", "m:/opt/src/inner", "out")
    assert os.readlink(place.folder / "out" / "link") == "../file"
    assert "A /opt/src" in place("diff", "m").splitlines()
    assert place("ps", "-q") == ""


@pytest.fixture
def rootfs(folder: pathlib.Path) -> pathlib.Path:
    """A small root that has the host's programs mounted."""
    root = folder / "root"
    for name in ("usr", "etc", "opt", "tmp", "proc", "sys", "dev", "mnt"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return root


@pytest.fixture
def small(place: living.Place, rootfs: pathlib.Path) -> living.Place:
    """A place with a running machine in a small root of the caller's."""
    subprocess.run(["chown", "-hR", f"{place.caller.uid}:{place.caller.uid}", rootfs], check=True)
    fill(place)
    words = ["--rootfs", str(rootfs), "-v", "/usr:/usr:ro", "-v", "./src/file:/mnt/file"]
    place("run", "-d", "--name", "m", *words, "--", "sleep", "600")
    return place


def test_export_is_the_root_without_what_is_mounted(small: living.Place) -> None:
    inside(small, "echo kept >/opt/kept; mkfifo /tmp/pipe; ln /opt/kept /opt/second")
    small("export", "-o", "root.tar", "m")
    with tarfile.open(small.folder / "root.tar") as tar:
        names = {member.name.removeprefix("./"): member for member in tar}
        assert tar.extractfile("./opt/kept").read() == b"kept\n"
    assert names["bin"].issym() and names["tmp/pipe"].isfifo()
    assert names["opt/second"].islnk()
    assert names["usr"].isdir() and names["proc"].isdir()
    assert "mnt/file" not in names
    assert not [name for name in names if name.startswith(("proc/", "sys/", "dev/", "usr/"))]
    assert (small.folder / "root.tar").stat().st_uid == small.caller.uid
    streamed = small.call("export", "m").stdout
    assert len(streamed) == (small.folder / "root.tar").stat().st_size
    small("stop", "-t", "0", "m")
    small("export", "-o", "again.tar", "m")
    with tarfile.open(small.folder / "again.tar") as tar:
        assert {member.name.removeprefix("./") for member in tar} == set(names) - {
            name for name in names if name.startswith("tmp/.")
        }


def test_diff_of_a_given_root(small: living.Place) -> None:
    assert small("diff", "m") == ""
    inside(small, "rm -r /opt; echo x >/etc/x")
    assert small("diff", "m") == "C /etc\nA /etc/x\nD /opt\n"


def test_diff_tells_what_was_added_changed_and_deleted(machine: living.Place) -> None:
    assert machine("diff", "m") == ""
    inside(machine, "mkdir /opt/new; touch /opt/new/f; echo x >/tmp/t; rm /opt/new/f")
    # An ordinary user's machine in the host's root has its /tmp in memory.
    kept = "C /tmp\nA /tmp/t\n" if machine.caller.kind == "root" else ""
    assert machine("diff", "m") == f"C /opt\nA /opt/new\n{kept}"
    assert machine("diff", "m", "--format", "{{.Kind}}:{{.Path}}").split()[0] == "C:/opt"


def test_diff_reads_what_its_caller_may_not(machine: living.Place) -> None:
    if machine.caller.kind == "one-id":
        return  # every file is the caller's
    inside(machine, "mkdir /opt/d; touch /opt/d/f; chmod 700 /opt/d; chown -R 1000 /opt/d")
    assert machine("diff", "m") == "C /opt\nA /opt/d\nA /opt/d/f\n"


@pytest.mark.parametrize(
    "words",
    [
        ["cp"],
        ["cp", "a"],
        ["cp", "a", "b"],
        ["cp", "m:/a", "m:/b"],
        ["cp", "m:", "b"],
        ["cp", "", "m:/b"],
        ["cp", "absent:/a", "b"],
        ["cp", "./none", "m:/b"],
        ["cp", "m:/etc/passwd", "/nonexistent/a/b"],
        ["export"],
        ["export", "absent", "-o", "x"],
        ["export", "-o", "/nonexistent/x", "m"],
        ["diff"],
        ["diff", "m", "m"],
        ["diff", "m", "--format", "{{.X"],
    ],
)
def test_senseless_command_is_one_clear_error(
    words: list[str], user: callers.Caller, folder: pathlib.Path
) -> None:
    for place in living.places(user, folder):
        place("create", "--name", "m", "--", "true")
        text = place(*words, code=125)
        assert text.startswith("viscum: ")
        assert not [name for name in os.listdir(folder) if name not in ("data", "run")]


# Ways out of the machine.

FLIP = """
while :; do
  rm -rf /root/a; mkdir /root/a; echo inside >/root/a/secret
  rm -rf /root/a; ln -s {outside} /root/a
done
"""


def test_links_that_change_meanwhile_lead_nowhere(machine: living.Place) -> None:
    """The machine swaps a folder for a link to a folder of the host, while files are copied."""
    outside = machine.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    os.chown(outside, machine.caller.uid, -1)
    fill(machine)
    machine("exec", "-d", "m", "sh", "-c", FLIP.format(outside=outside))
    for number in range(12):
        machine.call("cp", "m:/root/a/secret", f"out-{number}")
        machine.call("cp", "m:/root/a", f"tree-{number}")
        machine.call("cp", "src/file", "m:/root/a/planted")
        machine.call("cp", "src/.", "m:/root/a")
    assert os.listdir(outside) == ["secret"]
    for path in machine.folder.glob("out-*"):
        assert path.read_text() in ("inside\n", "")
    trees = [path for path in machine.folder.glob("tree-*") if not path.is_symlink()]
    for path in (path for tree in trees for path in tree.rglob("secret")):
        assert path.read_text() in ("inside\n", "")


def test_links_of_a_machine_end_at_its_root(machine: living.Place) -> None:
    outside = machine.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    os.chown(outside, machine.caller.uid, -1)
    (machine.folder / "file").write_text("x")
    targets = [outside, f"/proc/1/root{outside}", f"/proc/self/root{outside}"]
    targets += [f"/proc/self/cwd{outside}", "/proc/self/fd/3", "../" * 30 + str(outside)[1:]]
    for target in targets:
        inside(machine, f"ln -sfn {target} /root/l")
        machine("cp", "m:/root/l/secret", "out", code=125)
        machine("cp", "-L", "m:/root/l", "out", code=125)
        machine("cp", "file", "m:/root/l/planted", code=125)
        machine.call("cp", "m:/root/l/", "out")
    assert os.listdir(outside) == ["secret"]
    assert not (machine.folder / "out").exists()


def test_files_that_never_end_or_begin_are_no_trouble(machine: living.Place) -> None:
    inside(
        machine, "mkdir /root/d; mkfifo /root/d/pipe; echo x >/root/d/f; truncate -s 1M /root/d/z"
    )
    machine("cp", "m:/root/d", "out")
    assert (machine.folder / "out" / "pipe").is_fifo()
    assert (machine.folder / "out" / "z").stat().st_size == 1 << 20
    inside(machine, "mkfifo /root/p; ln -s /root/p /root/q")
    fill(machine)
    assert "neither a file nor a folder" in machine("cp", "src/file", "m:/root/q", code=125)


def test_setuid_of_a_machine_is_none_on_the_host(machine: living.Place) -> None:
    inside(machine, "cp /bin/true /root/t; chmod 6755 /root/t")
    machine("cp", "-a", "m:/root/t", "t")
    assert (machine.folder / "t").stat().st_mode & 0o7777 == 0o755


def test_growing_files_are_copied_to_the_size_they_had(machine: living.Place) -> None:
    machine(
        "exec", "-d", "m", "sh", "-c",
        "while :; do echo line >>/root/log; : >/root/short; head -c 300000 /dev/zero >/root/short; done",
    )  # fmt: skip
    for number in range(5):
        machine.call("cp", "m:/root", f"out-{number}")
        stream = machine.call("cp", "m:/root", "-").stdout
        with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
            assert {member.name for member in tar} <= {"root", "root/log", "root/short"}


def test_machine_that_ends_meanwhile_is_one_clear_error(machine: living.Place) -> None:
    def end() -> None:
        machine.call("rm", "-f", "m")

    thread = threading.Thread(target=end)
    thread.start()
    done = machine.call("cp", "m:/usr/share/doc", "-")
    thread.join()
    text = done.stderr.decode()
    assert "Traceback" not in text
    assert done.returncode in (0, 125), text


def test_machine_of_another_pid_namespace_is_left_alone(machine: living.Place) -> None:
    """Its layer is in use, by processes that cannot be seen from here."""
    (path,) = (machine.data / "machines").glob("*/status.json")
    text = path.read_text()
    changed = json.loads(text) | {"pidns": 1}
    path.write_text(json.dumps(changed))
    try:
        assert "runs in another pid namespace" in machine("cp", "m:/etc/passwd", "x", code=125)
        assert "runs in another pid namespace" in machine("export", "m", code=125)
    finally:
        path.write_text(text)


@needs("root", "freezer")
def test_paused_machine_can_be_copied_from(folder: pathlib.Path) -> None:
    for place in living.places(callers.make_caller("root"), folder):
        place("run", "-d", "--name", "m", "--", "sleep", "600")
        place("pause", "m")
        place("cp", "m:/etc/hostname", "name")
        assert (folder / "name").read_text() == "viscum\n"
        place("unpause", "m")
