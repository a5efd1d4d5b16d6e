"""State folders of machines: who has which name, and what runs.

`<base>/machines/<id>/state.json` is written by rename; `<base>/names/<name>` is a symbolic link
to the id, so that taking a name is one atomic call. An entry whose owner is gone is removed by
whoever comes upon it.
"""

from __future__ import annotations

import os

from .errors import MachineError, ViscumError
from .places import make_folder, run_folder
from .spec import check_name
from .sweep import is_orphan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["entry", "make_base", "sweep_entries"]


def make_base() -> str:
    """Return the state folder, made where it is missing; raises ViscumError."""
    hint = "make it writable, or set XDG_RUNTIME_DIR"
    return make_folder(run_folder(), "machines", "names", hint=hint)


def _remove(folder: str, machine_id: str) -> None:
    path = f"{folder}/machines/{machine_id}"
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except OSError:
        return


def sweep_entries() -> None:
    """Remove the entries of machines whose owner is gone, and names that lead nowhere."""
    folder = run_folder()
    try:
        machines, names = os.listdir(folder + "/machines"), os.listdir(folder + "/names")
    except OSError:
        return
    for machine_id in machines:
        if is_orphan(machine_id):
            _remove(folder, machine_id)
    for name in names:
        link = f"{folder}/names/{name}"
        try:
            if is_orphan(os.readlink(link)):
                os.unlink(link)
        except OSError:
            continue


def _take_name(folder: str, name: str, machine_id: str) -> None:
    link = f"{folder}/names/{name}"
    try:
        os.symlink(machine_id, link)
    except FileExistsError:
        raise MachineError(
            f"a machine named {name!r} runs already", hint="choose another --name, or end it"
        ) from None
    except OSError as error:
        raise ViscumError(f"cannot write {link!r}: {(error.strerror or '').lower()}") from None


class entry:  # noqa: N801 - a context manager, used as a function
    """Keep the entry of a machine while it runs."""

    def __init__(
        self, machine_id: str, name: str | None, command: Sequence[str], labels: Sequence[str]
    ) -> None:
        self.id = machine_id
        self.name = None if name is None else check_name(name)
        self.command = command
        self.labels = labels
        self.folder = ""

    def __enter__(self) -> None:
        if self.name is None and not self.labels:
            sweep_entries()
            return
        folder = make_base()
        sweep_entries()
        if self.name is not None:
            _take_name(folder, self.name, self.id)
        self.folder = folder
        try:
            self._write()
        except OSError as error:
            self.__exit__()
            raise ViscumError(
                f"cannot write the state of {self.id}: {(error.strerror or '').lower()}"
            ) from None

    def _write(self) -> None:
        import json

        path = f"{self.folder}/machines/{self.id}"
        os.mkdir(path, 0o700)
        record = {
            "version": 1,
            "id": self.id,
            "name": self.name,
            "command": list(self.command),
            "labels": dict(label.partition("=")[::2] for label in self.labels),
        }
        with open(path + "/state.json.new", "x", encoding="utf-8") as file:
            json.dump(record, file)
        os.rename(path + "/state.json.new", path + "/state.json")

    def __exit__(self, *_exception: object) -> None:
        if not self.folder:
            return
        _remove(self.folder, self.id)
        if self.name is not None:
            os.unlink(f"{self.folder}/names/{self.name}")
