"""What a machine changed, as the upper layer of its overlay tells it."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from needs import needs
from viscum.layer import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOWER = {
    "etc/passwd": "root",
    "etc/keep": "kept",
    "usr/bin/tool": "#!",
    "var/log/a": "a",
    "var/log/b": "b",
}


def told(upper: pathlib.Path, lower: pathlib.Path | None = None, **options: object) -> list[str]:
    fds = [os.open(path, os.O_RDONLY) for path in (upper, lower) if path is not None]
    try:
        return [f"{change.kind} {change.path}" for change in changes(*fds, **options)]
    finally:
        for fd in fds:
            os.close(fd)


def fill(top: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


SCRIPT = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3$4" "$5"
cd "$5"
echo changed > etc/passwd
rm usr/bin/tool
mkdir opt && echo new > opt/file
rm -r var/log && mkdir var/log && echo new > var/log/c
ln -s /etc/shadow link
"""
CHANGED = [
    "C /etc",
    "C /etc/passwd",
    "A /link",
    "A /opt",
    "A /opt/file",
    "C /usr",
    "C /usr/bin",
    "D /usr/bin/tool",
    "C /var",
    "C /var/log",
    "D /var/log/a",
    "D /var/log/b",
    "A /var/log/c",
]


@needs("root", "namespace-tools")
@pytest.mark.parametrize("userns", [False, True])
def test_changes_of_a_real_overlay(folder: pathlib.Path, userns: bool) -> None:
    """Whiteouts and opaque folders as this kernel writes them, for root and for user namespaces."""
    lower = fill(folder / "lower", LOWER)
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir()
    words = ["unshare", "--mount", *(["--user", "--map-root-user"] if userns else [])]
    options = ",userxattr" if userns else ""
    paths = [str(folder / name) for name in ("lower", "upper", "work")]
    words += ["sh", "-c", SCRIPT, "sh", *paths, options, str(folder / "merged")]
    subprocess.run(words, check=True, timeout=30)
    assert told(folder / "upper", lower) == CHANGED
    shutil.rmtree(folder / "upper")


def whiteout_device(path: pathlib.Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def whiteout_attribute(path: pathlib.Path) -> None:
    path.write_bytes(b"")
    os.setxattr(path, "user.overlay.whiteout", b"")
    os.setxattr(path.parent, "user.overlay.opaque", b"x")


@pytest.mark.parametrize(
    "hide", [pytest.param(whiteout_device, marks=needs("root")), whiteout_attribute]
)
def test_whiteouts_of_both_forms(
    tmp_path: pathlib.Path, hide: Callable[[pathlib.Path], None]
) -> None:
    lower = fill(tmp_path / "lower", {"a/b": "b", "a/c": "c"})
    (tmp_path / "upper" / "a").mkdir(parents=True)
    hide(tmp_path / "upper" / "a" / "b")
    hide(tmp_path / "upper" / "a" / "never-there")
    assert told(tmp_path / "upper", lower) == ["C /a", "D /a/b"]


def test_empty_file_is_no_whiteout(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "upper", {"a": ""})
    assert told(tmp_path / "upper") == ["A /a"]


def test_own_entries_count_only_with_what_is_below(tmp_path: pathlib.Path) -> None:
    lower = fill(tmp_path / "lower", {"etc/hosts": "x", "tmp/old": "x", "usr/local/x": "x"})
    upper = fill(tmp_path / "upper", {"etc/hosts": "own", "etc/new": "x", "usr/local/y": "y"})
    (upper / "tmp").mkdir()
    os.setxattr(upper / "tmp", "user.overlay.opaque", b"y")
    (upper / "var").mkdir()
    own = {"etc", "etc/hosts", "tmp", "usr", "usr/local", "var"}
    expected = ["C /etc", "A /etc/new", "C /usr", "C /usr/local", "A /usr/local/y"]
    assert told(upper, lower, own=own) == expected


def test_links_in_a_layer_lead_nowhere(tmp_path: pathlib.Path) -> None:
    outside = fill(tmp_path / "outside", {"secret": "x"})
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "link").symlink_to(outside)
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "a").symlink_to(outside)
    (tmp_path / "upper" / "a").mkdir()
    assert told(tmp_path / "upper", lower) == ["C /a", "A /link"]


@pytest.fixture
def deep(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder within 400 folders with long names: past what a path or a process can hold."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d" * 100, dir_fd=fd)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path / ("d" * 100)], check=True, timeout=60)


def test_layer_deeper_than_a_path_can_be_is_read(deep: pathlib.Path) -> None:
    found = told(deep)
    assert len(found) == 400
    assert len(found[-1]) > 40_000
