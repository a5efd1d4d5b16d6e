"""Files of TOML that configure a host, as they were when they were read last: to import the reader
of TOML and to read a list of aliases takes a third of a pull of what is there already.
"""

from __future__ import annotations

import os
import time

from ..compact_json import dumps, loads
from ..errors import ImageError, ViscumError
from ..keeping import keep_file
from ..places import data_folder, make_folder

__all__ = ["read_toml"]

MAX_FILE = 1 << 20
MAX_KEPT = 64
SETTLED_SECONDS = 0.05
"""A file that changed just now could change again without its times being others."""
FOLDER = "configuration"


def read_toml(path: str) -> dict[str, object]:
    """Return the table in a file; raises ImageError where it has none."""
    try:
        with open(path, "rb") as file:
            is_ = os.fstat(file.fileno())
            identity = [is_.st_dev, is_.st_ino, is_.st_size, is_.st_mtime_ns, is_.st_ctime_ns]
            table = _recall(path, identity)
            if table is None:
                table = _parse(file.read(MAX_FILE + 1), path)
                if is_.st_ctime_ns < (time.time() - SETTLED_SECONDS) * 1e9:
                    _keep(path, identity, table)
            return table
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None


def _parse(data: bytes, path: str) -> dict[str, object]:
    import tomllib

    if len(data) > MAX_FILE:
        raise ImageError(f"{path}: more than {MAX_FILE} bytes")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path} is no usable TOML: {error}") from None


def _kept(path: str) -> str:
    return f"{data_folder()}/{FOLDER}/{path.replace('%', '%25').replace('/', '%2F')}"


def _recall(path: str, identity: list[int]) -> dict[str, object] | None:
    try:
        with open(_kept(path), "rb") as file:
            known, table = loads(file.read())
    except (OSError, ValueError, TypeError):
        return None
    return table if known == identity and isinstance(table, dict) else None


def _keep(path: str, identity: list[int], table: dict[str, object]) -> None:
    try:
        make_folder(data_folder(), FOLDER)
        keep_file(_kept(path), dumps([identity, table]).encode(), MAX_KEPT)
    except (OSError, ViscumError, TypeError):
        return  # only the next time would have been faster
