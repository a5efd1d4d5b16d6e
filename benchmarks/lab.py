"""The working folder of a run: a tiny root, the programs in it, and the processes that measure.

Everything is taken away when the `with` block is left, however it is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Self

from workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Failed", "Lab"]

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDERS = "bin dev etc home media mnt opt proc root run srv sys tmp usr/local var/tmp".split()
TRUE = "int main(void) { return 0; }\n"
BUILD_SECONDS = 120
MAX_MESSAGE = 1000


class Failed(Exception):
    """A benchmark could not be made to run."""


class Lab(contextlib.ExitStack):
    """Makes what a run needs and removes it in the end."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.base = tempfile.mkdtemp(prefix="viscum-benchmark-")
        self.callback(shutil.rmtree, self.base, ignore_errors=True)
        os.chmod(self.base, 0o755)  # machines' users walk through it
        self.rootfs = self.folder("rootfs")
        for name in FOLDERS:
            os.makedirs(os.path.join(self.rootfs, name), exist_ok=True)
        os.chmod(os.path.join(self.rootfs, "tmp"), 0o1777)
        self.true = self.static(self.write("true.c", TRUE), "true")
        shutil.copy(self.true, os.path.join(self.rootfs, "bin", "true"))
        return self

    def folder(self, name: str) -> str:
        """Return a folder of that name, made if need be."""
        path = os.path.join(self.base, name)
        os.makedirs(path, exist_ok=True)
        return path

    def write(self, name: str, text: str) -> str:
        """Write a file and return its path."""
        path = os.path.join(self.base, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def compile(self, source: str, output: str, flags: Sequence[str], compiler: str = "cc") -> str:
        """Compile one C file and return the path of the program."""
        argv = [compiler, *flags, source, "-o", output]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if done.returncode:
            raise Failed(f"{' '.join(argv)}\n{done.stderr[:MAX_MESSAGE]}")
        return output

    def static(self, source: str, name: str) -> str:
        """Compile a small static program, of musl where there is one."""
        compiler = "musl-gcc" if shutil.which("musl-gcc") else "cc"
        flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-s"]
        return self.compile(source, os.path.join(self.folder("bin"), name), flags, compiler)

    def start(self, make: Callable[[], Worker]) -> Worker:
        """Start a measuring process that ends with the run."""
        return self.enter_context(make())
