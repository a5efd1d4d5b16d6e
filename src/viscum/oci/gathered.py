"""The modules that a launch imports, in one file that is read at once.

`create` and `exec` need about thirty modules. To find, open and check each of them takes longer
than to run them all, so the build (tools/gather_modules.py) compiles them into the file `gathered`
beside this one: a line that names the Python that compiled it, then a marshalled tuple of the code
of this module and what `restore` takes. `native/oci.c` has the code that reads it. Another Python,
or a source that was edited since, makes no use of it and imports as always.
"""

from __future__ import annotations

import sys
from marshal import loads
from os import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Modules = Mapping[str, tuple[str, bool, bytes]]
    Orders = Mapping[str, Sequence[str]]

__all__ = ["restore"]

SETTLED = 60
"""Seconds within which an installation writes all of its files."""


class Gathered:
    """Finds and loads modules (importlib.abc has what these methods are for)."""

    def __init__(self, folder: str, modules: Modules) -> None:
        self.folder = folder
        self.modules = modules
        self.spec_type = type(sys.__spec__)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return how to load a module, None where it is not gathered."""
        if name not in self.modules:
            return None
        file, package, _code = self.modules[name]
        path = f"{self.folder}/{file}"
        spec = self.spec_type(name, self, origin=path, is_package=package)  # type: ignore[arg-type]
        if package:
            spec.submodule_search_locations = [path.rpartition("/")[0]]
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave it to the caller."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module."""
        name = module.__name__
        module.__file__ = f"{self.folder}/{self.modules[name][0]}"
        exec(loads(self.modules[name][2]), module.__dict__)  # noqa: S102, S302 - our own

    def import_all(self, names: Sequence[str]) -> None:
        """Import modules, each after those that it imports: without the search for them."""
        known, module_type = sys.modules, type(sys)
        for name in names:
            spec = self.find_spec(name)
            assert spec is not None  # noqa: S101 - for the type checker; gone in what is gathered
            module = known[name] = module_type(name)
            module.__spec__ = spec
            module.__package__ = spec.parent
            if spec.submodule_search_locations:
                module.__path__ = spec.submodule_search_locations
            parent, _, short = name.rpartition(".")
            if parent:
                setattr(known[parent], short, module)
            self.exec_module(module)


def restore(folder: str, verb: str, made: float, modules: Modules, orders: Orders) -> None:
    """Import the modules of `verb`, and have others of `modules` found when they are wanted.

    `modules` are their files below `folder`, whether they are packages, and their code; `made` is
    when they were written.
    """
    if verb not in orders:
        return
    for file, _, _ in modules.values():
        if stat(f"{folder}/{file}").st_mtime > made + SETTLED:
            return
    gathered = Gathered(folder, modules)
    sys.meta_path.insert(0, gathered)
    gathered.import_all(orders[verb])
