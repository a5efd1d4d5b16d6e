"""Compile the modules that a launch imports into one file (see `viscum.oci.gathered`).

gather_modules.py OUTPUT
"""

from __future__ import annotations
import __future__

import importlib.machinery
import marshal
import pathlib
import subprocess
import sys

ANNOTATIONS = "from __future__ import annotations\n"
"""Every module begins with it, and would look for a module of that name."""
SOURCE = pathlib.Path(__file__).resolve().parent.parent / "src"
VERBS = {"create": "create", "run": "create", "exec": "execute"}
"""The verbs that start processes, and their modules."""
LATER = [f"viscum.guard.{name}" for name in "bpf policy profile_reader seccomp syscalls".split()]
LATER += [f"viscum.guard.{path.stem}" for path in SOURCE.glob("viscum/guard/syscalls_*.py")]
LATER.append("viscum.drivers.labels")
"""What many configurations need besides: the compiler of filters, and labels."""


def watch(module: str) -> None:
    """Import what the entry does for a verb, and print each module once it is complete."""
    sys.path.insert(0, str(SOURCE))
    loader = importlib.machinery.SourceFileLoader
    execute = loader.exec_module

    def execute_and_print(self: importlib.machinery.SourceFileLoader, loaded: object) -> None:
        execute(self, loaded)
        if loaded.__name__.partition(".")[0] == "viscum":
            print(loaded.__name__)

    loader.exec_module = execute_and_print
    __import__("viscum.oci.main")
    __import__("viscum.oci.words")
    __import__(f"viscum.oci.{module}")


def order_of(module: str) -> list[str]:
    """Return the names of the modules, packages before what is in them."""
    words = [sys.executable, "-IS", __file__, "--watch", module]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def compiled(name: str) -> tuple[str, bool, bytes]:
    """Return where a module is below the folder of packages, whether it is one, and its code."""
    file = SOURCE.joinpath(*name.split("."))
    package = file.is_dir()
    file = file / "__init__.py" if package else file.with_suffix(".py")
    path = str(file.relative_to(SOURCE))
    text = file.read_text().replace(ANNOTATIONS, "\n")
    flags = __future__.annotations.compiler_flag
    code = compile(text, path, "exec", flags=flags, dont_inherit=True, optimize=2)
    return path, package, marshal.dumps(code)


def main() -> None:
    """Write the file."""
    if sys.argv[1] == "--watch":
        watch(sys.argv[2])
        return
    orders = {verb: tuple(order_of(module)) for verb, module in VERBS.items()}
    names = sorted({*LATER, *(name for order in orders.values() for name in order)})
    modules = {name: compiled(name) for name in names}
    loader = compiled("viscum.oci.gathered")[2]
    data = marshal.dumps((loader, modules, orders))
    mark = f"{sys.implementation.cache_tag} {sys.version_info.releaselevel}\n".encode()
    pathlib.Path(sys.argv[1]).write_bytes(mark + data)


main()
