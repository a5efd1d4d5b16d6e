"""The runtime under test. What runc and crun do not pass here is in `known`, and expected of them."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from . import known
from .container import ConsoleSocket, Container, Runtime, runtime_path

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect of another runtime that it fails where it is known to."""
    lacks = known.LACKS.get(os.path.basename(runtime_path()), {})
    for item in items:
        name = getattr(item, "originalname", item.name)
        reason = lacks.get(item.name) or lacks.get(name)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The runtime, with a state folder of its own."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-conformance-"))
    folder.chmod(0o755)
    made = Runtime(runtime_path(), folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """A bundle that is ready to run."""
    return runtime.container()


@pytest.fixture
def console(runtime: Runtime) -> Iterator[ConsoleSocket]:
    """A socket that a terminal can be sent over."""
    made = ConsoleSocket(runtime.folder)
    yield made
    made.close()
