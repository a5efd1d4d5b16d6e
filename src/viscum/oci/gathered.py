"""The modules that a launch imports, in one file that is read at once.

`create` and `exec` need about thirty modules. To find, open and check each of them takes longer
than to run them all, so the build (tools/gather_modules.py) compiles them into the file `gathered`
beside this one: the magic number of the Python that compiled it, then a marshalled pair of the
code of this module and what `restore` takes. `native/oci.c` has the code that reads it. Another
Python, or a source that was edited since, makes no use of it and imports as always.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Modules = Mapping[str, tuple[str, bool, bytes]]
    Orders = Mapping[str, Sequence[str]]

__all__ = ["restore"]

SETTLED = 60
"""Seconds within which an installation writes all of its files."""


def restore(folder: str, verb: str, made: float, modules: Modules, orders: Orders) -> None:
    """Have the modules of `verb` imported, each after those that it imports itself.

    `modules` are their files below `folder`, whether they are packages, and their code; `made` is
    when they were written.
    """
    from marshal import loads
    from os import stat

    names = orders.get(verb, ())
    for name in names:
        if stat(f"{folder}/{modules[name][0]}").st_mtime > made + SETTLED:
            return
    known, module_type, spec_type = sys.modules, type(sys), type(sys.__spec__)
    for name in names:
        file, package, code = modules[name]
        path = f"{folder}/{file}"
        module = known[name] = module_type(name)
        spec = module.__spec__ = spec_type(name, None, origin=path, is_package=package)
        module.__file__ = path
        module.__package__ = spec.parent
        if package:
            module.__path__ = spec.submodule_search_locations = [path.rpartition("/")[0]]
        parent, _, short = name.rpartition(".")
        if parent:
            setattr(known[parent], short, module)
        exec(loads(code), module.__dict__)  # noqa: S102, S302 - our own, installed beside it
