"""Print where the static library of this Python, its headers and its `_json` are, a line each.

Nothing where one of them is missing, or where `_json` is built in.
"""

from __future__ import annotations

import _json
import os
import sysconfig

library = os.path.join(
    sysconfig.get_config_var("LIBPL") or "", sysconfig.get_config_var("LIBRARY") or ""
)
headers = sysconfig.get_config_var("INCLUDEPY") or ""
scanner = getattr(_json, "__file__", "")
if os.path.isfile(library) and os.path.isfile(f"{headers}/Python.h") and scanner:
    print(library, headers, scanner, sep="\n")
