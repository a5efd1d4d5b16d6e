"""Benchmarks of the governor on real machines; `simulate` needs none: see docs/how-to.

.venv/bin/python benchmarks/governor/run.py --only web|memory|reaction|cost --rounds N
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import tempfile

NAMES = {"reaction": 20, "cost": 1, "web": 3, "memory": 3}
"""The benchmarks, and how many rounds each has by default."""


def main():
    """Run what was asked for, with state folders of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="viscum-governor-")
    os.environ.update(VISCUM_RUN=f"{folder}/run", VISCUM_DATA=f"{folder}/data")
    try:
        for name in given.only or NAMES:
            importlib.import_module(name).measure(given.rounds or NAMES[name])
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
